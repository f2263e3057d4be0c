"""How old an answer may be and how old it is: what a client asks for, what the headers say, and what is refused.

A copy of a partition is behind its log by so many records, and was current at some moment. The owner's answer is never held against
anything but the client's own wish; a standby's must not be older than a minute, whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from app.streams.location import Freshness
from app.web.problems import FieldError, Problem, Refusal, try_again
from app.web.representations import iso_time

#: Of an answer that does not come from the owner, unless the client says otherwise.
STANDBY_STALENESS_MS = 60_000
#: A day: what a client may say at most.
MAX_STALENESS_MS = 86_400_000
#: How long an answer waits for the client's own event to be applied.
OWN_WRITE_SECONDS = 1.0
_POSITION = re.compile(r"([0-9]{1,6})/([0-9]{1,18})")

SOURCE_OFFSET, CURRENT_TO, LAG, SERVED_BY = "Tidings-Source-Offset", "Tidings-Current-To", "Tidings-Lag", "Tidings-Served-By"
HEADERS = (SOURCE_OFFSET, CURRENT_TO, LAG, SERVED_BY)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks of an answer."""

    max_staleness_ms: int | None = None
    #: The place of an event that must be in it: partition, offset.
    after: tuple[int, int] | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wish:
        """Raises Refusal if a parameter is wrong."""
        staleness, after = query.get("max_staleness_ms"), query.get("after")
        if staleness is not None and not (
            staleness.isascii() and staleness.isdigit() and len(staleness) <= 8 and int(staleness) <= MAX_STALENESS_MS
        ):
            raise _wrong("max_staleness_ms", f"must be a whole number from 0 to {MAX_STALENESS_MS}")
        place = None
        if after is not None and (place := _POSITION.fullmatch(after)) is None:
            raise _wrong("after", "must be partition/offset, as POST /v1/events answered: 3/1041")
        return cls(
            None if staleness is None else int(staleness), None if place is None else (int(place[1]), int(place[2]))
        )  # fmt: skip

    def check_partition(self, partition: int) -> None:
        """Raises Refusal if the event cannot be this user's."""
        if self.after is not None and self.after[0] != partition:
            raise _wrong("after", f"is a place in partition {self.after[0]}, and this user's events are in partition {partition}")


def staleness_ms(freshness: Freshness, now_ms: int) -> int | None:
    """How old the copy may be; None: nothing is known."""
    return None if freshness.current_to_ms is None else max(0, now_ms - freshness.current_to_ms)


def too_stale(freshness: Freshness, wish: Wish, now_ms: int) -> Problem | None:
    """Why this copy may not answer; None: it may."""
    most = wish.max_staleness_ms
    if most is None:
        if freshness.is_active:
            return None
        most = STANDBY_STALENESS_MS
    age = staleness_ms(freshness, now_ms)
    if age is not None and age <= most:
        return None
    whose = "the owner" if freshness.is_active else "a standby"
    is_behind = "its log's end is not known" if freshness.lag is None else f"{freshness.lag} records behind its log"
    known = "is of unknown age" if age is None else f"may be {age} ms old"
    return try_again("too-stale", f"what {whose} has {known} ({is_behind}), and at most {most} ms are allowed")


def headers_of(freshness: Freshness) -> dict[str, str]:
    """What is not known is left out."""
    said = {
        SOURCE_OFFSET: f"{freshness.partition}/{freshness.next_offset - 1}",
        SERVED_BY: "active" if freshness.is_active else "standby",
    }
    if freshness.current_to_ms is not None:
        said[CURRENT_TO] = iso_time(freshness.current_to_ms) or ""
    if freshness.lag is not None:
        said[LAG] = str(freshness.lag)
    return said


def with_headers(response: web.Response, freshness: Freshness) -> web.Response:
    response.headers.update(headers_of(freshness))
    return response


def _wrong(name: str, detail: str) -> Refusal:
    return Refusal(Problem(400, "invalid-parameter", f"{name} {detail}", [FieldError(None, name, f"{name} {detail}")]))
