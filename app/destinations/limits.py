"""How much a destination takes, as data: what fits into one request, and how many requests in how long. From its own documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def narrowed(self, people: int | None, requests_per_second: float | None) -> Limits:
        """These limits, and what the settings say; a setting above them changes nothing."""
        windows = self.windows
        if requests_per_second is not None:
            amount = max(1, int(requests_per_second))
            windows = (*windows, Window(amount, amount / requests_per_second))
        return replace(self, people=min(self.people, people or self.people), windows=windows)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a destination says in a response's headers about the time until it counts anew."""

    #: Requests that are left until then.
    remaining: int
    resets_in_ms: int
