"""Everything that is measured, each in a file of its own, written as its documentation would have it.

A new peer is a program that speaks tests/bench/protocol.py, and one line here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """``command`` gets the path of its assignment appended; ``state_topic`` is where it keeps the state of the bare job, for the check."""

    name: str
    command: tuple[str, ...]
    jobs: frozenset[str]
    state_topic: str = "{name}-users-changelog"
    #: Events that a slow system is given at most, so that a run takes seconds and not minutes.
    max_events: int | None = None
    #: It has no way to say when its last change is durable.
    may_be_late: bool = False


def _python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"tests.bench.systems.{module}"


TIDINGS = System("tidings", _python("tidings"), frozenset({"state_per_user", "profile_fold", "full_path"}))
NAIVE_FAUST = System("naive_faust", _python("naive_faust"), frozenset({"state_per_user"}), max_events=40_000, may_be_late=True)

SYSTEMS: dict[str, System] = {system.name: system for system in (TIDINGS, NAIVE_FAUST)}
