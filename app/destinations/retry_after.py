"""How long a server asks us to stay away: the Retry-After header (RFC 9110, 10.2.3), in seconds or as a date."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime

from app.destinations.requests import Response

#: A wait beyond this is cut to it, so that no answer, mistaken or hostile, stops a target for longer: HubSpot's 477 asks for up to a day.
#: Beyond an hour the target is parked (app/delivery/breaker.py), and shown as such.
MAX_RETRY_AFTER_MS = 25 * 3_600_000


def retry_after_ms(response: Response) -> int | None:
    """Milliseconds from the receipt of the response, 0 to MAX_RETRY_AFTER_MS; None without a header that can be read."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        # More digits than the limit has are above it; int() of thousands of digits is slow, and an error beyond 4,300.
        asked_ms = int(value) * 1000 if len(value) <= 10 else MAX_RETRY_AFTER_MS
    else:
        try:
            moment = parsedate_to_datetime(value).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
        asked_ms = math.ceil(moment * 1000) - response.received_at_ms
    return max(0, min(asked_ms, MAX_RETRY_AFTER_MS))
