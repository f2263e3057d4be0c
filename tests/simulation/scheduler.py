"""The scheduler: from a seed, an order of steps and faults over a fleet, then calm until nothing is left to do, then the comparison."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from app.domain.held_neighbours import HeldNeighbours, decode_held_neighbours
from app.domain.items import decode_item
from app.domain.plain_fold import PlainTables, plain_fold
from app.domain.ranking import rank
from app.domain.recommendations import list_digest
from app.domain.share import decode_share
from app.domain.validation import Violation, decode_event
from app.errors import FencedError, ProduceError
from app.streams.fold_profiles import SHARE_KEY
from app.streams.publisher import partition_of
from tests.agents.worlds import NAMES, NOW_MS, consent, ordered, viewed
from tests.simulation.cluster import MODELS, TABLES, Broker, Flaws, Owner, Worker, _latest
from tidings.events.v1.event_pb2 import CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED
from tidings.internal.v1.dead_letter_pb2 import DeadLetter
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

#: Steps in calm after which a run counts as stuck; runs take a few hundred.
MAX_CALM_STEPS = 20_000
NOBODY = Flaws()


class Simulation:
    """One run. ``counts`` says how often each fault happened, so that a test can see that they do."""

    def __init__(self, seed: int, flaws: Flaws = NOBODY) -> None:
        self.random = Random(seed)
        self.flaws = flaws
        self.broker = Broker(self.random.choice([1, 2, 3]))
        self.workers = [Worker(f"w{n}") for n in range(self.random.choice([1, 2, 3]))]
        self.counts: Counter[str] = Counter()
        self._fault_rate = self.random.choice([0.01, 0.03, 0.08])
        self._write_events(self.random.randint(8, 24))

    async def run(self) -> None:
        """Raises AssertionError, or what the code under test raised, when something does not hold."""
        try:
            for _ in range(self.random.randint(30, 150)):
                await self._step(is_calm=False)
            for worker in self.workers:
                worker.paused = False
            for _ in range(MAX_CALM_STEPS):
                if not await self._step(is_calm=True) and self._is_quiet():
                    break
            else:
                raise AssertionError("stuck")
            self._compare()
        finally:
            for worker in self.workers:
                await worker.die()

    def _write_events(self, count: int) -> None:
        random = self.random
        past: list[tuple[bytes | None, bytes | None]] = []
        for n in range(count):
            user = f"u{random.randrange(5)}"
            kind = random.random()
            if kind < 0.07 and past:
                record = random.choice(past)  # a client's retry
            elif kind < 0.12:
                record = (user.encode(), random.randbytes(random.randrange(40)) if random.random() < 0.8 else None)
            else:
                if kind < 0.17:
                    event = consent(user, random.choice([CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED]), n)
                elif kind < 0.25:
                    event = ordered(user, [f"p{random.randrange(7)}" for _ in range(4)], n)
                else:
                    event = viewed(user, f"p{random.randrange(7)}", n)
                record = (user.encode(), event.SerializeToString())
                past.append(record)
            self.broker.logs[NAMES.events, partition_of(record[0] or b"", self.broker.partitions)].append([record])

    # Steps ----------------------------------------------------------------------------------------------------------------

    async def _step(self, *, is_calm: bool) -> bool:
        """One step of one worker, or one fault; False if there was nothing to do."""
        for worker in self.workers:
            if worker.failure is not None:
                await self._end_of(worker)
        steps = self._faults() if not is_calm and self.random.random() < self._fault_rate else self._some_work(is_calm)
        if steps:
            outcome = self.random.choice(steps)()
            if outcome is not None:
                await outcome
        await asyncio.sleep(0)  # what was woken goes on, or is overtaken by the next step
        return bool(steps)

    async def _end_of(self, worker: Worker) -> None:
        failure = worker.failure
        if not isinstance(failure, ProduceError):
            raise failure or AssertionError
        self.counts["fenced" if isinstance(failure, FencedError) else "produce error"] += 1
        await worker.die()

    def _some_work(self, is_calm: bool) -> list[Callable[[], Any]]:
        """What the first worker that can do anything may do, drawn by lot."""
        for worker in self.random.sample(self.workers, len(self.workers)):
            if not worker.paused and (steps := self._work_of(worker, is_calm)):
                return steps
        return []

    def _work_of(self, worker: Worker, is_calm: bool) -> list[Callable[[], Any]]:
        steps: list[Callable[[], Any]] = [lambda i=i: self._open_gate(worker, i, is_calm) for i in range(len(worker.gates))]
        for owner in worker.owners.values():
            steps += [lambda o=owner, s=source: o.deliver(s) for source in owner.may_deliver()]
            if owner.may_rank():
                steps.append(owner.rank)
            if owner.may_commit():
                steps.append(owner.commit)
            if owner.leaving or not owner.is_current:
                steps.append(lambda o=owner: self._leave(worker, o, is_calm))
        for partition in range(self.broker.partitions):
            if partition not in worker.owners and not self._has_owner(partition):
                steps.append(lambda p=partition: self._assign(worker, p))
        return steps

    def _faults(self) -> list[Callable[[], Any]]:
        steps: list[Callable[[], Any]] = []
        for worker in self.workers:
            steps.append(lambda w=worker: self._kill(w))
            if worker.paused:
                steps.append(lambda w=worker: setattr(w, "paused", False))
                steps += [lambda o=owner: self._replace(o) for owner in worker.owners.values() if owner.is_current]
            elif len(self.workers) > 1:
                steps.append(lambda w=worker: self._pause(w))
                steps += [lambda o=owner: self._ask_to_leave(o) for owner in worker.owners.values() if owner.is_current]
                steps += [lambda o=owner: self._replace(o) for owner in worker.owners.values() if owner.is_current]
        return steps

    def _open_gate(self, worker: Worker, index: int, is_calm: bool) -> None:
        gate, effect = worker.gates.pop(index)
        if gate.done():
            return
        lot = self.random.random() if not is_calm else 1.0
        if lot < 0.01:
            gate.set_exception(ProduceError("the request was lost"))
            return
        try:
            result = effect()
        except ProduceError as exc:
            gate.set_exception(exc)
            return
        if lot < 0.02:
            gate.set_exception(ProduceError("the answer was lost"))
        else:
            gate.set_result(result)

    async def _kill(self, worker: Worker) -> None:
        self.counts["kill"] += 1
        await worker.die()
        if self.random.random() < 0.3:
            self.counts["lost disk"] += 1
            worker.disk.clear()

    def _pause(self, worker: Worker) -> None:
        self.counts["pause"] += 1
        worker.paused = True

    def _replace(self, owner: Owner) -> None:
        """The coordinator gives up on a member; it does not know yet: a zombie."""
        self.counts["zombie"] += 1
        self.broker.terms[owner.partition] += 1

    def _ask_to_leave(self, owner: Owner) -> None:
        self.counts["rebalance"] += 1
        owner.leaving = True

    async def _leave(self, worker: Worker, owner: Owner, is_calm: bool) -> None:
        """Revoked: what was read is finished first, if there is time."""
        if not owner.is_idle and not is_calm and self.random.random() < 0.9:
            return
        owner.commit()
        del worker.owners[owner.partition]
        await owner.stop()

    def _assign(self, worker: Worker, partition: int) -> None:
        worker.owners[partition] = Owner(worker, self.broker, partition, self.random, self.flaws)

    def _has_owner(self, partition: int) -> bool:
        return any(partition in w.owners and w.owners[partition].is_current for w in self.workers)

    # The end ----------------------------------------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        owners = [owner for worker in self.workers for owner in worker.owners.values()]
        return (
            len(owners) == self.broker.partitions
            and all(owner.is_current and owner.is_idle and not owner.leaving for owner in owners)
            and not any(worker.gates or worker.failure for worker in self.workers)
        )

    def _compare(self) -> None:
        broker, places = self.broker, range(self.broker.partitions)
        events, bad = [], set()
        for partition in places:
            for offset, (key, value) in enumerate(broker.logs[NAMES.events, partition].records):
                event = decode_event(value or b"", key, NOW_MS + offset)
                if isinstance(event, Violation):
                    bad.add((NAMES.events, partition, offset))
                else:
                    events.append((partition, offset, event))
        plain = plain_fold(events)
        self._compare_tables(plain)
        letters = [DeadLetter.FromString(value or b"") for p in places for _, value in broker.logs[NAMES.dead_letters, p].records]
        assert {(letter.topic, letter.partition, letter.offset) for letter in letters} == bad
        self._compare_lists(plain)
        for worker in self.workers:
            for (table, partition), database in worker.disk.items():
                log = broker.logs[NAMES.changelogs[table], partition].records
                assert database.values == _latest(log[: 0 if database.offset is None else database.offset + 1]), "a database is a prefix"
        for table in TABLES.values():
            for source in table.sources:
                for partition in places:
                    assert broker.committed.get((source, partition), 0) == len(broker.logs[source, partition].records)

    def _compare_tables(self, plain: PlainTables) -> None:
        broker, places = self.broker, range(self.broker.partitions)
        profiles = {p: broker.compacted("profiles", p) for p in places}
        shares = {p: decode_share(values.pop(SHARE_KEY)) for p, values in profiles.items() if SHARE_KEY in values}
        assert shares == plain.shares
        folded = {key.decode(): Profile.FromString(value) for values in profiles.values() for key, value in values.items()}
        assert {u: p.SerializeToString() for u, p in folded.items()} == {u: p.SerializeToString() for u, p in plain.profiles.items()}
        items = {key.decode(): decode_item(value) for p in places for key, value in broker.compacted("items", p).items()}
        assert items == plain.items
        self.profiles = folded

    def _compare_lists(self, plain: PlainTables) -> None:
        """Nobody is left with an old list, and the newest version of it is what the updates topic ends with."""
        broker, places = self.broker, range(self.broker.partitions)
        entries = {k.decode(): OutboxEntry.FromString(v) for p in places for k, v in broker.compacted("outbox", p).items()}
        assert entries.keys() == plain.profiles.keys()
        updates: dict[tuple[str, int], bytes] = {}
        for partition in places:
            for _, value in broker.logs[NAMES.updates, partition].records:
                update = RecommendationUpdate.FromString(value or b"")
                read = list_digest(update.recommendations).to_bytes(8, "big")
                assert updates.setdefault((update.user_id, update.version), read) == read, "a version is one list"
        held = {k.decode(): decode_held_neighbours(v) for p in places for k, v in broker.compacted("neighbours", p).items()}
        for user, entry in entries.items():
            ranked = rank(self.profiles[user], held.get(user, HeldNeighbours()), MODELS, NOW_MS, 5)
            assert entry.list_digest == list_digest(ranked), "an old list"
            newest = max((version for other, version in updates if other == user), default=0)
            assert entry.update.version == newest, "a receiver that ignores lower versions has another list"
            assert entry.deliveries[0].desired_version <= newest
