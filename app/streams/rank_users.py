"""Ranks every dirty user once per tick, and publishes the lists that differ from what the user would have seen before.

A folded event makes its user dirty. The events' offset is committed only when their users are ranked and the changed lists are written,
so the dirty set needs no storage of its own: after a crash the events come again, are skipped by the fold, and make their users dirty
again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any

from app import metrics
from app.delivery.outbox import mark_due, reopen, withheld_targets
from app.domain.fields import email_is_denied
from app.domain.held_neighbours import HeldNeighbours
from app.domain.held_profile import HeldProfile, message_of
from app.domain.recommendations import Recommendation, encode_update, list_digest
from app.engine import Codec, EngineApp, Priority, Table, Unit
from app.errors import NotOwnedError
from app.settings import RankingSettings
from app.streams.dirty_users import DirtyUsers, Round
from app.streams.pace import next_moment
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

OUTBOX = Codec[OutboxEntry](OutboxEntry.FromString, OutboxEntry.SerializeToString, lambda key: OutboxEntry(user_id=key.decode()))

#: Users ranked before other tasks get the event loop: some 10 ms.
SLICE_USERS = 64
#: Users of a partition that may wait for their ranking, some seconds' worth; past it, no more of its events are read.
MAX_DIRTY_USERS = 20_000
#: While a partition is behind the log, or the answers of items are, its users wait for up to this part of the delay, and no longer than the
#: seconds below: a backlog then costs a ranking and a delivery or two per user, not one per tick, and nobody's list is more than twice as
#: late for it.
PATIENCE = 1.0
MAX_PATIENCE_SECONDS = 30.0
#: Part of the wait in which users become dirty who are then ranked together: the first of them waits the whole, the last the rest of it.
SPAN = 0.25

#: The list of a person at a moment (in ms since 1970), from the profile and what items answered, if any has.
Rank = Callable[[Profile, HeldNeighbours | None, int], Sequence[Recommendation]]


class RankUsers:
    """``dirty`` is called by the fold; ``run`` ranks until cancelled; ``due`` is told of users whose outbox has something new."""

    def __init__(
        self,
        app: EngineApp,
        profiles: Table[HeldProfile],
        neighbours: Table[HeldNeighbours],
        outbox: Table[OutboxEntry],
        *,
        updates_topic: str,
        delay_seconds: Callable[[int], float],
        settings: RankingSettings,
        targets: Sequence[str],
        rank: Rank,
        due: Callable[[Iterable[str]], None],
        message_of: Callable[[HeldProfile | None], Profile | None] = message_of,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
        step_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``delay_seconds``: how late the partition's events, and what follows from them, are applied. ``clock``: milliseconds since 1970;
        ``monotonic``: seconds, what waits are measured by. ``step_seconds``: rankings wait for moments so far apart, the same ones for all
        partitions; 0: for none.
        """
        self._app = app
        self._profiles = profiles
        self._neighbours = neighbours
        self._outbox = outbox
        self._updates_topic = updates_topic
        self._delay_seconds = delay_seconds
        self._tick_seconds = settings.tick_ms / 1000
        self._targets = list(targets)
        self._message_of = message_of
        self._rank = rank
        self._due = due
        self._clock = clock
        self._monotonic = monotonic
        self._step_seconds = step_seconds
        #: By partition: who waits, and the round that is being ranked.
        self._dirty: dict[int, DirtyUsers] = {}
        self._ranking: dict[int, Round] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._wake: dict[int, asyncio.Event] = {}

    def dirty(self, unit: Unit[Any], user: bytes, caused_at_ms: int) -> None:
        """The user's list may change; the unit's records are seen through when it was looked at."""
        waiting = self._dirty[unit.partition]
        if not waiting:
            self._wake[unit.partition].set()
        waiting.add(unit, user, caused_at_ms)

    def has_room(self, partition: int) -> bool:
        """Whether the partition's dirty users are few enough for more events."""
        if (waiting := self._dirty.get(partition)) is None:
            return True
        ranking = self._ranking.get(partition)
        return len(waiting) + (len(ranking.users) if ranking else 0) < MAX_DIRTY_USERS

    async def begin(self, partitions: Iterable[int]) -> None:
        """These partitions are owned now."""
        for partition in partitions:
            self._dirty[partition] = DirtyUsers(self._tick_seconds * SPAN, self._monotonic)
            self._wake[partition] = asyncio.Event()
            self._tasks[partition] = asyncio.create_task(self._run(partition), name=f"rank {partition}")

    async def give_up(self) -> None:
        """Nothing is owned any more."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(tasks.values())
        for round_ in [*chain.from_iterable(self._dirty.values()), *self._ranking.values()]:
            round_.ranked.cancel()
        self._dirty, self._ranking = {}, {}

    async def _run(self, partition: int) -> None:
        tick, waiting, wake = self._tick_seconds, self._dirty[partition], self._wake[partition]
        try:
            while True:
                if (round_ := waiting.oldest) is None:
                    await wake.wait()
                    wake.clear()
                    continue
                step = self._step_seconds()
                patience = self._patience(partition, step)
                span = SPAN * max(tick, patience)
                waiting.span_seconds = max(span, step)
                due = round_.since + tick + patience + waiting.span_seconds - span  # the last of a round wait no less for it
                if (left := (next_moment(due, step) if step else due) - self._monotonic()) > 0:
                    await asyncio.sleep(min(left, tick))
                    continue
                self._ranking[partition] = waiting.take()
                await self._rank_all(partition, round_.users)
                del self._ranking[partition]
                round_.ranked.set_result(None)
                self._app.room_made()
        except (asyncio.CancelledError, NotOwnedError):
            raise
        except Exception as exc:
            self._app.fail(exc)

    def _patience(self, partition: int, step: float) -> float:
        """Seconds beyond the tick; none once the partition keeps up, or has as many dirty users as may wait. What waits for the moment at
        which a busy worker handles it is not late.
        """
        if not self.has_room(partition):
            return 0.0
        return min(MAX_PATIENCE_SECONDS, PATIENCE * max(0.0, self._delay_seconds(partition) - step))

    async def _rank_all(self, partition: int, users: dict[bytes, int]) -> None:
        todo = iter(users.items())
        while slice_ := list(islice(todo, SLICE_USERS)):
            await self._app.turns.take(Priority.PATIENT)  # what items answer meanwhile saves ranking once more
            ranked = await self._app.apply_to(self._outbox, partition, partial(self._rank_slice, users=slice_))
            self._app.followed[partition] += 1
            self._due([*(user_id for user_id, _ in ranked.changed), *ranked.reopened])
            now_ms = self._clock()
            for _, caused_at_ms in ranked.changed:
                metrics.EVENT_TO_UPDATE.observe((now_ms - caused_at_ms) / 1000.0)
            await asyncio.sleep(0)

    def _rank_slice(self, unit: Unit[OutboxEntry], users: list[tuple[bytes, int]]) -> Ranked:
        profiles, neighbours = self._profiles.state(unit.partition), self._neighbours.state(unit.partition)

        def profile_of(key: bytes) -> Profile | None:
            return self._message_of(profiles.get(key))

        began = time.perf_counter()
        ranked = rank_slice(
            unit, users, profile_of, neighbours.get, self._rank, now_ms=self._clock(), targets=self._targets,
            updates_topic=self._updates_topic,
            least_version=self._app.owner_offsets[self._outbox.name, unit.partition],
        )
        metrics.RANKINGS.labels("changed").inc(len(ranked.changed))
        metrics.RANKINGS.labels("unchanged").inc(ranked.count - len(ranked.changed))
        if ranked.count:
            metrics.observe_many(metrics.RANKING, (time.perf_counter() - began) / ranked.count, ranked.count)
        return ranked


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a slice came to."""

    #: Users who have a profile.
    count: int
    #: Those whose list differs: user id, and when Kafka received the cause.
    changed: list[tuple[str, int]]
    #: Those who may be written about again, though their list is the same.
    reopened: list[str] = field(default_factory=list)


