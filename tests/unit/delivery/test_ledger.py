"""The ledger: who is written together, who waits for whom, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from app.delivery.ledger import LINGER_SECONDS, MAX_USERS_PER_WRITE, Change, Ledger
from app.errors import ProduceError
from tests.unit.delivery.worlds import until
from tidings.state.v1.outbox_pb2 import OutboxEntry


class _Store:
    """Notes each write; may be held up, by partition."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, list[str]]] = []
        self.entries: dict[str, OutboxEntry] = {}
        self.held: dict[int, asyncio.Event] = {}
        self.lost: set[int] = set()
        self.error: Exception | None = None

    def partition_of(self, user_id: str) -> int:
        return 0

    def entry(self, partition: int, user_id: str) -> OutboxEntry | None:
        return self.entries.get(user_id)

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        self.writes.append((partition, list(changes)))
        for user_id, change in changes.items():
            change(self.entries.setdefault(user_id, OutboxEntry(user_id=user_id)))
        if partition in self.held:
            await self.held[partition].wait()
        if self.error is not None:
            raise self.error
        return partition not in self.lost


class _Bench:
    """A ledger, its store, and what it said."""

    def __init__(self) -> None:
        self.store = _Store()
        self.tasks: list[asyncio.Task[None]] = []
        self.ledger = Ledger(self.store, self._spawn)
        self.told: list[tuple[str, bool]] = []

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def record(self, partition: int, *users: str, patient: bool = False, change: Callable[[OutboxEntry], Any] = lambda _: None) -> None:
        self.ledger.record(partition, dict.fromkeys(users, change), lambda ok: self.told.extend((u, ok) for u in users), patient=patient)

    async def settled(self) -> None:
        await until(lambda: not self.ledger.is_writing)


async def test_what_is_recorded_in_one_round_of_the_loop_goes_together() -> None:
    bench = _Bench()
    bench.record(0, "ann", "bob")
    bench.record(0, "cat")
    bench.record(1, "dan")
    await bench.settled()
    assert sorted(bench.store.writes) == [(0, ["ann", "bob", "cat"]), (1, ["dan"])]
    assert sorted(bench.told) == [("ann", True), ("bob", True), ("cat", True), ("dan", True)]


async def test_one_write_at_a_time_for_each_partition_and_a_slow_one_holds_no_other() -> None:
    bench = _Bench()
    bench.store.held[0] = asyncio.Event()
    bench.record(0, "ann")
    await asyncio.sleep(0.001)
    bench.record(0, "bob")
    bench.record(0, "cat")
    bench.record(1, "dan")
    await until(lambda: ("dan", True) in bench.told)
    assert bench.store.writes == [(0, ["ann"]), (1, ["dan"])]
    bench.store.held.pop(0).set()
    await bench.settled()
    assert bench.store.writes[2:] == [(0, ["bob", "cat"])], "they waited for the write before, and went together"


async def test_several_changes_of_one_user_are_made_in_order() -> None:
    bench = _Bench()
    for letter in "abc":
        bench.record(0, "ann", change=lambda entry, letter=letter: entry.deliveries.add(target=letter))  # type: ignore[misc]  # bound per round
    await bench.settled()
    assert bench.store.writes == [(0, ["ann"])]
    assert [d.target for d in bench.store.entries["ann"].deliveries] == ["a", "b", "c"]


async def test_no_write_is_larger_than_its_bound() -> None:
    bench = _Bench()
    for i in range(10):
        bench.record(0, *(f"{i}-{j}" for j in range(50)))
    await bench.settled()
    assert len(bench.told) == 500
    sizes = [len(users) for _, users in bench.store.writes]
    assert sum(sizes) == 500
    assert max(sizes) <= MAX_USERS_PER_WRITE


async def test_a_patient_record_with_nobody_to_wait_for_is_written_at_once() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.ledger.outcome_came(0)
    bench.record(0, "ann", patient=True)
    await asyncio.wait_for(bench.settled(), LINGER_SECONDS / 2)
    assert bench.told == [("ann", True)]


async def test_patient_records_wait_for_the_last_outcome_that_is_awaited() -> None:
    bench = _Bench()
    for _ in range(3):
        bench.ledger.await_outcome(0)
    for user in ("ann", "bob"):
        bench.ledger.outcome_came(0)
        bench.record(0, user, patient=True)
        await asyncio.sleep(0.005)
        assert bench.store.writes == []
    bench.ledger.outcome_came(0)
    bench.record(0, "cat", patient=True)
    await asyncio.sleep(0.01)
    assert bench.store.writes == [(0, ["ann", "bob", "cat"])]


