"""What the engine's unit tests stand on: a table of counters over a database in a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from app.engine.commit import Unit, apply_records
from app.engine.store import HIDDEN_PREFIX
from app.engine.table import Codec, PartitionState

HIDDEN = b"__total"


class Counter:
    """An object that is changed in place: what was added to it, in order."""

    def __init__(self, added: list[int]) -> None:
        self.added = added


def _decode(raw: bytes) -> Counter:
    return Counter([int(part) for part in raw.split(b",")] if raw else [])


COUNTERS = Codec[Counter](_decode, lambda counter: b",".join(b"%d" % n for n in counter.added), lambda _: Counter([]))
#: Encoded otherwise than the rest, so that a mix-up shows.
TOTAL = Codec[Counter](lambda raw: Counter([int(raw)]), lambda counter: b"%d" % sum(counter.added), lambda _: Counter([0]))


class DictDatabase:
    """Stands for store.Database."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.offset: int | None = None
        self.made_at_ms: int | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def write(self, records: Iterable[tuple[bytes, bytes | None]], changelog_offset: int, made_at_ms: int | None = None) -> None:
        for key, value in records:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        self.offset, self.made_at_ms = changelog_offset, made_at_ms

    def items(self, first: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.values.items() if not k.startswith(HIDDEN_PREFIX) and k >= first))


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes


def state_over(database: DictDatabase, cache_bytes: int = 1 << 30) -> PartitionState[Any]:
    return PartitionState(0, database, COUNTERS, {HIDDEN: TOTAL}, cache_bytes)  # type: ignore[arg-type]  # DictDatabase stands in


def add(unit: Unit[Any]) -> None:
    """The agent: each record is added to its key's counter and to the total; a record without a value deletes."""
    for record in unit.records():
        if not record.value:
            unit.state.delete(record.key)
            continue
        unit.state.obtain(record.key).added.append(int(record.value))
        total = unit.state.obtain(HIDDEN)
        total.added[0] += int(record.value)


def feed(state: PartitionState[Any], records: list[Record], limit_bytes: int = 1 << 20) -> list[dict[bytes, bytes | None]]:
    """Apply a batch; what each of its units would write."""
    batches: list[dict[bytes, bytes | None]] = []

    def submit(unit: Unit[Any]) -> None:
        if state.changed:
            batches.append(state.take_changes())

    for _ in apply_records(state, "source", records, add, submit, limit_bytes):
        pass
    return batches
