"""Event logs on disk: Parquet, CSV and JSONL (the latter two also gzipped) with columns ts, user, item and, if known, session and event.

``ts`` is an ISO 8601 time (UTC if it names no zone), seconds or milliseconds since 1970, or a timestamp type. Other columns are ignored.
"""

from __future__ import annotations

import csv
import gzip
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, overload

import orjson

from app.domain.log_rows import ROW_KINDS, LogRow, event_of
from app.errors import CommandError, MalformedLogError
from tidings.events.v1.event_pb2 import Event

REQUIRED_COLUMNS = ("ts", "user", "item")
OPTIONAL_COLUMNS = ("session", "event")

#: A number of at least this is in milliseconds (it would be a time after the year 5000 in seconds), below it in seconds.
_MILLISECONDS_FROM = 100_000_000_000
_EARLIEST_MS = 946_684_800_000  # 2000-01-01, as in the events' own rules
_LATEST_MS = 4_102_444_800_000  # 2100-01-01


class EventLog(Sequence[LogRow]):
    """A log in memory, by columns, sorted by time; rows of one time stay in the file's order."""

    def __init__(self, name: str, columns: _Columns, limit: int | None = None) -> None:
        #: The file's name without its endings: what event ids begin with.
        self.name = name
        self._columns = columns
        times = columns.ts_ms
        order: Sequence[int] = range(len(times))
        if any(times[i] > times[i + 1] for i in range(len(times) - 1)):
            order = sorted(order, key=times.__getitem__)
        self._order = order[:limit]

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> LogRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogRow]: ...
    def __getitem__(self, index: int | slice) -> LogRow | list[LogRow]:
        if isinstance(index, slice):
            return [self._columns.row(place) for place in self._order[index]]
        return self._columns.row(self._order[index])

    def __iter__(self) -> Iterator[LogRow]:
        return map(self._columns.row, self._order)

    def events(self) -> Iterator[Event]:
        """The rows as events, in order."""
        return (event_of(row, index, self.name) for index, row in enumerate(self))


def read_log(path: Path, limit: int | None = None) -> EventLog:
    """Read a log whole, and keep its first ``limit`` rows in time.

    Raises MalformedLogError naming file, row and column of a value that cannot be read, and CommandError if Parquet support is absent.
    """
    endings = [ending.lower() for ending in path.suffixes]
    packed = endings[-1:] == [".gz"]
    columns = _Columns(path)
    match (endings[:-1] if packed else endings)[-1:]:
        case [".parquet"] if not packed:
            _read_parquet(path, columns)
        case [".csv"]:
            _read_text(path, packed, columns, _read_csv)
        case [".jsonl" | ".ndjson"]:
            _read_text(path, packed, columns, _read_jsonl)
        case _:
            raise MalformedLogError(f"{path}: the name of a log ends in .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz")
    if not columns.ts_ms:
        raise MalformedLogError(f"{path}: the log has no rows")
    return EventLog(path.name.split(".")[0], columns, limit)


