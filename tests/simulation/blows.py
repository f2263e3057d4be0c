"""What most runs begin with: one trouble at the moment at which it does the most harm, where faults drawn by lot come too seldom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import TYPE_CHECKING, assert_never

from app.engine.app import LEASE_SHARE
from app.errors import ProduceError
from tests.simulation.targets import TIMEOUT_MS, Targets
from tests.simulation.world import SESSION_MS

if TYPE_CHECKING:
    from tests.simulation.broker_clients import Gate
    from tests.simulation.process import Process
    from tests.simulation.scheduler import Simulation

#: While others go on, in which rankings, commits and answers come.
LATE_MS = 1_000
#: Longer than a rebalance waits for what is being written (the settings' request_timeout_seconds).
REBALANCE_MS = 12_000
#: From the first heartbeat that was missed to a lease that is good for a moment yet.
SILENT_MS = int(LEASE_SHARE * SESSION_MS) - 100
#: Looks at what can be done, while some time passes.
LOOKS = 6


class Trouble(Enum):
    """What befalls a worker when it asks something of the world."""

    DIES_BEFORE = auto()
    #: It has happened, and nobody knows.
    DIES_AFTER = auto()
    #: It is told that it failed, whether it did or not; of a write.
    IS_REFUSED = auto()
    #: For longer than its session; others take over.
    IS_FROZEN = auto()
    #: The coordinator has not heard of it for almost as long as its lease lasts; others take over before it is answered.
    OUTLIVES_ITS_LEASE = auto()
    #: What it asked for hangs for so long that a rebalance does not wait for it.
    IS_STUCK_IN_A_REBALANCE = auto()
    #: Targets do not answer in time.
    TIMES_OUT = auto()
    #: Before targets answer, something happens to the people it tells them about.
    IS_OVERTAKEN = auto()
    #: Before targets answer, others own them.
    IS_REVOKED_UNANSWERED = auto()


@dataclass(frozen=True)
class Blow:
    """Where (what is asked for begins so), and what."""

    at: str
    trouble: Trouble
    #: What hangs for a while before, while all else goes on.
    after: str = ""
    #: The least and the most that come before.
    records: tuple[int, int] = (2, 5)
    #: And after it, if the run does not go on by lot: what comes later heals much.
    records_after: tuple[int, int] = (0, 0)
    #: Up to so often what it strikes, or what hangs, is asked for before.
    passes: int = 0
    #: The part of the records that are consents.
    consents: float = 0.08

    def gates(self, place: str, process: Process) -> list[Gate]:
        """There, of a worker that works already, but for what it asks for before that."""
        if not (process.reader_runs or place in PLACES_BEFORE_WORK):
            return []
        return [gate for gate in process.gates if gate.label.startswith(place) and gate.is_open()]

    @property
    def needs_others(self) -> bool:
        """To take over."""
        return self.trouble in (Trouble.IS_FROZEN, Trouble.OUTLIVES_ITS_LEASE, Trouble.IS_REVOKED_UNANSWERED)


#: Two or three each of these, which take luck to be told by what follows.
EVENTS_UNRANKED = Blow("changelog profiles", Trouble.DIES_AFTER, records=(1, 3), consents=0.7)
REPLIES_UNRANKED = Blow("updates", Trouble.DIES_BEFORE, after="neighbours", records=(6, 9), consents=0.0)
OVERTAKEN = Blow("connects", Trouble.IS_OVERTAKEN, consents=0.3)
#: A row of seeds takes them in turn, so that each comes often enough whatever is drawn.
AIMED = (
    EVENTS_UNRANKED,  # with durable marks: replies would see to their ranking, which consents have none of
    REPLIES_UNRANKED,  # to events that are committed
    OVERTAKEN,  # a newer list, or a consent withdrawn, while a list is on its way
    Blow("changelog outbox", Trouble.DIES_BEFORE, after="changelog outbox", passes=1),  # what follows from events, not durable yet
    Blow("updates", Trouble.DIES_AFTER, records_after=(1, 2)),  # a version that was published, and nobody knows
    Blow("changelog", Trouble.IS_FROZEN, passes=5),  # a zombie's write
    EVENTS_UNRANKED,
    REPLIES_UNRANKED,
    OVERTAKEN,
    Blow("connects", Trouble.OUTLIVES_ITS_LEASE),  # a zombie's request
    Blow("changelog outbox", Trouble.IS_STUCK_IN_A_REBALANCE, passes=1),  # a mark that is not written
    REPLIES_UNRANKED,
    Blow("changelog", Trouble.IS_REFUSED, passes=5),
    Blow("connects", Trouble.TIMES_OUT),  # a request that may have come all the same
    Blow("connects", Trouble.IS_REVOKED_UNANSWERED),  # a mark whose request is on the wire
)
#: Then come so many with any trouble anywhere, and so many with none.
BLIND, WITHOUT = 2, 3
PLACES_BEFORE_WORK = "takes the next", "asks"
PLACES = (
    *PLACES_BEFORE_WORK, "connects", "commits", "visits", "neighbours", "updates",
    "changelog profiles", "changelog items", "changelog neighbours", "changelog outbox", "changelog products",
)  # fmt: skip


def blow_of(seed: int, random: Random) -> Blow | None:
    turn = seed % (len(AIMED) + BLIND + WITHOUT)
    if turn < len(AIMED):
        return AIMED[turn]
    if turn < len(AIMED) + BLIND:
        return Blow(random.choice(PLACES), random.choice(list(Trouble)), random.choice(("", "", *PLACES)), passes=3)
    return None


def strike(run: Simulation, blow: Blow) -> bool:
    """In peace, where ``blow`` is to fall first. False: it did not come to that."""
    if blow.after:
        if (found := _find(run, blow, blow.after)) is None:
            return False
        with _stuck(found[1]):
            _go_on(run, LATE_MS)
        if blow.at != blow.after:
            run.work_off_until(blow.at)
    found = _find(run, blow, blow.at)
    if found is None:
        return False
    run.counts["blow"] += 1
    _befall(run, *found, blow.trouble)
    return True


def _find(run: Simulation, blow: Blow, place: str) -> tuple[Process, Gate] | None:
    return next(((w.process, gate) for w in run.workers if w.process is not None for gate in blow.gates(place, w.process)), None)


def _befall(run: Simulation, process: Process, gate: Gate, trouble: Trouble) -> None:
    world = run.world
    match trouble:
        case Trouble.DIES_BEFORE:
            run.kill(run.worker_of(process), process)
        case Trouble.DIES_AFTER:
            world.note(process.name, gate.label)
            with suppress(ProduceError):
                gate.effect()
            gate.has_happened = True
            run.kill(run.worker_of(process), process)
        case Trouble.IS_REFUSED:
            if gate.is_write:
                if run.random.random() < 0.5:
                    with suppress(ProduceError):
                        gate.effect()
                run.refuse(process, gate, "nobody knows what came of it")
                run.work_off()
        case Trouble.IS_FROZEN:
            run.pause(process)
            run.pass_time(SESSION_MS + 1_000)
            run.write()
            _go_on(run, 600)
        case Trouble.OUTLIVES_ITS_LEASE:
            world.note(process.name, f"was not heard of by the coordinator for {SILENT_MS} ms")
            process.is_cut_off = True
            process.heartbeat_at_ms = world.elapsed_ms - SILENT_MS
            world.group.members[process] = process.heartbeat_at_ms
            with _stuck(gate):
                run.pass_time(SESSION_MS - SILENT_MS + 1)
                _go_on(run, 200)
            run.work_off()
        case Trouble.IS_STUCK_IN_A_REBALANCE:
            world.group.rebalance()
            with _stuck(gate):
                _go_on(run, REBALANCE_MS)
        case Trouble.TIMES_OUT:
            with _silent(run.targets):
                _go_on(run, TIMEOUT_MS + 1_000)
        case Trouble.IS_OVERTAKEN:
            run.write()
            with _silent(run.targets):
                for _ in range(3):
                    _go_on(run, 300)
                    run.write()
        case Trouble.IS_REVOKED_UNANSWERED:
            with _silent(run.targets):
                for _ in range(3):  # whoever comes to own it is drawn by lot
                    run.work_off()
                    world.group.rebalance()
                    _go_on(run, 600)
        case _:
            assert_never(trouble)


def _go_on(run: Simulation, milliseconds: int) -> None:
    """All that can be done is done, while so much time passes."""
    for _ in range(LOOKS):
        run.work_off()
        run.pass_time(milliseconds // LOOKS)
    run.work_off()


@contextmanager
def _stuck(gate: Gate) -> Iterator[None]:
    gate.is_stuck = True
    try:
        yield
    finally:
        gate.is_stuck = False


@contextmanager
def _silent(targets: Targets) -> Iterator[None]:
    targets.are_silent = True
    try:
        yield
    finally:
        targets.are_silent = False
