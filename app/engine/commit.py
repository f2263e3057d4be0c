"""Units of work and the committers that write them: outputs before marks, and the acknowledgement last.

A write has a price of its own, whatever is in it. So the units that are made while others are on their way wait together and are written
together, as if they had been one.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import length_hint
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

from app import metrics
from app.engine.batch import bytes_of
from app.engine.fence import Writer
from app.engine.table import PartitionState, Table
from app.errors import NotOwnedError

T = TypeVar("T")

#: Values and outputs of units that wait to be written; beyond it there may be one more unit of each agent, ranking and outbox write.
MAX_UNWRITTEN_BYTES = 24 * 1024**2
#: Records that a unit hands out between two looks at what it changed and at the clock, and bytes of their values: many changes may be in
#: a large one.
RUN_RECORDS, RUN_BYTES = 16, 16 << 10


class Unit(Generic[T]):
    """One atomic step of one partition: what an agent reads from, changes and emits.

    ``records()`` yields the source records that are not applied yet; iterating is what marks them as applied. It ends early when the
    changed state grows too large for one changelog batch, or the step takes long: the rest comes as the next unit. ``replayed`` are
    records that a former run applied, but did not see through to the end: their effects on state are there, what follows from them may
    have to be done again.
    ``until`` is when others want their turn, by ``clock``.
    """

    __slots__ = (
        "_clock", "_limit_bytes", "_position", "_records", "_run", "_until",
        "done", "holds", "outputs", "partition", "replayed", "state", "topic",
    )  # fmt: skip

    def __init__(
        self,
        state: PartitionState[T],
        topic: str = "",
        records: Sequence[Any] = (),
        replayed: Sequence[Any] = (),
        limit_bytes: int = 0,
        until: float = math.inf,
        clock: Callable[[], float] = perf_counter,
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
        #: How far the runs go that were handed out, and the rest of the last one.
        self._position = 0
        self._run: Iterator[Any] = iter(())
        self._limit_bytes = limit_bytes
        self._until = until
        self._clock = clock

    def records(self) -> Iterator[Any]:
        return chain.from_iterable(self._runs())

    def _runs(self) -> Iterator[Iterator[Any]]:
        """Each is at most as long as all before it, and one record where half of the bytes or of the time is used up: records that are
        like those before them do not lead beyond the bounds by more than one.
        """
        state, records, limit, until, clock = self.state, self._records, self._limit_bytes, self._until, self._clock
        half_time, length = (clock() + until) / 2, 1
        while self._position < len(records):
            now = clock()
            if self._position and (state.dirty_bytes > limit or now > until):
                return
            if state.dirty_bytes * 2 > limit or now > half_time:
                length = 1
            run = records[self._position : self._position + length]
            size = bytes_of(run)
            if size > RUN_BYTES:
                run, length = run[:1], 1
                size = bytes_of(run)
            self._position += len(run)
            state.dirty_bytes += size  # what they may add to objects that are changed already
            self._run = iter(run)
            yield self._run
            length = min(2 * length, RUN_RECORDS)

    def emit(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Append a record elsewhere, before the marks of this unit are written. It may be appended again after a crash."""
        self.outputs.setdefault((topic, partition), []).append((key, value))

    def hold(self, until: asyncio.Future[Any]) -> None:
        """Let the source offset be committed only when ``until`` is done too."""
        self.holds.append(until)

    @property
    def taken(self) -> int:
        """Records handed out."""
        return self._position - length_hint(self._run)


class Unwritten:
    """Bytes that units have made and that are not written yet, of all partitions of a worker together: what a slow broker or disk may let
    pile up. Where it is ``is_full``, no source is read, and a batch that is being applied waits between two of its steps.
    """

    def __init__(self, limit_bytes: int = MAX_UNWRITTEN_BYTES, room_made: Callable[[], None] = lambda: None) -> None:
        """``room_made`` is called when it is not full any more."""
        self._limit_bytes = limit_bytes
        self._room_made = room_made
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        return self.bytes >= self._limit_bytes

    def add(self, size: int) -> None:
        self.bytes += size
        if self.is_full:
            self._has_room.clear()

    def remove(self, size: int) -> None:
        self.bytes -= size
        if not (self.is_full or self._has_room.is_set()):
            self._has_room.set()
            self._room_made()

    async def room(self) -> None:
        """Until there is some."""
        await self._has_room.wait()


