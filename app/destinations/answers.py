"""What platforms' answers have in common: their JSON, the words of an error, and what each status means where a platform says no more."""

from __future__ import annotations

import re
from typing import Any

import orjson

from app.destinations.outcomes import Down, DownCause, PerPerson, Reading, Retry, Split, Throttled, Unavailable
from app.destinations.requests import Response
from app.destinations.retry_after import retry_after_ms
from tidings.state.v1 import outbox_pb2

#: Characters of a platform's own words that are kept.
MAX_WORDS = 150
#: And of words with advice behind them.
MAX_ADVISED = 199


def read_status(response: Response) -> Reading:
    """What a status means that the destination has no other meaning for: facts that all platforms agree on.

    A 2xx is never a success here: whoever asks has looked into the answer and found nothing that confirms anything.
    """
    reason, after_ms = reason_of(response), retry_after_ms(response)
    match response.status:
        case 401 | 403:
            return Down(DownCause.AUTH, reason)
        case 402 | 404 | 405 | 406 | 415:
            return Down(DownCause.CONFIGURATION, reason)
        case 408:
            return Unavailable(reason, after_ms or 0)
        case 410:
            return Down(DownCause.GONE, reason)
        case 413:
            return Split(reason, outbox_pb2.DEAD_REASON_TOO_LARGE)
        case 429:
            return Throttled(reason, after_ms)
        case 503 if after_ms is not None:
            return Throttled(reason, after_ms)
        case status if 400 <= status <= 499:
            return Split(reason)
        case status if 300 <= status <= 399:
            return Unavailable(f"{status}: redirects are not followed; is base_url right?")
        case _:
            return Unavailable(reason, after_ms or 0)


def retry_all(count: int, reason: str) -> PerPerson:
    """An attempt that did not come to anything for any of so many people."""
    return PerPerson((Retry(reason),) * count)


def unreadable(response: Response) -> Down:
    """What it means that the fields of a destination could not be read: the credentials, or something that somebody must look at."""
    reading = read_status(response)
    return reading if isinstance(reading, Down) else Down(DownCause.CONFIGURATION, f"the fields could not be read: {reason_of(response)}")


def advised(reason: str, advice: str) -> str:
    """A reason, cut so that what to do about it stands behind it and both are shorter than 200."""
    return f"{reason[: MAX_ADVISED - len(advice) - 2]}: {advice[:MAX_ADVISED]}"


def reason_of(response: Response) -> str:
    """``400: Your merge fields were invalid``: the status and the platform's own words, printable, shorter than 200, addresses masked."""
    said = words_of(_said(json_of(response)) or response.body[: 4 * _READ].decode("utf-8", "replace"))
    return f"{response.status}: {said}" if said else str(response.status)


def words_of(text: object) -> str:
    """A platform's words as they may be kept: in one printable line of at most MAX_WORDS characters, e-mail addresses masked."""
    if not isinstance(text, str):
        return ""
    printable = "".join(c if c.isprintable() else " " for c in text[:_READ])
    return " ".join(_ADDRESS.sub("***", printable).split())[:MAX_WORDS]


def json_of(response: Response) -> Any:
    """The body's JSON; None if it is none."""
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return None


def dict_at(value: Any, *path: str) -> dict[str, Any]:
    """The object at a path of names within a JSON value; empty if there is none."""
    found = _at(value, path)
    return found if isinstance(found, dict) else {}


def list_at(value: Any, *path: str) -> list[Any]:
    """The array at a path; empty if there is none."""
    found = _at(value, path)
    return found if isinstance(found, list) else []


def text_at(value: Any, *path: str) -> str:
    """The text at a path; "" if there is none."""
    found = _at(value, path)
    return found if isinstance(found, str) else ""


def int_at(value: Any, *path: str) -> int:
    """The whole number at a path; 0 if there is none."""
    found = _at(value, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


#: Characters of an answer that are looked at for its words.
_READ = 1_000
_ADDRESS = re.compile(r"""[^\s@"'<>:,;(){}\[\]]{1,254}(@|%40)[^\s"'<>:,;(){}\[\]]{1,254}""")
#: Where platforms put what went wrong.
_WORDS = ("message", "detail", "msg", "error", "title", "reason")


def _said(answer: Any) -> str:
    """The words of an error, wherever in the answer they are: on top, or in the first of its errors."""
    errors = list_at(answer, "errors")
    for place in (answer, errors[0] if errors else None):
        if isinstance(place, str):
            return place
        for name in _WORDS:
            if text := text_at(place, name):
                return text
    return ""


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
