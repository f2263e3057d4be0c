"""What goes to a destination and what comes back, as plain data: a person to tell about, the HTTP request, the HTTP response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.catalog import NO_CATALOG, Catalog
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate


@dataclass(frozen=True, slots=True)
class Rendered:
    """A person as they are now: the list they would see, the profile that it was ranked from, and what the shop says of its products."""

    update: RecommendationUpdate
    profile: Profile
    catalog: Catalog = NO_CATALOG


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. It is the same however often it is sent: the time of sending and the signature are added by app/delivery."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: The key of a Standard Webhooks signature, if the request is to carry one; ``webhook-id`` must then be among the headers.
    sign_with: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response: header names in lower case, the body cut at the client's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at_ms: int
