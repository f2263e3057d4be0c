"""Everything that is measured, each in a file of its own, written as its documentation would have it.

A new peer is a program that speaks tests/bench/protocol.py, and one line here. This file and the protocol are imported by peers in their
own environment too (tests/bench/peers.py), so they need nothing but Python and Protobuf.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.bench import peers


class Kept(StrEnum):
    """Where a system's state of the bare job is found for the check."""

    CHANGELOG = "a topic with the last value of every user"
    FILE = "a store of its own, copied to a file when the clock has stopped"
    NOTHING = "it keeps none: the events that it has seen are checked"


@dataclass(frozen=True)
class System:
    """``command`` gets the path of its assignment appended; ``state_topic`` is where it keeps the state of the bare job, for the check."""

    name: str
    command: tuple[str, ...]
    jobs: frozenset[str]
    kept: Kept = Kept.CHANGELOG
    state_topic: str = "{name}-users-changelog"
    #: What the keys of its changelog are of.
    user_of_key: Callable[[bytes], bytes] | None = None
    #: Why it cannot run here; "" when it can.
    why_not: Callable[[], str] = str
    #: Events that a slow system is given at most, so that a run takes seconds and not minutes.
    max_events: int | None = None
    #: It reads a topic with fewer events, for the same reason: it has no notion of how many it is given, or counts them at its end.
    slow: bool = False
    #: What a run over a million events (of the smaller topic, if slow) takes on a quiet core, start and check included.
    about_seconds: float = 45.0
    #: It has no way to say when its last change is durable.
    may_be_late: bool = False


_BARE = frozenset({"state_per_user"})


def _python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"tests.bench.systems.{module}"


def _peer(name: str, module: str, *arguments: str, kept: Kept = Kept.CHANGELOG, **options: Any) -> System:
    """One that runs in the peers' environment."""
    return System(name, (*peers.python_command(module), *arguments), _BARE, kept, why_not=peers.why_not_python, **options)


def _kafka_streams(name: str, guarantee: str, cache_bytes: str) -> System:
    command = (*peers.java_command("tidings.bench.StatePerUser"), guarantee, cache_bytes)
    return System(name, command, _BARE, why_not=peers.why_not_java)


def _user_of_quix_key(key: bytes) -> bytes:
    """The message's key, a bar, the name within the user's part as JSON."""
    return key.rpartition(b"|")[0]


_QUIX_STATE: dict[str, Any] = {"state_topic": "changelog__{name}--{topic}--default", "user_of_key": _user_of_quix_key}

TIDINGS = System("tidings", _python("tidings"), _BARE | {"profile_fold", "full_path"}, about_seconds=25)
NAIVE_FAUST = System("naive_faust", _python("naive_faust"), _BARE, max_events=30_000, may_be_late=True, about_seconds=35)
PEERS = (
    System("bare_aiokafka", _python("bare_aiokafka"), _BARE, Kept.NOTHING, about_seconds=15),
    _peer("bare_confluent_rocksdb", "bare_confluent_rocksdb", kept=Kept.FILE, about_seconds=30),
    _peer("quix_streams_at_least_once", "quix_streams", "at-least-once", slow=True, **_QUIX_STATE),
    _peer("quix_streams_exactly_once", "quix_streams", "exactly-once", slow=True, **_QUIX_STATE),
    _peer("bytewax", "bytewax", kept=Kept.FILE, slow=True),
    _peer("pathway", "pathway", kept=Kept.FILE, slow=True),
    _kafka_streams("kafka_streams_at_least_once", "at_least_once", "0"),
    _kafka_streams("kafka_streams_at_least_once_cached", "at_least_once", str(64 << 20)),
    _kafka_streams("kafka_streams_exactly_once", "exactly_once_v2", "default"),
)

SYSTEMS: dict[str, System] = {system.name: system for system in (TIDINGS, NAIVE_FAUST, *PEERS)}
