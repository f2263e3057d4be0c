"""By what a platform knows a person: Tidings' user id, or the e-mail address. Never both, so that the two cannot disagree there."""

from __future__ import annotations

from typing import Literal

from app.destinations.encoding import email_of
from app.destinations.outcomes import Rejected
from app.destinations.requests import Rendered
from tidings.state.v1 import outbox_pb2

IdentifyBy = Literal["user_id", "email"]


def identity_of(rendered: Rendered, identify_by: IdentifyBy, email_attribute: str, max_id_bytes: int) -> str | Rejected:
    """The user id if it fits into what the platform takes, or the address in lower case."""
    if identify_by == "email":
        return email_of(rendered, email_attribute)
    user_id = rendered.update.user_id
    if len(user_id.encode()) > max_id_bytes:
        return Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, f"the user id is longer than {max_id_bytes} bytes")
    return user_id
