"""What is done to whom, and when: a schedule of faults that a seed decides. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

#: Those that are there from the start.
WORKERS = ("a", "b", "c")
#: Comes, and goes again.
NEWCOMER = "d"
#: Clients whose members do not answer for so long lose their partitions; the same as tests/e2e/fleet.py's.
SESSION_SECONDS = 6
#: Between the end of one fault of a worker and its next.
WORKER_REST_SECONDS = 1.0
#: Between the end of one fault of the brokers and the next: a broker that comes back needs a while to have everything again.
BROKER_REST_SECONDS = 8.0
#: Of the three workers, so many at most are disturbed at a time.
MAX_DISTURBED = 2
#: Above one hour Kafka refuses what a worker writes: its clock may not be further ahead of the broker's.
CLOCK_JUMPS_SECONDS = (-3000, -600, -45, 45, 600, 3000)


class Kind(StrEnum):
    """What may be done. The value is what the time line says."""

    KILL = "SIGKILL, started again at once"
    LEAVE = "SIGTERM, and comes back"
    LOSE = "SIGKILL, and comes back without its data"
    JOIN = "joins, and leaves with SIGTERM"
    PAUSE_SHORT = "SIGSTOP, below the session time-out"
    PAUSE_LONG = "SIGSTOP, above the session time-out"
    CUT = "network: connections broken off, new ones refused"
    BLACKHOLE = "network: nothing comes through"
    DISK_FULL = "disk full"
    CLOCK = "clock set wrong"
    BROKER_STOP = "broker: SIGTERM"
    BROKER_KILL = "broker: SIGKILL"
    BROKER_PAUSE = "broker: SIGSTOP"


class Broker(StrEnum):
    """Which one of the brokers: found out when the time has come."""

    COORDINATOR = "the group's coordinator"
    LEADER = "the leader of most partitions"
    ANY = "any broker"


BROKER_KINDS = frozenset({Kind.BROKER_STOP, Kind.BROKER_KILL, Kind.BROKER_PAUSE})

#: How long each lasts, from and to, in seconds.
HOLD_SECONDS: dict[Kind, tuple[float, float]] = {
    Kind.KILL: (0, 0),
    Kind.LEAVE: (0, 6),
    Kind.LOSE: (1, 6),
    Kind.JOIN: (8, 14),
    Kind.PAUSE_SHORT: (1, SESSION_SECONDS - 2),
    Kind.PAUSE_LONG: (1.5 * SESSION_SECONDS, 3 * SESSION_SECONDS),
    Kind.CUT: (2, 2 * SESSION_SECONDS),
    Kind.BLACKHOLE: (2, 2.5 * SESSION_SECONDS),
    Kind.DISK_FULL: (4, 8),
    Kind.CLOCK: (5, 12),
    Kind.BROKER_STOP: (3, 10),
    Kind.BROKER_KILL: (0, 12),
    Kind.BROKER_PAUSE: (3, 14),
}


@dataclass(frozen=True)
class Step:
    """One fault. ``whom``: a worker, or which broker. ``amount``: seconds by which a clock jumps; which one ``Broker.ANY`` is (0, 1, 2)."""

    at_seconds: float
    kind: Kind
    whom: str
    hold_seconds: float
    amount: int = 0

    @property
    def until_seconds(self) -> float:
        return self.at_seconds + self.hold_seconds

    @property
    def is_of_broker(self) -> bool:
        return self.kind in BROKER_KINDS

    def __str__(self) -> str:
        held = f" for {self.hold_seconds:.1f} s" if self.hold_seconds else ""
        by = f" by {self.amount:+d} s" if self.kind is Kind.CLOCK else ""
        return f"{self.whom}: {self.kind}{by}{held}"


#: What a short run consists of: a process that is gone, one that wakes up late, a way that is cut, and a broker that hands over.
SHORT_KINDS = (Kind.KILL, Kind.PAUSE_LONG, Kind.CUT, Kind.BROKER_STOP)
SHORT_SECONDS = 12.0


def short_schedule(seed: int) -> tuple[Step, ...]:
    """One step of each of SHORT_KINDS, begun and over within SHORT_SECONDS. Who is killed is cut off when it has come back."""
    chance = random.Random(seed)
    killed, paused = chance.sample(WORKERS, 2)
    pause = Step(chance.uniform(0.5, 2.5), Kind.PAUSE_LONG, paused, HOLD_SECONDS[Kind.PAUSE_LONG][0])
    kill = Step(chance.uniform(0.5, 2.5), Kind.KILL, killed, 0)
    cut = Step(chance.uniform(6, 8), Kind.CUT, killed, chance.uniform(2, 4))
    stop = Step(chance.uniform(3, 5), Kind.BROKER_STOP, chance.choice(list(Broker)), 3, chance.randrange(3))
    return tuple(sorted((pause, kill, cut, stop), key=lambda step: step.at_seconds))


def schedule(seed: int, seconds: float, kinds: Collection[Kind] = tuple(Kind)) -> tuple[Step, ...]:
    """Steps in the order of their time; the last begins before ``seconds``. Each kind comes once before any comes again.

    A worker, and the brokers as a whole, suffer one thing at a time, and at most MAX_DISTURBED of the first workers do.
    """
    chance = random.Random(seed)
    #: Only one worker's clock can be changed: it is slower for it.
    clocked = chance.choice(WORKERS)
    # A lane for the workers and one for the brokers, whose faults are longer: neither waits for the other.
    of_workers = _Lane(seconds, [kind for kind in Kind if kind in kinds and kind not in BROKER_KINDS], chance)
    of_brokers = _Lane(seconds, [kind for kind in Kind if kind in kinds and kind in BROKER_KINDS], random.Random(f"{seed}, brokers"))
    return tuple(sorted([*of_workers.steps(clocked), *of_brokers.broker_steps()], key=lambda step: step.at_seconds))


class _Lane:
    def __init__(self, seconds: float, kinds: Sequence[Kind], chance: random.Random) -> None:
        self._seconds = seconds
        self._kinds = kinds
        self._chance = chance

    def steps(self, clocked: str) -> list[Step]:
        chance, steps, at = self._chance, list[Step](), 0.0
        for kind in self._deal():
            at += chance.uniform(0.3, 3)
            whom = NEWCOMER if kind is Kind.JOIN else clocked if kind is Kind.CLOCK else chance.choice(_at_rest(steps, at) or WORKERS)
            amount = chance.choice(CLOCK_JUMPS_SECONDS) if kind is Kind.CLOCK else 0
            step = Step(at, kind, whom, chance.uniform(*HOLD_SECONDS[kind]), amount)
            while not _has_room(steps, step):
                at += 0.5
                step = Step(at, kind, whom, step.hold_seconds, amount)
            if at >= self._seconds:
                return steps
            steps.append(step)
        return steps

    def broker_steps(self) -> list[Step]:
        chance, steps, at = self._chance, list[Step](), self._chance.uniform(1, 6)
        for kind in self._deal():
            step = Step(at, kind, chance.choice(list(Broker)), chance.uniform(*HOLD_SECONDS[kind]), chance.randrange(3))
            if at >= self._seconds:
                return steps
            steps.append(step)
            at = step.until_seconds + BROKER_REST_SECONDS + chance.uniform(0, 4)
        return steps

    def _deal(self) -> Iterator[Kind]:
        while self._kinds:
            yield from self._chance.sample(self._kinds, len(self._kinds))


def _at_rest(steps: Sequence[Step], at: float) -> list[str]:
    return [name for name in WORKERS if all(step.whom != name or step.until_seconds + WORKER_REST_SECONDS <= at for step in steps)]


def _has_room(steps: Sequence[Step], new: Step) -> bool:
    """``new`` begins after all of ``steps``."""
    if any(step.whom == new.whom and step.until_seconds + WORKER_REST_SECONDS > new.at_seconds for step in steps):
        return False
    disturbed = {step.whom for step in steps if step.whom != NEWCOMER and step.until_seconds > new.at_seconds}
    return new.whom == NEWCOMER or len(disturbed | {new.whom}) <= MAX_DISTURBED
