"""How much a destination takes, as data: what fits into one request, and how many requests in how long. From its own documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``amount`` requests, or people in requests, in ``seconds``, over the whole fleet.

    ``fixed``: the destination counts anew at each full multiple of ``seconds``; ``rolling``: it looks back from each request.
    """

    amount: int
    seconds: float
    counts: Literal["requests", "people"] = "requests"
    kind: Literal["fixed", "rolling"] = "rolling"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one destination takes."""

    #: Requests on the wire at once: from one worker, or, if ``is_shared``, from the whole fleet.
    concurrency: int
    is_shared: bool = False
    #: People in one request, and bytes of its body.
    people: int = 1
    body_bytes: int = 20_000
    windows: tuple[Window, ...] = ()
    #: Bytes of an answer that are read: room for one line on each person.
    response_bytes: int = 16_384


@dataclass(frozen=True, slots=True)
class Quota:
    """What a destination says in a response's headers about the time until it counts anew."""

    #: Requests that are left until then.
    remaining: int
    resets_in_ms: int