async def test_patient_records_do_not_wait_for_long() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.record(0, "ann", patient=True)
    await asyncio.sleep(LINGER_SECONDS * 0.5)
    assert bench.told == []
    await asyncio.wait_for(until(lambda: bench.told == [("ann", True)]), 5)


async def test_patient_records_go_along_with_whatever_is_written() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.record(0, "ann", patient=True)
    bench.record(0, "bob")
    await bench.settled()
    assert bench.store.writes == [(0, ["ann", "bob"])]
    await asyncio.sleep(LINGER_SECONDS * 1.5)
    assert len(bench.store.writes) == 1, "the timer has nothing left to write"


async def test_patient_records_that_come_during_a_write_still_wait() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.store.held[0] = asyncio.Event()
    bench.record(0, "ann")
    await asyncio.sleep(0.001)
    bench.record(0, "bob", patient=True)
    bench.store.held.pop(0).set()
    await bench.settled()
    assert bench.store.writes == [(0, ["ann"])]
    bench.ledger.hurry(0)
    await bench.settled()
    assert bench.told == [("ann", True), ("bob", True)]


async def test_as_many_patient_records_as_fit_into_a_write_wait_for_no_more() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    for i in range(MAX_USERS_PER_WRITE):
        bench.record(0, str(i), patient=True)
    await asyncio.wait_for(until(lambda: len(bench.told) == MAX_USERS_PER_WRITE), LINGER_SECONDS * 0.9)


async def test_in_haste_nothing_waits() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.record(0, "ann", patient=True)
    bench.ledger.be_hasty()
    bench.record(0, "bob", patient=True)
    await bench.settled()
    assert bench.store.writes == [(0, ["ann", "bob"])]


async def test_a_closed_ledger_writes_nothing_that_waited() -> None:
    bench = _Bench()
    bench.ledger.await_outcome(0)
    bench.record(0, "ann", patient=True)
    bench.ledger.close()
    await asyncio.sleep(LINGER_SECONDS * 1.5)
    assert bench.store.writes == []


async def test_whoever_recorded_in_a_partition_that_was_lost_is_told() -> None:
    bench = _Bench()
    bench.store.lost = {0}
    bench.record(0, "ann")
    bench.record(1, "bob")
    await bench.settled()
    assert sorted(bench.told) == [("ann", False), ("bob", True)]


async def test_a_failed_write_is_its_tasks_error_and_the_partition_gets_no_other() -> None:
    bench = _Bench()
    bench.store.error = ProduceError("not acknowledged")
    bench.record(0, "ann")
    await asyncio.sleep(0.001)
    bench.record(0, "bob")
    with pytest.raises(ProduceError):
        await bench.tasks[0]
    await asyncio.sleep(0.01)
    assert (bench.store.writes, bench.told) == ([(0, ["ann"])], [])


async def test_in_a_busy_worker_outcomes_wait_for_others_and_all_partitions_are_written_at_one_moment() -> None:
    loop, bench = asyncio.get_running_loop(), _Bench()
    bench.ledger = Ledger(bench.store, bench._spawn, lambda: True)
    await asyncio.sleep(LINGER_SECONDS * 1.1 - loop.time() % LINGER_SECONDS)  # a tenth after such a moment
    began = loop.time()
    for partition, user in ((0, "ann"), (1, "bob"), (0, "cat")):
        bench.ledger.await_outcome(partition)
        bench.ledger.outcome_came(partition)
        bench.record(partition, user, patient=True)
    await asyncio.wait_for(until(lambda: bool(bench.store.writes)), 5)
    assert loop.time() >= (began // LINGER_SECONDS + 1) * LINGER_SECONDS
    await asyncio.wait_for(until(lambda: len(bench.told) == 3), 5)
    assert sorted(bench.store.writes) == [(0, ["ann", "cat"]), (1, ["bob"])]


async def test_in_a_busy_worker_whoever_has_a_newer_list_does_not_wait_nor_does_a_claim() -> None:
    bench = _Bench()
    bench.ledger = Ledger(bench.store, bench._spawn, lambda: True)
    bench.record(0, "ann", patient=True)
    bench.ledger.hurry(0)
    await bench.settled()
    bench.record(1, "bob", patient=True)
    bench.record(1, "cat")
    await bench.settled()
    assert bench.store.writes == [(0, ["ann"]), (1, ["bob", "cat"])]
