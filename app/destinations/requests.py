"""What goes to a destination and what comes back, as plain data: a person to tell about, their part of a request, the HTTP request, the
HTTP response. Named tuples, for one of each is made for every delivery, and a frozen dataclass takes three times as long to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Literal, NamedTuple

from app.domain.catalog import NO_CATALOG, Catalog
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate


class Rendered(NamedTuple):
    """A person as they are now: the list they would see, the profile that it was ranked from, and what the shop says of its products."""

    update: RecommendationUpdate
    profile: Profile
    catalog: Catalog = NO_CATALOG


class Part(NamedTuple):
    """One person's part of a request, encoded for one destination."""

    user_id: str
    version: int
    #: Of what is said, without version and times: equal digests say the same. Never 0.
    digest: int
    #: What stands for the person in the request's body.
    body: bytes
    #: By what the destination calls the person, and names them in its answers.
    identity: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: of HMAC-SHA256 (``v1``), or the 32 bytes of an ed25519 seed (``v1a``)."""

    scheme: Literal["v1", "v1a"]
    key: bytes = field(repr=False)


class Request(NamedTuple):
    """One HTTP request. It is the same however often it is sent: the time of sending and the signature are added by app/delivery."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: Headers with credentials in them: sent like the others, never shown.
    secret_headers: Mapping[str, str] = MappingProxyType({})
    #: The keys of a Standard Webhooks signature, if the request is to carry one; ``webhook-id`` must then be among the headers.
    sign_with: tuple[SigningKey, ...] = ()

    def __repr__(self) -> str:
        return f"Request(method={self.method!r}, url={self.url!r}, headers={self.headers!r}, body={self.body!r})"


class Response(NamedTuple):
    """One HTTP response: header names in lower case, the body cut at the client's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at_ms: int


def digest_of(*parts: bytes) -> int:
    """64 bits over the parts, each apart from the next; never 0, which means that nothing was confirmed yet."""
    hash_ = blake2b(digest_size=8)
    for part in parts:
        hash_.update(len(part).to_bytes(4, "little"))
        hash_.update(part)
    return int.from_bytes(hash_.digest(), "little") or 1
