"""Times as commands take and show them: an age or an ISO 8601 time in, RFC 3339 in UTC out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType):
    """An age (90s, 15m, 2h, 7d) or a time (ISO 8601) to milliseconds since 1970 UTC."""

    name = "age or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            if value[-1:] in _UNITS and value[:-1].isdecimal():
                moment = datetime.now(UTC) - timedelta(seconds=int(value[:-1]) * _UNITS[value[-1]])
            else:
                moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither an age (90s, 15m, 2h, 7d) nor a time (2026-11-21T08:00:00Z)", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


def time_text(milliseconds: int) -> str:
    """``2026-11-21T08:00:00.000Z``; what is no time, as the number that it is."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