class Committer:
    """Writes the units of one partition of one table in the order they were made, those that wait for one another's end as a group.

    A group is closed before it outgrows a changelog batch: at ``limit_bytes`` of changed state, plus what its last unit adds to that.
    """

    def __init__(
        self,
        table: Table[Any],
        state: PartitionState[Any],
        writer: Writer,
        fail: Callable[[BaseException], None],
        limit_bytes: int = 2_000_000,
        unwritten: Unwritten | None = None,
    ) -> None:
        self._table = table
        self._state = state
        self._writer = writer
        self._fail = fail
        self._limit_bytes = limit_bytes
        self._unwritten = unwritten or Unwritten()
        #: Units whose changes are still in the state's hands: what the next one changes is added to them.
        self._open: list[Unit[Any]] = []
        #: Whether they are to be written, though more may still be added.
        self._complete = False
        #: Units to be written, with all that they changed and emit, and how many bytes that is.
        self._closed: deque[_Group] = deque()
        self._submitted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._halted = False
        #: Groups that were written.
        self.written = 0
        self._task: asyncio.Task[None] | None = None
        self._flush = metrics.FLUSH.labels(table.name)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"commit {self._table.name}/{self._state.number}")

    @property
    def is_busy(self) -> bool:
        """Whether something was added that is not written."""
        return not self._idle.is_set()

    def submit(self, unit: Unit[Any]) -> None:
        """Take what the unit changed, and write it. Must follow the changes without an await in between."""
        self.add(unit)
        self.complete()

    def add(self, unit: Unit[Any]) -> None:
        """The same of a unit that others follow at once: unless they grow large, all are written together."""
        if self._task is None or self._task.done() or self._halted:
            raise NotOwnedError(f"partition {self._state.number} of table {self._table.name} was given up")
        self._open.append(unit)
        self._idle.clear()
        if self._state.dirty_bytes > self._limit_bytes:
            self._close_group()
            self._submitted.set()

    def complete(self) -> None:
        """Write what was added."""
        self._complete = bool(self._open)
        self._submitted.set()

    def halt(self) -> None:
        """A unit failed half-way: what it changed must never be written, so nothing is that was not closed before."""
        self._halted = True

    async def drain(self) -> None:
        """Wait until all that was taken is written."""
        self.complete()
        await self._idle.wait()

    async def stop(self) -> None:
        """Write nothing more; whoever waits for a unit that is not written gets NotOwnedError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for group in self._closed:
            self._unwritten.remove(group.size_bytes)
            self._abandon(group.units)
        self._closed.clear()
        self._abandon(self._open)

    def _abandon(self, units: list[Unit[Any]]) -> None:
        for unit in units:
            if not unit.done.done():
                unit.done.set_exception(
                    NotOwnedError(f"partition {unit.partition} of table {self._table.name} was given up before the unit was written")
                )
                unit.done.exception()

    def _close_group(self) -> None:
        group = _Group.of(self._open, self._state.take_changes())
        self._unwritten.add(group.size_bytes)
        self._closed.append(group)
        self._open, self._complete = [], False

    async def _run(self) -> None:
        while True:
            units: list[Unit[Any]] = []
            size = 0
            group: _Group | None = None  # what was written is not kept until there is more
            try:
                if not self._closed and self._open and self._complete and not self._halted:
                    self._close_group()
                if not self._closed:
                    self._submitted.clear()
                    await self._submitted.wait()
                    continue
                group = self._closed.popleft()
                units, size = group.units, group.size_bytes
                await self._write(group)
            except asyncio.CancelledError:
                self._abandon(units)
                raise
            except BaseException as exc:
                for unit in units:
                    if not unit.done.done():
                        unit.done.set_exception(exc)
                        unit.done.exception()  # the process stops: whoever waits need not complain too
                self._fail(exc)
                return
            finally:
                if size:
                    self._unwritten.remove(size)
            self.written += 1
            _tell(units)
            if not (self._open or self._closed):
                self._idle.set()

    async def _write(self, group: _Group) -> None:
        changes = group.changes
        if group.outputs:
            await self._writer.write_all(group.outputs)
        if changes:
            state = self._state
            began = perf_counter()
            first, count, made_at_ms = await self._writer.write_batch(self._table.changelog_topic_name, state.number, changes.items())
            state.written(changes, first + count - 1, made_at_ms)
            self._flush.observe(perf_counter() - began)


class _Group(NamedTuple):
    """Units that are written together."""

    units: list[Unit[Any]]
    changes: dict[bytes, bytes | None]
    outputs: Mapping[tuple[str, int], list[tuple[bytes | None, bytes | None]]]
    size_bytes: int

    @classmethod
    def of(cls, units: list[Unit[Any]], changes: dict[bytes, bytes | None]) -> _Group:
        outputs = _outputs(units)
        size = sum(map(len, filter(None, changes.values())))
        size += sum(len(value) for records in outputs.values() for _, value in records if value)
        return cls(units, changes, outputs, size)


def _tell(units: list[Unit[Any]]) -> None:
    """Whoever waits for them."""
    for unit in units:
        if not unit.done.done():
            unit.done.set_result(None)


def _outputs(units: list[Unit[Any]]) -> dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]:
    if len(units) == 1:
        return units[0].outputs
    outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
    for unit in units:
        for place, records in unit.outputs.items():
            outputs.setdefault(place, []).extend(records)
    return outputs


def apply_records(
    state: PartitionState[T],
    topic: str,
    records: Sequence[Any],
    apply: Callable[[Unit[T]], None],
    submit: Callable[[Unit[T]], None],
    limit_bytes: int,
    *,
    step_seconds: float = math.inf,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[tuple[Unit[T], bool]]:
    """Let ``apply`` work through a batch in as many units as its state and the time need: what the mark covers is ``replayed``, the rest
    is applied and marked. Yields each unit, and whether it is the last.

    A unit is submitted before it is yielded, without an await in between. Before the next one is asked for, other units of the partition
    may be made, but none of ``topic``.
    """
    source = topic.encode()
    known = split_at(records, state.applied(source))
    if known:
        metrics.RECORDS_SKIPPED.labels(topic).inc(known)
    replayed, position = records[:known], known
    while True:
        unit: Unit[T] = Unit(state, topic, records[position:], replayed, limit_bytes, clock() + step_seconds, clock)
        apply(unit)
        position += unit.taken
        if unit.taken:
            state.advance(source, records[position - 1].offset + 1)
        submit(unit)
        is_last = position >= len(records)
        yield unit, is_last
        if is_last:
            return
        assert unit.taken, "an agent must take at least one record"
        replayed = []


def split_at(records: Sequence[Any], offset: int) -> int:
    """Index of the first record at or above ``offset``."""
    if not records or records[0].offset >= offset:
        return 0
    return bisect_left(records, offset, key=lambda record: record.offset)
