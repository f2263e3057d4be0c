"""The broker's clients of one process: a writer whose appends, and readers whose looks, wait until the scheduler lets them through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from app.engine.fence import Appended
from tests.agents.worlds import Record
from tests.simulation.world import KeyValue, World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Gate:
    """Something asked of the world: not yet there, or there and not yet answered. A write may arrive after its author's death."""

    __slots__ = ("effect", "future", "has_happened", "is_late", "is_stuck", "is_write", "label", "outcome", "ready")

    def __init__(
        self, label: str, effect: Callable[[], Any], future: asyncio.Future[Any], is_write: bool, ready: Callable[[], bool] | None
    ) -> None:
        self.label = label
        self.effect = effect
        self.future = future
        self.is_write = is_write
        self.ready = ready
        self.has_happened = False
        #: Held up on its way, until somebody else has taken over from its author.
        self.is_late = False
        #: Held up for the time being, whatever else happens.
        self.is_stuck = False
        self.outcome: Any = None

    @property
    def dearness(self) -> int:
        """How much rather than at others a fault strikes here: less than this often happens in a run."""
        return 3 if self.label.startswith(("commits", "connects", "changelog outbox")) else 1

    def is_open(self) -> bool:
        if self.is_stuck and not self.future.done():
            return False
        return self.ready is None or self.has_happened or self.future.done() or self.ready()


class SimWriter:
    """fence.Writer: the same calls, each append let through by the scheduler."""

    fenced = True

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._kept: Mapping[tuple[str, int], list[KeyValue]] = {}

    async def own(self, partitions: Iterable[int]) -> None:
        process, epochs = self._process, self._world.epochs
        changelogs = ("changelog",)

        def is_all_sent() -> bool:
            return not any(gate.is_write and not gate.has_happened and gate.label.startswith(changelogs) for gate in process.gates)

        def take() -> None:
            for partition in sorted(partitions):
                epochs[partition] += 1
                process.epochs[partition] = epochs[partition]

        await process.through(f"takes the next epochs of {sorted(partitions)}", take, ready=is_all_sent)

    async def renew_if_old(self, partition: int) -> bool:
        return False

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> Appended:
        batch, world, flaws = list(records), self._world, self._process.flaws
        epoch = None if flaws.zombies_may_write else self._process.epochs[partition]
        label = f"changelog {topic.split('-')[-2]}/{partition} += {sorted(key.decode(errors='replace') for key, _ in batch)}"
        first = await self._process.through(label, lambda: world.append(topic, partition, batch, epoch), is_write=True)
        if self._kept:
            kept, self._kept = self._kept, {}
            await self._write_all(kept)
        return Appended(first, len(batch), world.logs[topic, partition].records[first][2])

    async def write_all(self, outputs: Mapping[tuple[str, int], list[KeyValue]]) -> None:
        if self._process.flaws.outputs_follow_the_changelog:
            self._kept = outputs
            return
        await self._write_all(outputs)

    async def _write_all(self, outputs: Mapping[tuple[str, int], list[KeyValue]]) -> None:
        await asyncio.gather(*(self._write_run(topic, partition, records) for (topic, partition), records in outputs.items()))

    async def _write_run(self, topic: str, partition: int, records: list[KeyValue]) -> None:
        start, world = 0, self._world
        while start < len(records):
            end = len(records) if world.is_calm else world.random.randint(start + 1, len(records))
            chunk = records[start:end]
            label = f"{topic.split('.')[1]}/{partition} += {end - start}"
            await self._process.through(label, lambda chunk=chunk: world.append(topic, partition, chunk), is_write=True)
            start = end


class LogReader:
    """A consumer without a group; every look is let through by the scheduler."""

    def __init__(self, process: Process, places: Iterable[Any]) -> None:
        self._process = process
        self._positions = dict.fromkeys(places, 0)

    async def __aenter__(self) -> LogReader:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing is open."""

    def seek(self, place: Any, offset: int) -> None:
        self._positions[place] = offset

    async def position(self, place: Any) -> int:
        return self._positions[place]

    def highwater(self, place: Any) -> int | None:
        """Nobody asks how old a copy is."""
        return None

    last_poll_timestamp = highwater

    async def beginning_offsets(self, places: Iterable[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Iterable[Any]) -> dict[Any, int]:
        places, world = list(places), self._process.world
        return await self._process.through("asks for ends", lambda: {place: world.end(place.topic, place.partition) for place in places})

    @property
    def is_behind(self) -> bool:
        world = self._process.world
        return any(position < world.end(place.topic, place.partition) for place, position in self._positions.items())

    async def getmany(self, *places: Any, timeout_ms: int) -> dict[Any, list[Record]]:
        world, positions, wanted = self._process.world, self._positions, places or tuple(self._positions)

        seen = -1

        def behind() -> list[Any]:
            return [place for place in wanted if positions[place] < world.end(place.topic, place.partition)]

        def is_behind() -> bool:
            nonlocal seen
            if seen != world.appends and not behind():
                seen = world.appends
            return seen != world.appends

        def read() -> dict[Any, list[Record]]:
            found = {}
            for place in behind() if world.is_calm else [world.random.choice(behind())]:
                start, end = positions[place], world.end(place.topic, place.partition)
                if world.reads_are_short:
                    end = start + 1
                positions[place] = end if world.is_calm else world.random.randint(start + 1, end)
                found[place] = records_of(world, place.topic, place.partition, start, positions[place])
            return found

        return await self._process.through(f"reads {_said(wanted)} on", read, ready=is_behind)


def _said(places: Iterable[Any]) -> str:
    return ", ".join(sorted({f"{place.topic.removesuffix('-changelog').rpartition('-')[2]}/{place.partition}" for place in places}))


def records_of(world: World, topic: str, partition: int, start: int, stop: int) -> list[Record]:
    raw = world.logs[topic, partition].records[start:stop]
    return [Record(topic, partition, start + n, timestamp, key, value) for n, (key, value, timestamp) in enumerate(raw)]