def rank_slice(
    unit: Unit[OutboxEntry],
    users: Iterable[tuple[bytes, int]],
    profile_of: Callable[[bytes], Profile | None],
    neighbours_of: Callable[[bytes], HeldNeighbours | None],
    rank: Rank,
    *,
    now_ms: int,
    targets: Sequence[str],
    updates_topic: str,
    least_version: int,
) -> Ranked:
    """Rank these users (and when Kafka received the cause); a list that differs goes to the outbox and to the updates, under the next
    version.

    ``least_version`` is above whatever a former owner of the partition may still send after it was replaced.
    """
    count, changed, reopened = 0, [], []
    for key, caused_at_ms in users:
        profile = profile_of(key)
        if profile is None:
            continue  # a dead letter's key
        count += 1
        recommendations = rank(profile, neighbours_of(key), now_ms)
        digest = list_digest(recommendations)
        entry = unit.state.get(key)
        if entry is not None and entry.list_digest == digest:
            if (withheld := withheld_targets(entry)) and not email_is_denied(profile):
                reopen(unit.state.obtain(key), withheld)
                reopened.append(profile.user_id)
            if entry.update.version < least_version:
                # A former owner may have published another list and died before its outbox said so: this one is published once more.
                entry = unit.state.obtain(key)
                entry.update.version = least_version
                unit.emit(updates_topic, unit.partition, key, entry.update.SerializeToString())
            continue
        entry = unit.state.obtain(key)
        entry.list_digest = digest
        version = max(entry.update.version + 1, least_version)
        update = encode_update(profile, recommendations, version=version, ranked_at_ms=now_ms, caused_at_ms=caused_at_ms)
        entry.update.ParseFromString(update)
        mark_due(entry, targets)
        unit.emit(updates_topic, unit.partition, key, update)
        changed.append((profile.user_id, caused_at_ms))
    return Ranked(count, changed, reopened)
