"""Batches of a source that may wait are handed out together, and no partition is forgotten while it waits."""

from __future__ import annotations

import asyncio

from faust.types import TP

from app.settings import KafkaSettings
from app.streams.pace import SourcePace, next_moment, users_delay
from app.streams.topics import TopicNames

NAMES = TopicNames.of(KafkaSettings())


class Paced:
    """A pace of 50 ms on "products", and how often it said that something may be read now."""

    def __init__(self) -> None:
        self.now = 0.0
        self.behind: set[TP] = set()
        self.looks = 0
        self.pace = SourcePace("products", 0.05, self.behind.__contains__, self._look, lambda: self.now)

    def _look(self) -> None:
        self.looks += 1


async def test_a_partition_is_read_once_in_each_interval() -> None:
    paced, place = Paced(), TP("products", 0)
    assert paced.pace.may_read(place)
    assert not paced.pace.may_read(place)
    paced.now = 0.049
    assert not paced.pace.may_read(place)
    paced.now = 0.05
    assert paced.pace.may_read(place)


async def test_one_partition_does_not_wait_for_another_nor_any_other_topic_at_all() -> None:
    paced = Paced()
    assert paced.pace.may_read(TP("products", 0))
    assert paced.pace.may_read(TP("products", 1))
    assert all(paced.pace.may_read(TP("events", 0)) for _ in range(3))


async def test_a_partition_that_is_behind_waits_for_nothing() -> None:
    paced, place = Paced(), TP("products", 0)
    paced.behind.add(place)
    assert all(paced.pace.may_read(place) for _ in range(3))
    paced.behind.clear()
    assert not paced.pace.may_read(place)


async def test_whoever_had_to_wait_is_looked_at_when_the_wait_is_over() -> None:
    paced = Paced()
    for number in (0, 1):
        assert paced.pace.may_read(TP("products", number))
        assert not paced.pace.may_read(TP("products", number))
    await asyncio.sleep(0.2)
    assert paced.looks == 1
    assert not paced.pace.may_read(TP("products", 0))  # the clock of this test stands still
    await asyncio.sleep(0.2)
    assert paced.looks == 2


def test_lists_are_as_late_as_the_latest_of_what_they_are_made_of() -> None:
    delays: dict[tuple[str, int], float] = {}
    delay = users_delay(lambda *place: delays.get(place, 0.0), NAMES, {0, 1})
    assert delay(0) == 0

    delays[NAMES.events, 0] = 1.0
    assert (delay(0), delay(1)) == (1.0, 0.0), "one partition's events do not keep another's users waiting"
    delays[NAMES.neighbours, 0] = 2.0
    assert (delay(0), delay(1)) == (2.0, 0.0)
    delays[NAMES.visits, 1] = 3.0
    assert (delay(0), delay(1)) == (3.0, 3.0), "an item's visitors are everywhere"
    delays[NAMES.visits, 7] = 9.0
    assert delay(0) == 3.0, "that one is another worker's"


async def test_all_partitions_may_be_read_again_at_the_same_moment() -> None:
    paced, early, late = Paced(), TP("products", 0), TP("products", 1)
    paced.now = 7.001
    assert paced.pace.may_read(early)
    paced.now = 7.04
    assert paced.pace.may_read(late)
    assert not paced.pace.may_read(early)
    paced.now = 7.0501
    assert paced.pace.may_read(early)
    assert paced.pace.may_read(late)


async def test_where_no_pace_is_needed_nobody_waits() -> None:
    paced, place = Paced(), TP("products", 0)
    is_needed = True
    paced.pace = SourcePace("products", 0.05, paced.behind.__contains__, paced._look, lambda: paced.now, lambda: is_needed)
    assert paced.pace.may_read(place)
    assert not paced.pace.may_read(place)
    is_needed = False
    assert all(paced.pace.may_read(place) for _ in range(3))


def test_the_next_moment_is_a_multiple_of_the_step_and_always_ahead() -> None:
    assert next_moment(0.0, 0.5) == 0.5
    assert next_moment(0.49, 0.5) == 0.5
    assert next_moment(0.5, 0.5) == 1.0
    moment = 81_234.567
    for _ in range(10_000):
        before, moment = moment, next_moment(moment, 0.04)
        assert before < moment <= before + 0.0401
