"""The scheduler: from a seed, an order of steps and faults over a fleet, then calm until nothing is left to do, then the comparison."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from faust.types import TP

from app.errors import BrokerError, FencedError, ProduceError
from tests.simulation.blows import blow_of, strike
from tests.simulation.broker_clients import Gate
from tests.simulation.flaws import Flaws
from tests.simulation.oracle import compare
from tests.simulation.process import Process
from tests.simulation.script import record_of
from tests.simulation.sizes import size_of
from tests.simulation.stand_ins import SimDatabase
from tests.simulation.targets import Exchange, Receiver, Targets
from tests.simulation.world import MAX_SKEW_MS, SESSION_MS, World

#: Rounds in calm after which a run counts as stuck; runs take up to 150.
MAX_CALM_ROUNDS = 500
#: In calm, where nothing is left to do but to wait: so long up to the so-manieth time, then for hours.
CALM_WAITS_MS = (1, 300), (4, 1_000), (6, 5_000), (12, 30_000)
#: Of one process at once; it comes to rest after some dozens.
MOST_CALLBACKS = 300
NO_FLAWS = Flaws()
#: Runs that go on by lot after their blow, and do not calm down at once.
GOES_ON = 0.3
#: Enough for its place to be come by.
PEACEFUL_STEPS_BEFORE_A_BLOW = 250
#: Between what hangs and the blow: some rankings and requests.
ROUNDS_UNTIL = 5
#: After so long every share that has grown was published (process.py).
SHARES_MS = 5_100

#: With something on its way, or right before: else most faults would come while little goes on. The empty one is nothing of the kind.
PEACE_ENDS_AT = "", *["connects"] * 4, *["changelog outbox"] * 2, "commits", "visits", "neighbours", "takes the next"

Step = tuple[Callable[..., Any], Any, Any]


class Worker:
    """A place where processes live one after the other: a name, and a disk."""

    def __init__(self, name: str, skew_ms: int) -> None:
        self.name = name
        self.skew_ms = skew_ms
        self.disk: dict[tuple[str, int], SimDatabase] = {}
        self.process: Process | None = None


class Simulation:
    """One run. ``world.counts`` says how often each fault happened, so that a test can see that they do."""

    def __init__(self, seed: int, flaws: Flaws = NO_FLAWS) -> None:
        self.random = random = Random(seed)
        self.flaws = flaws
        size = size_of(random)
        self.world = World(random, size)
        self.targets = Targets(self.world)
        self._blow = blow_of(seed, random)
        if self._blow is not None:
            self.world.consents = self._blow.consents
        workers = max(random.choice(size.workers), 2 if self._blow is not None and self._blow.needs_others else 1)
        self.workers = [Worker(f"w{n}", random.randint(-MAX_SKEW_MS, MAX_SKEW_MS)) for n in range(workers)]
        #: Who may do something: the workers, and the world.
        self._places: list[Worker | None] = [*self.workers, None]
        #: How often somebody does all that can be done, and not one step.
        self._haste = random.choice(size.haste)
        self._records_left = random.randint(*size.records)
        self._number = 0
        self._fault_rate = random.choice(size.fault_rates)
        #: Of an effect upon the world, that whoever asked for it dies with it.
        self._crash_rate = random.choice([0.0, 0.03, 0.08])
        #: That whoever is about to write, or to send, is frozen or cut off, and replaced.
        self._freeze_rate = random.choice([0.0, 0.02, 0.04])
        #: Writes of processes that are dead: they arrive yet, or never.
        self._orphans: list[tuple[Process, Gate]] = []
        #: Dead, but not to be collected before the end: nothing of theirs may run, not even what is to run at the end of a coroutine.
        self._graveyard: list[Process] = []
        self._idle_looks = 0
        #: What somebody is about to do when the first fault may come, and how often they may do it before.
        self._peace_ends_at = random.choice(PEACE_ENDS_AT) if self._blow is None else self._blow.after or self._blow.at
        self._peaceful_passes = random.choice([0, 0, 1, 2]) if self._blow is None else random.randint(0, self._blow.passes)

    @property
    def counts(self) -> Counter[str]:
        return self.world.counts

    def run(self) -> None:
        """Raises AssertionError, or what the code under test raised, when something does not hold."""
        if self._begin():
            for _ in range(self.random.randint(*self.world.size.steps)):
                self._step()
        self._calm_down()
        self._go_on_until_quiet()
        if self.world.has_shares:
            self.pass_time(SHARES_MS)
            self._go_on_until_quiet()
        compare(self.world, self.targets, self.workers)

    def _begin(self) -> bool:
        """Everybody joins in peace, and some records come: what can go wrong before anything is done goes wrong later, too. Returns whether
        the run goes on by lot: there was no blow, or that was not all.
        """
        later, self._records_left, self.world.is_calm = self._records_left, self.random.choice([0, 1, 1, 2]), True
        self.world.group.awaited = len(self.workers)
        steps = self.random.choice(self.world.size.peaceful_steps)
        if self._blow is not None:
            self._records_left, steps = self.random.randint(*self._blow.records), PEACEFUL_STEPS_BEFORE_A_BLOW
        most = self.world.steps + steps + self.random.randrange(steps // 2 + 1)
        while self.world.steps < most and self._peaceful_passes >= 0:
            self.work_off(most=most)
            self.world.steps += 1
            self.pass_time(100)
        self._peace_ends_at, self._peaceful_passes, self.world.group.awaited = "", 0, 0
        is_struck = self._blow is not None and strike(self, self._blow)
        self._records_left, self.world.is_calm = later, False
        if self._blow is None or not is_struck or self.random.random() < GOES_ON:
            return True
        self._records_left = self.random.randint(*self._blow.records_after)
        return False

    def _is_where_peace_ends(self, process: Process, gates: Sequence[Gate]) -> bool:
        place, blow = self._peace_ends_at, self._blow
        if blow.gates(place, process) if blow is not None else any(gate.label.startswith(place) for gate in gates):
            self._peaceful_passes -= 1
        return self._peaceful_passes < 0

    def work_off_until(self, place: str) -> None:
        """In peace, if it comes to that within a while."""
        self._peace_ends_at = place
        for _ in range(ROUNDS_UNTIL):
            self.work_off()
            if self._peaceful_passes < 0:
                break
            self.pass_time(100)
        self._peace_ends_at, self._peaceful_passes = "", 0

    def _go_on_until_quiet(self) -> None:
        for _ in range(MAX_CALM_ROUNDS):
            self.work_off()
            if self._is_quiet():
                return
            self._wait_long()
        raise AssertionError(f"stuck: {self._what_waits()}")

    def _what_waits(self) -> str:
        group = self.world.group
        said = [f"rebalancing: {group.is_rebalancing}"]
        for worker in self.workers:
            process = worker.process
            if process is None or (process in group.members and process.is_idle):
                continue
            gates = [gate.label for gate in process.gates if gate.is_open()]
            lanes = {line.name: line.lane.users() for line in process.deliverer._lines}
            undecided = {tuple(queue[0].tp): len(queue) for queue in process.app.consumer.delivered()}
            said.append(f"{worker.name}: rejoins {process.is_rejoining}, gates {gates}, due {lanes}, not acknowledged {undecided}")
        return "; ".join(said)

    # Steps ------------------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self.world.steps += 1
        lot, steps = self.random.random(), list[Step]()
        if self.random.random() < self._fault_rate:
            steps = self._faults()
        elif lot < self._haste:
            self._do_all(self.random.choice(self._places))
        elif lot > 0.6 or not self._run_somebody():
            steps = self._steps()
        if steps:
            act, first, second = self.random.choice(steps)
            act(first, second)
        self._look()

    def work_off(self, places: Sequence[Worker | None] | None = None, most: float = math.inf) -> None:
        """In calm: all that can be done, until there is nothing left to do but to wait, or up to so many steps since the run began."""
        for _ in range(MAX_CALM_ROUNDS):
            is_busy = False
            for worker in self._places if places is None else places:
                is_busy |= self._do_all(worker) if worker is None or worker.process is None else self._run_on(worker.process, most)
            if not is_busy or self.world.steps >= most or self._peaceful_passes < 0:
                return

    def _run_on(self, process: Process, most: float) -> bool:
        """The same of one process."""
        for round_ in range(MAX_CALM_ROUNDS):
            if process.is_dead or process.is_paused or self.world.steps >= most:
                return round_ > 0
            self.world.steps += 1
            if process.loop.has_ready:
                process.loop.run(MOST_CALLBACKS)
                self._look()
            elif gates := [gate for gate in process.gates if gate.is_open()]:
                if self._peace_ends_at and self._is_where_peace_ends(process, gates):
                    return round_ > 0
                for gate in gates:
                    if gate.is_open():
                        self._open(process, gate)
            elif steps := self._steps_without_gates(process):
                for act, first, second in steps:
                    act(first, second)
            else:
                return round_ > 0
        raise AssertionError(f"{process.name} never comes to rest")

    def _do_all(self, worker: Worker | None) -> bool:
        """All that somebody can do at once; False: nothing."""
        process = None if worker is None else worker.process
        is_busy = process is not None and not process.is_paused and process.loop.has_ready
        if is_busy:
            assert process is not None
            self._run_loop(process, MOST_CALLBACKS)
            self._look()
        for act, first, second in self._steps_of(worker):
            if act != self._wait and act != self._run and (process is None or not process.is_dead):
                act(first, second)
                is_busy = True
        return is_busy

    def _run_somebody(self) -> bool:
        ready = [w.process for w in self.workers if w.process is not None and not w.process.is_paused and w.process.loop.has_ready]
        if ready:
            self._run(ready[0] if len(ready) == 1 else self.random.choice(ready), None)
        return bool(ready)

    def _look(self) -> None:
        """After each step: whether something was seen that must not be, and who has died of itself."""
        if self.world.violation is not None:
            raise AssertionError(self.world.violation)
        for worker in self.workers:
            process = worker.process
            if process is not None and process.failure is not None:
                self._bury_failed(worker, process, process.failure)
            elif process is not None and process.is_over:
                self._bury(worker, process)

    def _bury_failed(self, worker: Worker, process: Process, failure: BaseException) -> None:
        if not isinstance(failure, ProduceError | BrokerError):
            raise failure
        self.counts["fenced" if isinstance(failure, FencedError) else "produce error"] += 1
        self.world.note(worker.name, f"ends itself: {failure!r}")
        self._bury(worker, process)

    def _steps(self) -> list[Step]:
        """What somebody, drawn by lot, may do next without anybody's fault."""
        for worker in self.random.sample(self._places, len(self._places)):
            if steps := self._steps_of(worker):
                return steps
        return []

    def _steps_of(self, worker: Worker | None) -> list[Step]:
        """None: of the world."""
        steps: list[Step] = []
        if worker is None:
            self._add_steps_of_the_world(steps)
        elif worker.process is None:
            steps.append((self._start, worker, None))
        else:
            self._add_steps_of(worker.process, steps)
        return steps

    def _add_steps_of_the_world(self, steps: list[Step]) -> None:
        for receiver, exchange in self.targets.exchanges:
            if exchange.response is None:
                if not exchange.is_late or self.world.is_calm or exchange.process.was_replaced:
                    steps.append((self._arrive, receiver, exchange))
            elif not exchange.process.is_paused:
                steps.append((self._answer, receiver, exchange))
        steps += [(self._land, process, gate) for process, gate in self._orphans if self._may_go_on(process, gate)]
        if self._records_left:
            steps.append((self.write, None, None))
        if not self.world.is_calm:
            steps.append((self._wait, None, None))

    def _add_steps_of(self, process: Process, steps: list[Step]) -> None:
        gates = [gate for gate in process.gates if gate.is_open() and self._may_go_on(process, gate)]
        if len(gates) > 1 and not process.is_paused and (self.world.is_calm or self.random.random() < 0.6):
            steps.append((self._open_all, process, None))
        else:
            steps += [(self._open, process, gate) for gate in gates]
        if process.is_paused:
            if process.was_replaced:
                steps.append((self._resume, process, None))
            return
        if process.loop.has_ready:
            steps += [(self._run, process, None)] * 3
        steps += self._steps_without_gates(process)

    def _steps_without_gates(self, process: Process) -> list[Step]:
        steps: list[Step] = []
        if process.is_assigned:
            steps.append((self._assign, process, None))
        elif process.has_news:
            steps.append((self._tell_of_rebalance, process, None))
        reader = process.app.reader
        if reader is None:
            return steps
        logs = self.world.logs
        for tp, position in reader.positions.items():
            if position < len(logs[tp[0], tp[1]].records) and process.app.has_room(tp):
                steps.append((self._hand_out, process, tp))
        if process.app.consumer.may_commit and not process.is_rejoining:
            steps.append((self._commit, process, None))
        return steps

    def _may_go_on(self, process: Process, gate: Gate) -> bool:
        return not (process.is_paused and gate.has_happened) and (not gate.is_late or self.world.is_calm or process.was_replaced)

    def _run(self, process: Process, _: None) -> None:
        """Its event loop goes round: to where nothing is ready, or not so far."""
        self._run_loop(process, MOST_CALLBACKS if self.random.random() < 0.6 else self.random.randint(1, 12))

    def _run_loop(self, process: Process, most: int) -> None:
        process.loop.run(most)
        if process.is_paused:
            self.counts["freeze"] += 1
            self.world.note(process.name, "is frozen in the middle of a step")
            if self.random.random() < 0.8 and len(self.workers) > 1:
                self._let_others_take_over(process)

    def _open(self, process: Process, gate: Gate) -> None:
        """The world does what it was asked, or answers, or both, or neither."""
        if gate.future.done():  # whoever asked was cancelled
            process.gates.remove(gate)
            if gate.is_write and not gate.has_happened:
                self._land_or_not(gate)
            return
        lot = 1.0 if self.world.is_calm else self.random.random()
        if lot < self._freeze_rate * gate.dearness and not gate.has_happened and process.reader_runs and len(self.workers) > 1:
            self._replace(process, None)  # about to write, or to send
            return
        if not gate.has_happened:
            if gate.is_write and lot < 0.006:
                self.refuse(process, gate, "the request was lost")
                return
            try:
                gate.outcome = gate.effect()
            except ProduceError as exc:
                self.refuse(process, gate, exc)
                return
            gate.has_happened = True
            if not gate.label.startswith("reads"):  # of which there are many, and they change nothing
                self.world.note(process.name, gate.label)
            if gate.is_write and not self.world.is_calm and self.random.random() < self._crash_rate * gate.dearness:
                self.kill(self.worker_of(process), process)
                return
            if gate.is_write and lot < 0.012:
                self.refuse(process, gate, "the answer was lost")
                return
            if process.is_paused or 0.7 < lot < 1.0:
                return  # the answer is on its way
        process.gates.remove(gate)
        gate.future.set_result(gate.outcome)

    def _open_all(self, process: Process, _: None) -> None:
        """What is asked for at once is mostly answered at once."""
        gates = [gate for gate in process.gates if gate.is_open() and self._may_go_on(process, gate)]
        for gate in self.random.sample(gates, len(gates)):
            if not process.is_dead and gate in process.gates and gate.is_open():
                self._open(process, gate)

    def refuse(self, process: Process, gate: Gate, why: str | ProduceError) -> None:
        process.gates.remove(gate)
        exc = why if isinstance(why, ProduceError) else ProduceError(why)
        self.world.note(process.name, f"fails: {gate.label}: {exc}")
        if gate.label.startswith("commits"):
            gate.future.set_result(None)  # as Faust does: the next one comes
        else:
            gate.future.set_exception(exc)

    def _assign(self, process: Process, _: None) -> None:
        partitions = sorted(self.world.group.actives.get(process, ()))
        self.world.note(process.name, f"is assigned {partitions} in generation {self.world.group.generation}")
        process.get_assignment()

    def _tell_of_rebalance(self, process: Process, _: None) -> None:
        self.world.note(process.name, "hears of a rebalance")
        process.hear_of_rebalance()

    def _hand_out(self, process: Process, tp: TP) -> None:
        count = self.random.randint(1, 8)
        self.world.note(process.name, f"reads {tp.topic.split('.')[1]}/{tp.partition} on by up to {count}")
        process.app.hand_out(tp, count)

    def _commit(self, process: Process, _: None) -> None:
        with process.loop.entered():
            process.begin(process.app.consumer.commit())

    def _arrive(self, receiver: Receiver, exchange: Exchange) -> None:
        self.world.note(receiver.name, receiver.arrive(exchange))
        process = exchange.process
        if not self.world.is_calm and not process.is_dead and self.random.random() < self._crash_rate:
            self.kill(self.worker_of(process), process)

    def _answer(self, receiver: Receiver, exchange: Exchange) -> None:
        receiver.exchanges.remove(exchange)
        if not exchange.answer.done() and not exchange.process.is_dead:
            exchange.answer.set_result(exchange.response)  # type: ignore[arg-type]  # it has arrived

    def _land(self, process: Process, gate: Gate) -> None:
        self._orphans.remove((process, gate))
        self._land_or_not(gate)

    def _land_or_not(self, gate: Gate) -> None:
        """What was on its way when nobody waited for it any more."""
        if self.random.random() < 0.6:
            try:
                gate.effect()
                self.world.note("nobody", f"late: {gate.label}")
            except ProduceError as exc:
                self.world.note("nobody", f"too late: {gate.label}: {exc}")

    def write(self, *_: None) -> None:
        """Somebody does something."""
        self._records_left = max(0, self._records_left - 1)
        self._number += 1
        topic, partition, record = record_of(self.world, self._number, list(self.targets.receivers))
        self.world.append(topic, partition, [record])
        self.world.note("outside", f"{topic.split('.')[1]}/{partition} += {record[0]!r}")

    def _wait(self, *_: None) -> None:
        waits = [exchange.deadline_ms + 1 for _, exchange in self.targets.exchanges]
        if waits and self.random.random() < 0.2:
            self.pass_time(max(1, max(waits) - self.world.elapsed_ms))  # until nobody waits for an answer any more
        else:
            self.pass_time(self.random.choice([1, 1, 10, 10, 50, 100, 200, 500, 3000]))

    def _wait_long(self) -> None:
        """Nothing happens before some time has passed."""
        self._idle_looks += 1
        self.pass_time(next((ms for looks, ms in CALM_WAITS_MS if self._idle_looks <= looks), 3_600_000))

    def pass_time(self, milliseconds: int) -> None:
        self._beat()
        self.world.elapsed_ms += milliseconds
        self._beat()
        self.world.group.expel_silent()
        self.targets.pass_time()

    def _beat(self) -> None:
        """Who lives and is reached is heard of."""
        world = self.world
        for process in world.group.members:
            if not (process.is_paused or process.is_cut_off or process.is_dead):
                process.heartbeat_at_ms = world.group.members[process] = world.elapsed_ms

    # Life and death -----------------------------------------------------------------------------------------------------------

    def _start(self, worker: Worker, _: None) -> None:
        self.world.note(worker.name, "starts")
        worker.process = Process(worker.name, self.world, worker.disk, self.targets, self.flaws, worker.skew_ms)

    def worker_of(self, process: Process) -> Worker:
        return next(worker for worker in self.workers if worker.process is process)

    def _bury(self, worker: Worker, process: Process) -> None:
        """Memory is gone, the disk stays; what it sent may arrive yet. The coordinator hears nothing more of it."""
        worker.process = None
        process.is_dead = True
        for gate in process.gates:
            if gate.is_write and not gate.has_happened:
                gate.is_late = self.random.random() < 0.7
                self._orphans.append((process, gate))
        self._graveyard.append(process)

    # Faults -------------------------------------------------------------------------------------------------------------------

    def _faults(self) -> list[Step]:
        steps: list[Step] = [(self._repeat, None, None), (self._rebalance, None, None), (self._wait_for_session, None, None)]
        for worker in self.workers:
            process = worker.process
            if process is None:
                continue
            steps += [(self.kill, worker, process)] * 3
            if process.is_paused:
                steps.append((self._resume, process, None))
            else:
                steps += [(self.pause, process, None), (self._replace, process, None)]
                if any(gate.is_write or gate.label.startswith("connects") for gate in process.gates):
                    steps += [(self._replace, process, None)] * 3  # with something on its way
            if process.is_cut_off:
                steps.append((self._reach, process, None))
            else:
                steps += [(self._cut_off, process, None)] * 2
            if not process.is_leaving and not process.is_paused:
                steps.append((self._stop, process, None))
        return steps

    def kill(self, worker: Worker, process: Process) -> None:
        self.counts["kill"] += 1
        self.world.note(worker.name, "is killed")
        self._bury(worker, process)
        if self.random.random() < 0.25:
            self.counts["lost disk"] += 1
            self.world.note(worker.name, "loses its disk")
            worker.disk.clear()

    def pause(self, process: Process, _: None = None) -> None:
        self.counts["pause"] += 1
        self.world.note(process.name, "is frozen")
        process.is_paused = True

    def _replace(self, process: Process, _: None) -> None:
        """Not heard of for longer than its session: others take over, while what it had on its way lands, or waits for it to wake up."""
        if self.random.random() < 0.6:
            self.pause(process)
        else:
            self._cut_off(process, None)
            self.write()
        self._let_others_take_over(process)

    def _let_others_take_over(self, process: Process) -> None:
        for gate in process.gates:
            gate.is_late = self.random.random() < 0.7
        self.pass_time(SESSION_MS + 1_000 if process.is_paused else self.random.choice([200, SESSION_MS]))
        others = [worker for worker in self._places if worker is None or worker.process is not process]
        self.world.is_calm = self.random.random() < 0.7
        for _ in range(self.random.choice([0, 1, 3]) if self.world.is_calm else self.random.choice([0, 10])):
            self.pass_time(100)
            if self.world.is_calm:
                self.work_off(others)
            else:
                for worker in self.random.sample(others, len(others)):
                    self._do_all(worker)
            self._look()
        self.world.is_calm = False

    def _resume(self, process: Process, _: None) -> None:
        if process not in self.world.group.members:
            self.counts["zombie"] += 1
        self.world.note(process.name, "wakes up")
        process.wake()

    def _cut_off(self, process: Process, _: None) -> None:
        """Of the coordinator alone: it goes on writing and sending."""
        self.counts["cut off"] += 1
        self.world.note(process.name, "is not heard of by the coordinator any more")
        process.is_cut_off = True
        self.pass_time(self.random.choice([0, 0, SESSION_MS * 2 // 3, SESSION_MS - 1_000, SESSION_MS - 200]))

    def _reach(self, process: Process, _: None) -> None:
        self.world.note(process.name, "reaches the coordinator again")
        process.is_cut_off = False

    def _stop(self, process: Process, _: None) -> None:
        self.counts["stop"] += 1
        self.world.note(process.name, "is told to stop")
        process.stop()

    def _rebalance(self, *_: None) -> None:
        self.counts["rebalance"] += 1
        self.world.note("group", "is to rebalance")
        self.world.group.rebalance()

    def _wait_for_session(self, *_: None) -> None:
        """Long enough for leases, marks or sessions to end."""
        self.counts["long wait"] += 1
        self.pass_time(self.random.choice([8_000, 11_000, 16_000, 30_000]))
        self.world.note("time", "passes")

    def _repeat(self, *_: None) -> None:
        """A record of a topic that workers read comes once more, behind the others."""
        places = [place for place, log in self.world.logs.items() if log.records and place[0] in self._repeatable]
        if places:
            self.counts["repeat"] += 1
            topic, partition = self.random.choice(places)
            key, value, _ = self.random.choice(self.world.logs[topic, partition].records)
            self.world.append(topic, partition, [(key, value)])
            self.world.note("outside", f"{topic.split('.')[1]}/{partition} += {key!r}, once more")

    @property
    def _repeatable(self) -> tuple[str, ...]:
        names = self.world.names
        return names.events, names.visits, names.neighbours, names.products, names.delivery_commands

    # The end ------------------------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        self.world.note("all", "calm down")
        self.world.is_calm = True
        self.world.group.awaited = len(self.workers)
        for receiver in self.targets.receivers.values():
            receiver.is_kind = True
        for worker in self.workers:
            if worker.process is not None:
                worker.process.wake()
                worker.process.is_cut_off = False

    def _is_quiet(self) -> bool:
        if self._records_left or self._orphans or self.world.group.is_rebalancing or not self.targets.is_quiet:
            return False
        processes = [worker.process for worker in self.workers]
        if not all(process is not None and process in self.world.group.members and process.is_idle for process in processes):
            return False
        logs, committed = self.world.logs, self.world.committed
        sources = processes[0].app.sources if processes[0] is not None else {}
        return all(committed.get((s, p), 0) == len(logs[s, p].records) for s in sources for p in range(self.world.partitions))
