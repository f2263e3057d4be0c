"""Units of work and the committers that write them: outputs before marks, and the acknowledgement last."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Generic, TypeVar

from app import metrics
from app.engine.fence import Writer
from app.engine.table import PartitionState, Table
from app.errors import NotOwnedError

T = TypeVar("T")


class Unit(Generic[T]):
    """One atomic step of one partition: what an agent reads from, changes and emits.

    ``records()`` yields the source records that are not applied yet; iterating is what marks them as applied. It ends early when the
    changed state grows too large for one changelog batch: the rest comes as the next unit. ``replayed`` are records that a former run
    applied, but did not see through to the end: their effects on state are there, what follows from them may have to be done again.
    """

    __slots__ = ("_limit_bytes", "_position", "_records", "done", "holds", "outputs", "partition", "replayed", "state", "topic")

    def __init__(
        self, state: PartitionState[T], topic: str = "", records: Sequence[Any] = (), replayed: Sequence[Any] = (), limit_bytes: int = 0
    ) -> None:
        self.state = state
        self.topic = topic
        self.partition = state.number
        self.replayed = replayed
        #: (topic, partition) → records to append there, in order.
        self.outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
        #: Futures that the source records' acknowledgement waits for beside the unit itself.
        self.holds: list[asyncio.Future[Any]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._records = records
        self._position = 0
        self._limit_bytes = limit_bytes

    def records(self) -> Iterator[Any]:
        state, limit, size = self.state, self._limit_bytes, 0
        for record in self._records:
            if size + state.dirty_bytes > limit:
                return
            self._position += 1
            size += len(record.value or b"")
            yield record

    def emit(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Append a record elsewhere, before the marks of this unit are written. It may be appended again after a crash."""
        self.outputs.setdefault((topic, partition), []).append((key, value))

    def hold(self, until: asyncio.Future[Any]) -> None:
        """Let the source offset be committed only when ``until`` is done too."""
        self.holds.append(until)

    @property
    def taken(self) -> int:
        """Records handed out."""
        return self._position


class Committer:
    """Writes the units of one partition of one table, one after another, in the order they were made."""

    def __init__(self, table: Table[Any], state: PartitionState[Any], writer: Writer, fail: Callable[[BaseException], None]) -> None:
        self._table = table
        self._state = state
        self._writer = writer
        self._fail = fail
        self._queue: asyncio.Queue[tuple[Unit[Any], dict[bytes, bytes | None]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._flush = metrics.FLUSH.labels(table.name)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"commit {self._table.name}/{self._state.number}")

    def submit(self, unit: Unit[Any]) -> None:
        """Take what the unit changed and queue it. Must follow the changes without an await in between."""
        if self._task is None or self._task.done():
            raise NotOwnedError(f"partition {self._state.number} of table {self._table.name} was given up")
        if self._state.changed:
            self._queue.put_nowait((unit, self._state.take_changes()))
        else:
            self._queue.put_nowait((unit, {}))

    async def drain(self) -> None:
        """Wait until all that was submitted is written."""
        await self._queue.join()

    async def stop(self) -> None:
        """Write nothing more; whoever waits for a unit that is not written gets NotOwnedError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        while not self._queue.empty():
            self._abandon(self._queue.get_nowait()[0])

    def _abandon(self, unit: Unit[Any]) -> None:
        if not unit.done.done():
            unit.done.set_exception(
                NotOwnedError(f"partition {unit.partition} of table {self._table.name} was given up before the unit was written")
            )
            unit.done.exception()

    async def _run(self) -> None:
        while True:
            unit, changes = await self._queue.get()
            try:
                await self._write(unit, changes)
            except asyncio.CancelledError:
                self._abandon(unit)
                raise
            except BaseException as exc:
                if not unit.done.done():
                    unit.done.set_exception(exc)
                    unit.done.exception()  # the process stops: whoever waits need not complain too
                self._fail(exc)
                return
            if not unit.done.done():
                unit.done.set_result(None)
            self._queue.task_done()

    async def _write(self, unit: Unit[Any], changes: dict[bytes, bytes | None]) -> None:
        if unit.outputs:
            await self._writer.write_all(unit.outputs)
        if changes:
            state = self._state
            began = perf_counter()
            first, count = await self._writer.write_batch(self._table.changelog_topic_name, state.number, changes.items())
            state.written(changes, first + count - 1)
            self._flush.observe(perf_counter() - began)


def apply_records(
    state: PartitionState[T],
    topic: str,
    records: Sequence[Any],
    apply: Callable[[Unit[T]], None],
    submit: Callable[[Unit[T]], None],
    limit_bytes: int,
) -> list[Unit[T]]:
    """Let ``apply`` work through a batch in as many units as its state needs: what the mark covers is ``replayed``, the rest is applied
    and marked.

    Each unit is submitted before the next one is made, without an await in between.
    """
    source = topic.encode()
    known = split_at(records, state.applied(source))
    if known:
        metrics.RECORDS_SKIPPED.labels(topic).inc(known)
    replayed, position = records[:known], known
    units: list[Unit[T]] = []
    while True:
        unit: Unit[T] = Unit(state, topic, records[position:], replayed, limit_bytes)
        apply(unit)
        position += unit.taken
        if unit.taken:
            state.advance(source, records[position - 1].offset + 1)
        submit(unit)
        units.append(unit)
        if position >= len(records):
            return units
        assert unit.taken, "an agent must take at least one record"
        replayed = []


def split_at(records: Sequence[Any], offset: int) -> int:
    """Index of the first record at or above ``offset``."""
    if not records or records[0].offset >= offset:
        return 0
    return bisect_left(records, offset, key=lambda record: record.offset)
