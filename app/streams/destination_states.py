"""Keeps this worker's breakers and the destinations topic in step: what others found is followed, what this worker found is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from app.delivery.breaker import Breaker, BreakerState
from app.delivery.destination_states import apply, record_of, state_of, to_tell
from app.engine import Broadcast
from app.engine.fence import Writer
from app.errors import BrokerError, ProduceError
from app.streams.publisher import partition_of
from tidings.internal.v1.destination_state_pb2 import DestinationState

#: How soon a change is told, and tried again where it was not acknowledged.
TELL_SECONDS = 0.1
#: Of destinations that were ever in the settings of a fleet.
MAX_DESTINATIONS = 10_000

logger = logging.getLogger(__name__)


class DestinationStates:
    """``follow`` and ``tell`` run until cancelled. Before ``caught_up`` is set, a breaker that should be open may be closed: send nothing.

    The states are compared, not their changes: a worker that was away, or a write that was lost, is made good by the next look.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        writer: Writer,
        topic: str,
        breakers: Mapping[str, Breaker],
        *,
        partitions: int,
        worker: str,
        on_change: Callable[[], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``worker``: this one's name, for those who read the topic. ``on_change``: a breaker became another."""
        self._writer = writer
        self._topic = topic
        self._breakers = breakers
        self._partitions = partitions
        self._worker = worker
        self._on_change = on_change
        self._clock = clock
        self._broadcast = Broadcast(client, topic, max_keys=MAX_DESTINATIONS, on_value=self._read)
        #: Target → the topic's last state of it, if it can be used.
        self._known: dict[str, BreakerState] = {}

    @property
    def caught_up(self) -> asyncio.Event:
        return self._broadcast.caught_up

    async def follow(self) -> None:
        await self._broadcast.follow(self._partitions)

    async def tell(self) -> None:
        """Writes what this worker knows better than the topic, once it has read that."""
        await self.caught_up.wait()
        while True:
            await self._tell_all()
            await asyncio.sleep(TELL_SECONDS)

    def _read(self, key: bytes, value: bytes) -> None:
        """Never fails: what is in the topic stays there, and would stop every worker again and again."""
        target = key.decode(errors="replace")
        if target not in self._breakers:
            return
        self._known.pop(target, None)
        now_ms = self._clock()
        try:
            record = DestinationState.FromString(value)
        except DecodeError as exc:
            logger.warning("%s holds a state of %s that cannot be read: %s", self._topic, target, exc)
            return
        state = state_of(record, now_ms)
        if record.target != target or state is None:
            logger.warning("%s holds a state of %s that cannot be used", self._topic, target)
            return
        self._known[target] = state
        if apply(self._breakers, record, now_ms):
            self._on_change()

    async def _tell_all(self) -> None:
        outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
        told: dict[str, BreakerState] = {}
        for target, breaker in self._breakers.items():
            state = breaker.state
            if to_tell(state, self._known.get(target, BreakerState())):
                key = target.encode()
                value = record_of(target, state, self._worker).SerializeToString()
                outputs.setdefault((self._topic, partition_of(key, self._partitions)), []).append((key, value))
                told[target] = state
        if not outputs:
            return
        try:
            await self._writer.write_all(outputs)
        except (BrokerError, ProduceError) as exc:
            logger.warning("the states of %s are not told this time: %s", ", ".join(sorted(told)), exc)
            return
        for target, state in told.items():
            if to_tell(state, self._known.get(target, BreakerState())):  # nothing later was read meanwhile
                self._known[target] = state
