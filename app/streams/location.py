"""Where a partition is answered from, and how a worker is: what the views tell the web.

Plain values without Faust or HTTP in them, so that both sides can be tested without the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Here:
    """This worker owns the partition and has recovered it."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another worker owns the partition; ``url`` is its advertised address, ``http://host:port`` without a path."""

    url: str


@dataclass(frozen=True, slots=True)
class Moving:
    """Nobody can answer for the partition now: a rebalance, or a recovery. ``reason`` is a sentence for the client."""

    reason: str


Location = Here | Elsewhere | Moving


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the copy of a partition that this worker has is, and whose word it is."""

    #: Of the source topic: the events for what is known of users, the visits for items.
    partition: int
    #: The offset after the last source record that is in the copy.
    next_offset: int
    #: Source records that are not; None while the log's end is not known.
    lag: int | None
    #: The latest moment known, in ms since 1970, at which the copy held all that the log held; None: there is none.
    current_to_ms: int | None
    #: The owner's own, or a copy of it: a standby's, or one of a partition that is moving.
    is_active: bool
    #: False of a copy that is only kept since its partition was assigned elsewhere: nobody brings it up to date.
    is_followed: bool = True


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """How the worker is, as of the moment of asking."""

    #: Joined the group, recovered everything it was assigned, and able to write; or, once that was so, rebalancing with standbys' copies
    #: to answer from.
    ready: bool
    #: A sentence that says why it is not, or not quite, ready; "ready" when it is.
    reason: str
    active_partitions: tuple[int, ...] = ()
    #: Of which a copy is here that is not seconds behind.
    standby_partitions: tuple[int, ...] = ()
    #: (topic, partition) to records between the broker's end and what is applied.
    lag: Mapping[tuple[str, int], int] = field(default_factory=dict)
    recovering: bool = False
    #: Whether the broker refuses writers that were replaced (False on the embedded broker).
    fenced: bool = False
    #: False once the worker cannot go on: its supervisor should restart it.
    alive: bool = True
