"""The order in which a unit is written, and what is left undone when a step fails."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.commit import Committer, Unit, Unwritten
from app.engine.fence import Appended
from app.errors import NotOwnedError, ProduceError
from tests.unit.engine.worlds import DictDatabase, state_over

TABLE: Any = SimpleNamespace(name="counters", changelog_topic_name="counters-changelog")


class ScriptedWriter:
    """Keeps what was written, in order; fails at the call of that number; waits while ``open`` is not set."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.log: list[tuple[str, Any]] = []
        self.batches: list[dict[bytes, bytes | None]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._fail_at = fail_at

    async def renew_if_old(self, partition: int) -> None:
        """Nothing grows old here."""

    async def write_all(self, outputs: dict[tuple[str, int], list[Any]]) -> None:
        await self._written("outputs", {topic: len(records) for (topic, _), records in outputs.items()})

    async def write_batch(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> Appended:
        batch = dict(records)
        self.batches.append(batch)
        await self._written("changelog", sorted(batch))
        return Appended(10 * len(self.log), len(batch), 0)

    async def _written(self, what: str, detail: Any) -> None:
        await self.open.wait()
        if len(self.log) == self._fail_at:
            raise ProduceError("not acknowledged")
        self.log.append((what, detail))


class World:
    def __init__(self, fail_at: int | None = None, limit_bytes: int = 1 << 20, unwritten: Unwritten | None = None) -> None:
        self.unwritten = unwritten or Unwritten()
        self.database = DictDatabase()
        self.state = state_over(self.database)
        self.writer = ScriptedWriter(fail_at)
        self.failures: list[BaseException] = []
        self.committer = Committer(
            TABLE, self.state, self.writer, self.failures.append, limit_bytes,  # type: ignore[arg-type]  # a scripted writer
            self.unwritten,
        )  # fmt: skip
        self.committer.start()

    def submit(self, key: bytes = b"", output: bool = False, *, others_follow: bool = False) -> Unit[Any]:
        unit: Unit[Any] = Unit(self.state)
        if key:
            self.state.obtain(key).added.append(1)
        if output:
            unit.emit("elsewhere", 0, None, b"x")
        (self.committer.add if others_follow else self.committer.submit)(unit)
        return unit

    async def under_way(self, key: bytes) -> Unit[Any]:
        """A unit whose write has begun: those to come do not go with it."""
        unit = self.submit(key, output=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return unit


async def test_a_unit_is_done_after_its_outputs_its_changelog_batch_and_its_database() -> None:
    world = World()
    unit = world.submit(b"a", output=True)
    await unit.done

    assert world.writer.log == [("outputs", {"elsewhere": 1}), ("changelog", [b"a"])]
    assert world.database.values == {b"a": b"1"}
    assert world.database.offset == 20, "of the batch's only record"
    await world.committer.stop()


async def test_units_are_written_one_after_another_in_the_order_they_were_made() -> None:
    world = World()
    units = [await world.under_way(b"%d" % n) for n in range(3)]
    await world.committer.drain()

    assert [what for what, _ in world.writer.log] == ["outputs", "changelog"] * 3
    assert [detail for what, detail in world.writer.log if what == "changelog"] == [[b"0"], [b"1"], [b"2"]]
    assert all(unit.done.done() for unit in units)
    await world.committer.stop()


async def test_units_that_others_follow_wait_for_the_last_and_are_written_as_one() -> None:
    world = World()
    steps = [world.submit(key, output=True, others_follow=True) for key in (b"a", b"b")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.writer.log == [], "more is to come"

    await world.submit(b"c").done
    assert [detail for what, detail in world.writer.log if what == "changelog"] == [[b"a", b"b", b"c"]]
    assert all(step.done.done() for step in steps)
    await world.committer.stop()


async def test_units_that_grow_large_do_not_wait_for_those_that_follow() -> None:
    world = World(limit_bytes=0)
    await world.submit(b"a", others_follow=True).done
    assert world.database.values == {b"a": b"1"}
    await world.committer.stop()


async def test_a_drain_writes_what_was_broken_off() -> None:
    world = World()
    world.submit(b"a", others_follow=True)
    async with asyncio.timeout(5):
        await world.committer.drain()
    assert world.database.values == {b"a": b"1"}
    await world.committer.stop()


async def test_a_batch_that_ended_does_not_end_the_next_one() -> None:
    world = World()
    world.committer.complete()
    world.submit(b"a", others_follow=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.writer.log == []
    await world.committer.stop()


async def test_units_made_while_another_is_on_its_way_are_written_as_one_with_all_their_outputs() -> None:
    world = World()
    world.writer.open.clear()
    first = await world.under_way(b"a")
    rest = [world.submit(key, output=True) for key in (b"b", b"c", b"b")]
    world.writer.open.set()
    await rest[-1].done

    assert first.done.done()
    assert world.writer.log == [
        ("outputs", {"elsewhere": 1}), ("changelog", [b"a"]), ("outputs", {"elsewhere": 3}), ("changelog", [b"b", b"c"]),
    ]  # fmt: skip
    assert world.database.values == {b"a": b"1", b"b": b"1,1", b"c": b"1"}
    assert all(unit.done.done() for unit in rest)
    await world.committer.stop()


async def test_what_a_unit_changes_after_a_group_was_taken_is_not_in_the_group() -> None:
    world = World()
    world.writer.open.clear()
    first = await world.under_way(b"a")
    second = world.submit(b"a", output=True)
    world.writer.open.set()
    await second.done

    assert first.done.done()
    assert world.writer.batches == [{b"a": b"1"}, {b"a": b"1,1"}]
    await world.committer.stop()


async def test_a_group_is_closed_at_the_limit_so_that_it_fits_a_changelog_batch() -> None:
    world = World(limit_bytes=600)  # a new object counts for 256 bytes
    world.writer.open.clear()
    await world.under_way(b"a")
    for n in range(7):
        world.submit(b"%d" % n)
    world.writer.open.set()
    await world.committer.drain()

    changelog = [detail for what, detail in world.writer.log if what == "changelog"]
    assert changelog == [[b"a"], [b"0", b"1", b"2"], [b"3", b"4", b"5"], [b"6"]]
    assert len(world.database.values) == 8
    await world.committer.stop()


async def test_after_a_unit_failed_half_way_nothing_that_it_touched_is_written() -> None:
    world = World()
    world.writer.open.clear()
    first = await world.under_way(b"a")
    second = world.submit(b"b")
    world.state.obtain(b"b").added.append(7)  # and then an error
    world.committer.halt()
    world.writer.open.set()
    await first.done
    await asyncio.sleep(0.01)

    assert world.database.values == {b"a": b"1"}
    with pytest.raises(NotOwnedError):
        world.submit(b"c")
    await world.committer.stop()
    assert isinstance(second.done.exception(), NotOwnedError)


async def test_a_unit_without_changes_waits_for_those_before_it_and_writes_nothing() -> None:
    world = World()
    world.writer.open.clear()
    first, empty = world.submit(b"a"), world.submit()
    await asyncio.sleep(0.01)
    assert not empty.done.done()

    world.writer.open.set()
    await empty.done
    assert first.done.done()
    assert world.writer.log == [("changelog", [b"a"])]
    await world.committer.stop()


@pytest.mark.parametrize(("fail_at", "written"), [(0, 0), (1, 0), (2, 1), (3, 1)])
async def test_after_a_failure_nothing_more_is_written_and_fail_is_called_once(fail_at: int, written: int) -> None:
    world = World(fail_at)
    world.writer.open.clear()
    units = [await world.under_way(b"0"), world.submit(b"1", output=True), world.submit(b"2", output=True)]
    world.writer.open.set()
    await asyncio.wait([units[written].done])
    await asyncio.sleep(0.01)

    assert len(world.failures) == 1
    assert len(world.writer.log) == fail_at
    assert [unit.done.done() and unit.done.exception() is None for unit in units] == [written > 0, False, False]
    assert len(world.database.values) == written
    with pytest.raises(NotOwnedError):
        world.submit(b"z")
    await world.committer.stop()


async def test_units_that_wait_behind_a_failure_end_when_the_partition_is_given_up() -> None:
    world = World(fail_at=0)
    world.writer.open.clear()
    units = [await world.under_way(b"0"), world.submit(b"1"), world.submit(b"2")]
    world.writer.open.set()
    await asyncio.wait([units[0].done])
    await world.committer.stop()

    assert isinstance(units[0].done.exception(), ProduceError)
    assert [type(unit.done.exception()) for unit in units[1:]] == [NotOwnedError, NotOwnedError]


async def test_giving_up_in_the_middle_of_a_write_leaves_the_database_as_it_was() -> None:
    world = World()
    world.writer.open.clear()
    units = [world.submit(b"a"), world.submit(b"b")]
    await asyncio.sleep(0.01)
    await world.committer.stop()
    world.writer.open.set()

    assert [type(unit.done.exception()) for unit in units] == [NotOwnedError, NotOwnedError]
    assert world.database.values == {}
    assert world.failures == []


async def test_draining_ends_after_a_failure_by_the_callers_time_out_alone() -> None:
    """drain() waits for what was submitted; the caller bounds it, since what failed is never written."""
    world = World(fail_at=0)
    world.submit(b"a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.committer.drain(), 0.05)
    await world.committer.stop()


async def test_a_unit_that_nobody_waits_for_any_more_does_not_stop_the_next() -> None:
    world = World()
    world.writer.open.clear()
    first, second = world.submit(b"a"), world.submit(b"b")
    first.done.cancel()
    world.writer.open.set()
    await second.done

    assert world.failures == []
    assert set(world.database.values) == {b"a", b"b"}
    await world.committer.stop()


async def test_a_failure_stops_the_process_even_if_nobody_waits_for_its_unit() -> None:
    world = World(fail_at=0)
    world.writer.open.clear()
    world.submit(b"a").done.cancel()
    world.writer.open.set()
    await asyncio.sleep(0.01)

    assert len(world.failures) == 1
    await world.committer.stop()


async def test_what_waits_to_be_written_is_counted_until_it_is_and_whoever_waits_for_room_is_told() -> None:
    told: list[int] = []
    world = World(limit_bytes=0, unwritten=Unwritten(4, lambda: told.append(world.unwritten.bytes)))
    world.writer.open.clear()
    for _ in range(3):
        world.submit(b"a", output=True)  # a value of 1, 3, 5 bytes as it grows, and an output of one
    assert world.unwritten.is_full
    waiting = asyncio.create_task(world.unwritten.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert world.unwritten.bytes == 2 + 4 + 6

    world.writer.open.set()
    await asyncio.wait_for(waiting, 5)
    await world.committer.drain()
    assert world.unwritten.bytes == 0
    assert told == [0], "once: the last write made the room"
    await world.committer.stop()


@pytest.mark.parametrize("fail_at", [None, 0])
async def test_what_is_given_up_or_fails_makes_room(fail_at: int | None) -> None:
    world = World(fail_at=fail_at, limit_bytes=0, unwritten=Unwritten(1))
    world.writer.open.clear()
    for _ in range(3):
        world.submit(b"a", output=True)
    await asyncio.sleep(0.01)
    assert world.unwritten.is_full
    if fail_at is not None:
        world.writer.open.set()
        await asyncio.sleep(0.01)
        assert world.failures
    await world.committer.stop()
    assert world.unwritten.bytes == 0
    await asyncio.wait_for(world.unwritten.room(), 5)


async def test_what_was_written_is_not_kept_until_there_is_more() -> None:
    """A committer that waits would hold thousands of records after a backlog."""

    class Records(list[Any]):
        """A list that can be asked whether it is still there."""

    world = World()
    records = Records()
    unit: Unit[Any] = Unit(world.state, "events", records)
    gone = weakref.ref(records)
    world.state.obtain(b"a").added.append(1)
    world.committer.submit(unit)
    del unit, records
    await world.committer.drain()
    await asyncio.sleep(0)
    assert gone() is None
    await world.committer.stop()
