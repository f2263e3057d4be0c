"""``tidings replay``: an event log to Kafka, in real time, faster, or as fast as it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.cli.logs import EventLog, read_log
from app.cli.output import print_json
from app.cli.settings_option import settings_options
from app.errors import BrokerError
from app.settings import Settings
from app.streams.publisher import Publisher

EPILOG = """
\b
Examples:
  tidings replay events.parquet                      as fast as Kafka takes it
  tidings replay events.csv.gz --speed 1             as it happened
  tidings replay events.jsonl --speed 60             an hour in a minute
  tidings replay events.parquet --rate 5000 --limit 100000

The log is Parquet, CSV or JSONL with columns ts, user, item and, if known, session and event (view, cart, purchase, ...). Each event keeps
its own time; Kafka's record time is now. Event ids are made of the file's name and the row.
"""

#: How often a paced replay looks which events are due.
_STEP_SECONDS = 0.02
#: Of one step of a paced replay, however far it fell behind.
_MAX_STEP_EVENTS = 10_000


class _Speed(click.ParamType):
    """A factor of real time, or None for as fast as possible."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Literal["max"]:
        if value == "max":
            return "max"
        try:
            factor = float(value)
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            self.fail(f"{value!r} is neither a number above zero nor max", param, ctx)
        return factor


@dataclass
class Tally:
    """How far a replay has come; kept apart so that it can be told after Ctrl-C too."""

    acknowledged: int = 0


@dataclass(frozen=True)
class Pace:
    """When the events of a log are due. ``speed`` is a factor of the log's own time; ``rate`` is in events per second."""

    speed: float | Literal["max"] = "max"
    rate: float | None = None

    @property
    def unbounded(self) -> bool:
        return self.speed == "max" and self.rate is None

    def due(self, elapsed_seconds: float, first_ms: int) -> tuple[int | None, float | None]:
        """What may have been sent ``elapsed_seconds`` after the start: a count, and all up to this time in ms; None is no bound."""
        count = None if self.rate is None else int(elapsed_seconds * self.rate) + 1
        until_ms = None if self.speed == "max" else first_ms + elapsed_seconds * 1000 * self.speed
        return count, until_ms


@click.command(epilog=EPILOG)
@settings_options
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--speed", type=_Speed(), default="max", show_default=True, metavar="FACTOR|max", help="1 is real time.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many events a second.")
@click.option("--limit", type=click.IntRange(1), help="The first so many events, in time.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def replay(settings: Settings, file: Path, speed: float | Literal["max"], rate: float | None, limit: int | None, as_json: bool) -> None:
    """Send an event log to Kafka. Ctrl-C stops it cleanly and says how far it came."""
    console = Console(stderr=True)
    with console.status(f"reading {file}"):
        log = read_log(file, limit)
    tally, began = Tally(), time.monotonic()
    exit_code = 0
    try:
        with _Progress(console, len(log)) as advance:
            asyncio.run(_replay(settings, log, Pace(speed, rate), tally, advance))
    except KeyboardInterrupt:
        exit_code = 130
    except BrokerError as exc:
        raise BrokerError(f"{exc} ({tally.acknowledged} of {len(log)} events were acknowledged)") from exc
    _report(file, len(log), tally, time.monotonic() - began, as_json)
    raise SystemExit(exit_code)


async def _replay(settings: Settings, log: EventLog, pace: Pace, tally: Tally, advance: Callable[[int], None]) -> None:
    def acknowledged(count: int) -> None:
        tally.acknowledged += count
        advance(count)

    async with Publisher.of_events(settings) as publisher:
        events = log.events()
        if pace.unbounded:
            await publisher.publish_many(events, acknowledged=acknowledged)
            return
        began = time.monotonic()
        for size in due_sizes(log, pace, lambda: time.monotonic() - began):
            if size:
                await publisher.publish_many(islice(events, size), acknowledged=acknowledged)
            else:
                await asyncio.sleep(_STEP_SECONDS)


def due_sizes(log: EventLog, pace: Pace, elapsed_seconds: Callable[[], float]) -> Iterator[int]:
    """How many more events are due now, again and again until the log is through; 0 means wait a little."""
    sent = 0
    while sent < len(log):
        count, until_ms = pace.due(elapsed_seconds(), log[0].ts_ms)
        bound = min(len(log), sent + _MAX_STEP_EVENTS, len(log) if count is None else count)
        size = 0
        while sent + size < bound and (until_ms is None or log[sent + size].ts_ms <= until_ms):
            size += 1
        yield size
        sent += size


class _Progress:
    """A bar on standard error, where that is a terminal; hands out what advances it."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("sent", total=total, rate="")

    def __enter__(self) -> Callable[[int], None]:
        self._bar.__enter__()
        return self._advance

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def _advance(self, count: int) -> None:
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=count, rate=f"{speed:,.0f} events/s" if speed else "")


def _report(file: Path, total: int, tally: Tally, seconds: float, as_json: bool) -> None:
    rate = tally.acknowledged / seconds if seconds else 0.0
    if as_json:
        done = {"file": str(file), "events": total, "acknowledged": tally.acknowledged}
        print_json({**done, "seconds": round(seconds, 3), "events_per_second": round(rate, 1)})
        return
    short = "" if tally.acknowledged == total else f" of {total:,}"
    click.echo(f"{tally.acknowledged:,}{short} events acknowledged in {seconds:.1f} s, {rate:,.0f} events/s")
