"""Numbers in headers of a platform's own: requests that are left, and when it counts anew."""

from __future__ import annotations

from app.destinations.limits import Quota
from app.destinations.requests import Response
from app.destinations.retry_after import MAX_RETRY_AFTER_MS

#: No time in seconds since 1970 and no count of requests has more digits.
_MAX_DIGITS = 12


def number_in(response: Response, header: str) -> int | None:
    """The whole number that a header begins with (``3``, ``3.7``, ``3;w=1``); None if there is none."""
    digits = response.headers.get(header, "").strip().split(".")[0].split(";")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None


def ms_until(response: Response, unix_header: str) -> int | None:
    """From the receipt until the moment that a header gives in seconds since 1970: 0 to MAX_RETRY_AFTER_MS."""
    at_seconds = number_in(response, unix_header)
    return None if at_seconds is None else bounded_ms(at_seconds * 1000 - response.received_at_ms)


def bounded_ms(wait_ms: int) -> int:
    """A wait of 0 to MAX_RETRY_AFTER_MS, so that no header parks a destination for longer."""
    return max(0, min(wait_ms, MAX_RETRY_AFTER_MS))


def quota_in(response: Response, remaining_header: str, resets_in_ms: int | None) -> Quota | None:
    """What is left, if both are said."""
    remaining = number_in(response, remaining_header)
    return None if remaining is None or resets_in_ms is None else Quota(remaining, resets_in_ms)
