"""What was done to whom and when in a run, and what it came to in figures."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.chaos.schedule import Kind
from tests.e2e.exactness import Verdict

_GENERATION = re.compile(r"generation (\d+): own partitions")
_STOPPED = re.compile(r"CRITICAL tidings: stopped: (.{1,110})")
#: Kinds of a worker's own ends that a report names.
SHOWN_ENDS = 12


class Timeline:
    """Lines in the order in which things happened, in seconds since the first event was applied."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: Counter[Kind] = Counter()
        self._began = time.monotonic()

    def begin(self, said: str) -> None:
        """Count from now; what was before is told in the same line."""
        before, self._began = self.seconds, time.monotonic()
        self.note(f"{said}, {before:.0f} s after the brokers were told to start")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def note(self, said: str) -> None:
        self.lines.append(f"{self.seconds:7.1f} s  {said}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Report:
    """One run that ended well, in figures."""

    seed: int
    log: str
    verdict: Verdict
    #: Faults by kind, as many as were done; those that could not be are not counted.
    faults: Counter[Kind]
    #: Generations of the group, and how often a worker recovered its partitions in one.
    rebalances: int
    recoveries: int
    #: Exit codes of workers that ended by themselves, and what they said of it.
    exits: Counter[int]
    ends: Counter[str]
    seconds: float
    timeline: str = field(repr=False)

    def figures(self) -> dict[str, float]:
        """What a table of many runs adds up."""
        done, verdict = self.faults, self.verdict
        return {
            "events": verdict.events,
            "deliveries": verdict.deliveries,
            "repeated deliveries": verdict.repeated_deliveries,
            "people due for half an hour because of a clock": verdict.waiting_for_a_clock,
            "kills": done[Kind.KILL] + done[Kind.LOSE],
            "pauses": done[Kind.PAUSE_SHORT] + done[Kind.PAUSE_LONG],
            "leaves and joins": done[Kind.LEAVE] + done[Kind.JOIN],
            "network partitions": done[Kind.CUT] + done[Kind.BLACKHOLE],
            "full disks": done[Kind.DISK_FULL],
            "wrong clocks": done[Kind.CLOCK],
            "brokers stopped, killed, paused": done[Kind.BROKER_STOP] + done[Kind.BROKER_KILL] + done[Kind.BROKER_PAUSE],
            "rebalances": self.rebalances,
            "recoveries": self.recoveries,
            "ends by themselves": sum(self.exits.values()),
            "seconds": round(self.seconds, 1),
        }

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:,}" for name, value in self.figures().items())
        said = f"seed {self.seed} over {self.log}: exact. {figures}"
        exits = ", ".join(f"{code}: {count}" for code, count in sorted(self.exits.items()))
        return f"{said}\n  exit codes {exits}\n{listed(self.ends)}" if self.exits else said


def generations_of(logs: Iterable[Path]) -> tuple[int, int]:
    """How many generations of the group workers' logs tell of, and how many recoveries."""
    found = [_GENERATION.findall(log.read_text(errors="replace")) for log in logs if log.exists()]
    return len({number for numbers in found for number in numbers}), sum(map(len, found))


def ends_of(logs: Iterable[Path]) -> Counter[str]:
    """Why workers stopped themselves, in their own words, without what differs from one time to the next."""
    texts = [log.read_text(errors="replace") for log in logs if log.exists()]
    return Counter(re.sub(r"\d+|/\S+", "…", said) for text in texts for said in _STOPPED.findall(text))


def listed(ends: Counter[str]) -> str:
    """The most frequent, a line each."""
    return "\n".join(f"    {count} x {said}" for said, count in ends.most_common(SHOWN_ENDS))
