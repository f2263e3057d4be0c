"""What no worker's death touches: the broker's logs, the group and its coordinator, the clock, and the journal of what was done."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from app.errors import FencedError
from app.streams.topics import TABLES, TopicNames
from tests.agents.worlds import NAMES, NOW_MS
from tests.simulation.sizes import Size

if TYPE_CHECKING:
    from tests.simulation.process import Process

#: The coordinator gives up on a member that it has not heard of for so long (the settings' default).
SESSION_MS = 15_000
#: How wrong a worker's clock is: marks allow for clocks that differ by three seconds (app/delivery/claim.py).
MAX_SKEW_MS = 1_000
#: Steps that a failure shows.
JOURNAL_STEPS = 60

KeyValue = tuple[bytes | None, bytes | None]


class Log:
    """One partition of a topic, and the newest epoch that it has seen."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None, int]] = []
        #: What compaction would leave.
        self.latest: dict[bytes, bytes] = {}
        self.epoch = 0

    def append(self, records: Iterable[KeyValue], now_ms: int, epoch: int | None = None) -> int:
        """The first offset. Raises FencedError for an epoch below the newest."""
        if epoch is not None:
            if epoch < self.epoch:
                raise FencedError("a newer epoch was seen")
            self.epoch = epoch
        first = len(self.records)
        for key, value in records:
            self.records.append((key, value, now_ms))
            if key is not None:
                if value is None:
                    self.latest.pop(key, None)
                else:
                    self.latest[key] = value
        return first


class Group:
    """The consumer group: members rejoin for each generation, and whoever is silent for too long is no member any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: When each was last heard of.
        self.members: dict[Process, int] = {}
        self._joined: list[Process] = []
        #: So many members are to come before a generation begins; it does anyway when they are there.
        self.awaited = 0
        self.generation = 0
        self.is_rebalancing = False
        self.actives: dict[Process, set[int]] = {}
        self.standbys: dict[Process, set[int]] = {}

    def join(self, process: Process) -> None:
        self.members[process] = self._world.elapsed_ms
        if process not in self._joined:
            self._joined.append(process)
        self.is_rebalancing = True
        self._complete()

    def leave(self, process: Process) -> None:
        self.members.pop(process, None)
        if process in self._joined:
            self._joined.remove(process)
        self.is_rebalancing = bool(self.members)
        self._complete()

    def rebalance(self) -> None:
        self.is_rebalancing = bool(self.members)

    def expel_silent(self) -> None:
        for process in [p for p, heard_ms in self.members.items() if self._world.elapsed_ms - heard_ms > SESSION_MS]:
            self._world.note(process.name, "is given up by the coordinator")
            self._world.counts["expelled"] += 1
            self.leave(process)

    def may_commit(self, process: Process, generation: int) -> bool:
        return process in self.members and generation == self.generation

    def _complete(self) -> None:
        if not self.is_rebalancing or len(self._joined) < max(len(self.members), self.awaited):
            return
        self.generation += 1
        self.is_rebalancing = False
        members, self._joined = self._joined, []
        self.actives = {member: set() for member in members}
        self.standbys = {member: set() for member in members}
        random = self._world.random
        for partition in range(self._world.partitions):
            first, *others = random.sample(members, len(members))
            self.actives[first].add(partition)
            if others and random.random() < 0.5:
                self.standbys[others[0]].add(partition)
        for member in members:
            member.is_assigned = True


class World:
    """One run's. ``random`` decides everything."""

    def __init__(self, random: Random, size: Size) -> None:
        self.random = random
        self.size = size
        self.partitions = random.choice(size.partitions)
        #: Nothing goes wrong: what is asked for comes at once, and whole.
        self.is_calm = False
        self.names: TopicNames = NAMES
        self.logs: defaultdict[tuple[str, int], Log] = defaultdict(Log)
        self.committed: dict[tuple[str, int], int] = {}
        #: By partition number: the newest that was given out.
        self.epochs: Counter[int] = Counter()
        self.group = Group(self)
        self.elapsed_ms = 0
        self.has_products = random.random() < size.has_products
        self.has_commands = random.random() < size.has_commands
        self.has_shares = random.random() < size.has_shares
        #: The part of the records of people that are consents.
        self.consents = 0.08
        #: Readers of logs get one record at a time; or workers collect what need not happen at once, as busy ones do.
        kind = random.random()
        self.reads_are_short, self.are_busy = kind < 0.3, kind > 0.8
        #: Of a request, that its author is frozen as it goes into the socket.
        self.freeze_rate = random.choice([0.2, 0.5, 0.8])
        #: How often anything was appended to any log.
        self.appends = 0
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.violation: str | None = None
        #: Of all that was noted: equal traces, equal runs.
        self.trace = 0
        self._journal: deque[tuple[int, int, str, str]] = deque(maxlen=JOURNAL_STEPS)

    @property
    def now_ms(self) -> int:
        return NOW_MS + self.elapsed_ms

    def append(self, topic: str, partition: int, records: Iterable[KeyValue], epoch: int | None = None) -> int:
        self.appends += 1
        return self.logs[topic, partition].append(records, self.now_ms, epoch)

    def end(self, topic: str, partition: int) -> int:
        return len(self.logs[topic, partition].records)

    def changelog(self, table: str, partition: int) -> dict[bytes, bytes]:
        """The latest value of each key, those of the engine included."""
        assert table in TABLES
        return self.logs[self.names.changelogs[table], partition].latest

    def note(self, who: str, what: str) -> None:
        self._journal.append((self.steps, self.elapsed_ms, who, what))
        self.trace = zlib.crc32(f"{self.steps} {self.elapsed_ms} {who} {what}".encode(), self.trace)

    def violate(self, what: str) -> None:
        """Something that must never be so: the run fails after this step, wherever in a worker it was found."""
        self.violation = self.violation or what

    def journal(self) -> str:
        return "\n".join(f"  step {step:5d}  {at_ms / 1000:10.3f} s  {who:8s} {what}" for step, at_ms, who, what in self._journal)