class _Columns:
    """Columns that grow; every value is checked as it comes in. Equal texts are held once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ts_ms = array("q")
        self.user: list[str] = []
        self.session: list[str] = []
        self.item: list[str] = []
        self.event: list[str] = []

    def row(self, place: int) -> LogRow:
        return LogRow(self.ts_ms[place], self.user[place], self.session[place], self.item[place], self.event[place])

    def require(self, names: Iterable[str]) -> None:
        found = list(names)
        for column in REQUIRED_COLUMNS:
            if column not in found:
                raise MalformedLogError(f"{self.path}: lacks the column {column!r} (has {', '.join(map(repr, found[:20])) or 'none'})")

    def append(self, where: str, ts: Any, user: Any, session: Any, item: Any, event: Any) -> None:
        """Add one row; ``where`` names it in errors ("row 17")."""
        try:
            at_ms = _milliseconds(ts)
        except (ValueError, OverflowError) as exc:
            raise MalformedLogError(f"{self.path}: {where}, column 'ts': {exc}") from None
        kind = str(event).strip().lower() if event not in (None, "") else "view"
        if kind not in ROW_KINDS:
            raise MalformedLogError(f"{self.path}: {where}, column 'event': {_shown(event)} is not one of {', '.join(ROW_KINDS)}")
        self.ts_ms.append(at_ms)
        self.user.append(self._id(where, "user", user))
        self.session.append("" if session is None else _text(session))
        self.item.append(self._id(where, "item", item))
        self.event.append(sys.intern(kind))

    def _id(self, where: str, column: str, value: Any) -> str:
        text = "" if value is None else _text(value)
        if not text:
            raise MalformedLogError(f"{self.path}: {where}, column {column!r}: is empty")
        return text


def _read_parquet(path: Path, columns: _Columns) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise CommandError(f"{path}: reading Parquet needs pyarrow: pip install 'tidings[logs]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns.require(names)
            number = 0
            for batch in file.iter_batches(columns=[name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name in names]):
                absent = [None] * batch.num_rows
                ts, user, item, session, event = (
                    batch.column(name).to_pylist() if name in batch.schema.names else absent
                    for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
                )
                for values in zip(ts, user, session, item, event, strict=True):
                    number += 1
                    columns.append(f"row {number}", *values)
    except (OSError, pyarrow.ArrowException) as exc:
        raise MalformedLogError(f"{path}: cannot be read as Parquet: {exc}") from None


def _read_text(path: Path, packed: bool, columns: _Columns, read: Callable[[IO[str], _Columns], None]) -> None:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") if packed else path.open(encoding="utf-8", newline="") as file:
            read(file, columns)
    except (OSError, EOFError) as exc:
        raise MalformedLogError(f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
    except UnicodeDecodeError as exc:
        raise MalformedLogError(f"{path}: is not UTF-8: {exc.reason}") from None


def _read_csv(file: IO[str], columns: _Columns) -> None:
    reader = csv.DictReader(file)
    try:
        columns.require(reader.fieldnames or [])
        for row in reader:
            columns.append(f"line {reader.line_num}", row["ts"], row["user"], row.get("session"), row["item"], row.get("event"))
    except csv.Error as exc:
        raise MalformedLogError(f"{columns.path}: line {reader.line_num}: {exc}") from None


def _read_jsonl(file: IO[str], columns: _Columns) -> None:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise MalformedLogError(f"{columns.path}: line {number}: not JSON: {exc}") from None
        if not isinstance(row, dict):
            raise MalformedLogError(f"{columns.path}: line {number}: not a JSON object")
        for column in REQUIRED_COLUMNS:
            if column not in row:
                raise MalformedLogError(f"{columns.path}: line {number}: lacks {column!r}")
        columns.append(f"line {number}", row["ts"], row["user"], row.get("session"), row["item"], row.get("event"))


def _milliseconds(ts: Any) -> int:
    """Milliseconds since 1970. Raises ValueError with what is wrong."""
    if isinstance(ts, str):
        try:
            ts = float(ts)
        except ValueError:
            try:
                ts = datetime.fromisoformat(ts.strip())
            except ValueError:
                raise ValueError(f"{_shown(ts)} is neither an ISO 8601 time nor a number of seconds or milliseconds") from None
    if isinstance(ts, datetime):
        if ts.tzinfo is None:
            ts = ts.replace(tzinfo=UTC)
        at_ms = round(ts.timestamp() * 1000)
    elif isinstance(ts, int | float) and not isinstance(ts, bool):
        at_ms = round(ts if abs(ts) >= _MILLISECONDS_FROM else ts * 1000)
    else:
        raise ValueError("is empty" if ts is None else f"{_shown(ts)} is not a time")
    if not _EARLIEST_MS <= at_ms <= _LATEST_MS:
        raise ValueError(f"{_shown(ts)} is not between the years 2000 and 2100 in seconds or milliseconds")
    return at_ms


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # an id that a table with gaps had turned into a number with a point
    return sys.intern(str(value))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
