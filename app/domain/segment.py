"""A segment: the people whose profile fulfils a condition, as in ``attributes.plan == "gold" and cart_size > 0``. Pure.

The language is that of app/expressions.py. ``attributes.x`` is the profile's own value of x, a text, a number or a flag, null where it has
none or it was cleared.
"""

from __future__ import annotations

from typing import Any

from app.expressions import Expression, compile_expression
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Profile

#: Each name and its type. ``seen`` are the products of the last 200 interactions, ``denied`` the purposes that consent was denied to.
SEGMENT_NAMES = {
    "user_id": "string",
    "event_count": "number",
    "days_since_first_event": "number",
    "days_since_last_event": "number",
    "cart": "strings",
    "cart_size": "number",
    "seen": "strings",
    "bought": "strings",
    "emails_opened": "number",
    "emails_clicked": "number",
    "denied": "strings",
}
_DAY_MS = 86_400_000


class Segment:
    """A condition that was found to be well-formed."""

    def __init__(self, text: str, now_ms: int) -> None:
        """``now_ms``: what "since" counts back from. Raises WrongExpressionError, which names the part that is wrong."""
        self._expression: Expression = compile_expression(text, SEGMENT_NAMES, attributes_have_many_values=False)
        self._now_ms = now_ms

    def holds(self, profile: Profile) -> bool | None:
        """Whether the person belongs to it; None where it cannot be said: a number is compared with a text, or with what is not there."""
        names: dict[str, Any] = {
            "user_id": profile.user_id,
            "event_count": profile.event_count,
            "days_since_first_event": (self._now_ms - profile.first_event_at_ms) / _DAY_MS,
            "days_since_last_event": (self._now_ms - profile.last_event_at_ms) / _DAY_MS,
            "cart": tuple(line.product_id for line in profile.cart),
            "cart_size": len(profile.cart),
            "seen": tuple(profile.history.product_ids),
            "bought": tuple(profile.purchases.product_ids),
            "emails_opened": profile.email.opened_count,
            "emails_clicked": profile.email.clicked_count,
            "denied": tuple(c.purpose for c in profile.consents if c.state == ConsentState.CONSENT_STATE_DENIED),
        }
        attributes = {one.name: getattr(one, kind) for one in profile.attributes if (kind := one.WhichOneof("value"))}
        return self._expression.holds(names, attributes)
