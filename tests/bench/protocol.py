"""What the harness tells a system before a run, and what the system answers: all that a peer must speak.

A system is a program. It gets the path of a JSON file (Assignment), handles ``events`` events of ``topic``, each partition from its start,
and prints one line on its standard output, ``RESULT`` and a JSON object (Report), once the last change is acknowledged as durable. Then it
may be killed.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.proto.bench_pb2 import UserEvent, UserState

RESULT = "RESULT "
_LENGTHS = struct.Struct("<II")


@dataclass(frozen=True)
class Assignment:
    """One run of one system. ``name`` is new for each run: the consumer group and the prefix of every topic the system makes."""

    name: str
    job: str
    bootstrap_servers: str
    topic: str
    partitions: int
    events: int
    data_dir: str
    #: Of the profile jobs: how much of the topology is there (tidings_path.py).
    stage: str = ""
    #: Of the full path: where the webhook target listens.
    webhook_url: str = ""
    #: Where a system that writes no changelog leaves its state once the clock has stopped, before it reports (write_state()).
    state_file: str = ""
    #: The consumer group's session timeout; 0: the system's own.
    session_seconds: int = 0

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: str | None = None) -> Assignment:
        return cls(**json.loads(Path(path or sys.argv[1]).read_text()))


@dataclass(frozen=True)
class Report:
    """What a run took, from the first event handled to the last change acknowledged. Processor time is that of the whole process."""

    events: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    #: How far each partition of the topic was handled (the next offset), for the harness to fold the same events itself.
    positions: dict[str, int]
    extra: dict[str, Any] = field(default_factory=dict)

    def print(self) -> None:
        sys.stdout.write(RESULT + json.dumps(asdict(self)) + "\n")
        sys.stdout.flush()


class Stopwatch:
    """For the systems written in Python: ``start`` before the first event, ``report`` when all is acknowledged."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def start(self) -> None:
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def report(self, events: int, positions: dict[int, int], **extra: Any) -> Report:
        assert self._began is not None, "nothing was handled"
        began, cpu_began = self._began
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        return Report(events, seconds, cpu_seconds, peak_rss_bytes(), {str(partition): o for partition, o in positions.items()}, extra)


def write_state(path: str, state: Iterable[tuple[bytes, bytes]]) -> None:
    """Keys and values, both behind the lengths of both."""
    with Path(path).open("wb") as file:
        for key, value in state:
            file.write(_LENGTHS.pack(len(key), len(value)) + key + value)


def read_state(path: Path) -> dict[bytes, bytes]:
    raw, at, state = path.read_bytes(), 0, dict[bytes, bytes]()
    while at < len(raw):
        key_size, value_size = _LENGTHS.unpack_from(raw, at)
        value_at = at + _LENGTHS.size + key_size
        state[raw[value_at - key_size : value_at]] = raw[value_at : value_at + value_size]
        at = value_at + value_size
    return state


def peak_rss_bytes() -> int:
    """Of this program: what getrusage tells begins with the size of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apply_event(state: UserState, event: UserEvent) -> None:
    """The bare job: the same few lines in every system."""
    state.count += 1
    state.last_occurred_at_ms = event.occurred_at_ms
    state.score = state.score * 0.9 + event.weight
