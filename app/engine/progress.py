"""What the watchdog looks at in the engine: batches that are handed out, written, seen through and committed, and a recovery that goes on.

A write that the broker keeps waiting, and whatever waits for it, is the broker's; so is everything while the group's coordinator is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError
from faust.types import TP

from app.engine.changelog_reader import changelog_reader
from app.engine.watchdog import Work

#: A write that waits for its acknowledgement longer than this says that the broker is slow, or away.
SLOW_WRITE_SECONDS = 3.0
#: And so is a coordinator that acknowledged no heartbeat for so long, in heartbeats.
MISSED_HEARTBEATS = 3
#: What one question to a partition's leader may take.
ASK_SECONDS = 5.0
#: A batch is seen through when its users are ranked, and they wait for that under a backlog (rank_users.MAX_PATIENCE_SECONDS).
SEEN_THROUGH_PATIENCE_SECONDS = 60.0
#: Of one batch, though others' users are ranked meanwhile: a partition may have more of them waiting than are ranked in many minutes.
HELD_PATIENCE_SECONDS = 3600.0


def hears_us(app: Any) -> bool:
    """Whether the group's coordinator answers."""
    return bool(app.consumer.seconds_since_heartbeat() < MISSED_HEARTBEATS * app.conf.broker_heartbeat_interval)


def can_write(app: Any) -> bool:
    """Whether the brokers take what is written."""
    return hears_us(app) and bool(app.writer.oldest_wait_seconds() < SLOW_WRITE_SECONDS)


def works_of(app: Any, further: Callable[[], Hashable] = lambda: None) -> Iterator[Work]:
    """The engine's works at this moment. ``further`` changes whenever something goes on that a recovery may wait for."""
    is_heard, is_written = hears_us(app), can_write(app)
    recovery = app.tables.recovery
    if recovery.in_recovery or app.rebalancing:
        yield Work(
            "recovery",
            (app.rebalancing, recovery.in_recovery, offsets_of(app), further()),
            is_written,
            "the recovery of this worker's partitions reads nothing",
            # The group gives its members so long to come together, and nothing can be seen of that.
            app.conf.broker_rebalance_timeout,
            _behind(app, recovery.actives),
        )
        return
    yield from _reading(app, is_heard)
    yield from _writing(app, is_written)
    yield from _committing(app, is_heard, is_written)


def _reading(app: Any, is_heard: bool) -> Iterator[Work]:
    reader = app.reader
    if reader is None:
        return
    for tp in reader.partitions:
        position, waits = reader.position(tp), reader.waiting(tp)
        place = f"{tp.topic}/{tp.partition}"
        yield Work(
            f"hand out {place}", position, bool(waits) and app.has_room(tp),
            f"{waits} records of {place} are here and have room, and are not handed to their agent",
        )  # fmt: skip
        lag = reader.lag(tp) or 0
        yield Work(
            f"fetch {place}", (position, waits), is_heard and lag > 0 and not waits and app.has_room(tp),
            f"{lag} records of {place} are not fetched", place=tp,
        )  # fmt: skip


def _writing(app: Any, is_written: bool) -> Iterator[Work]:
    for (table, partition), committer in app.committers.items():
        yield Work(
            f"write {table}/{partition}", committer.written, is_written and committer.is_busy,
            f"what was applied to partition {partition} of table {table} is not written",
        )  # fmt: skip
    for tp, count in app.unwritten.items():
        committer = app.committers.get((app.sources[tp.topic].name, tp.partition))
        is_idle = committer is not None and not committer.is_busy
        # An agent takes its partitions' batches one after another: what waits for the others' goes on with them.
        yield Work(
            f"apply {tp.topic}/{tp.partition}", (count, app.steps[tp.topic]),
            is_written and count > 0 and is_idle and not app.unwritten_bytes.is_full,  # then it waits for the others' writes
            f"{count} batches of {tp.topic}/{tp.partition} are with their agent, and it makes no step",
        )  # fmt: skip


def _committing(app: Any, is_heard: bool, is_written: bool) -> Iterator[Work]:
    for tp, offset, acknowledged in app.consumer.next_commits():
        place = f"{tp.topic}/{tp.partition}"
        if acknowledged:
            yield Work(f"commit {place}", offset, is_heard, f"{place} is seen through up to {offset}, and it is not committed")
        else:
            what = f"what the batch of {place} up to {offset} caused is not seen through"
            yield Work(f"see through {place}", (offset, app.followed[tp.partition]), is_written, what, SEEN_THROUGH_PATIENCE_SECONDS)
            yield Work(f"let go {place}", offset, is_written, what, HELD_PATIENCE_SECONDS)


def offsets_of(app: Any) -> int:
    """How far all open databases are, together."""
    return sum((database.offset or 0) + 1 for table in app.tables.values() for database in table.store.databases())


def _behind(app: Any, partitions: Iterable[int]) -> TP | None:
    """A changelog that the recovery may be reading."""
    for table in app.tables.values():
        for partition in partitions:
            return TP(table.changelog_topic_name, partition)
    return None


async def leader_answers(client: dict[str, Any], tp: TP) -> bool:
    """Whether the partition's leader tells the end of its log, over a new connection."""
    place = aiokafka.TopicPartition(tp.topic, tp.partition)
    try:
        async with asyncio.timeout(ASK_SECONDS), changelog_reader(client, [place]) as reader:
            await reader.end_offsets([place])
    except (KafkaError, OSError, TimeoutError, AssertionError):  # aiokafka asserts that there is a leader
        return False
    return True
