"""A compacted topic that every worker reads whole and follows: the latest value of each key, in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka

from app.engine.changelog_reader import changelog_reader

logger = logging.getLogger(__name__)

#: Fetched and not taken yet, of all partitions together.
READ_AHEAD_BYTES = 8 << 20


class Broadcast:
    """``values`` holds the latest value by key; ``on_change`` is called after each batch that changed something, ``on_value``
    with each new value and its key. ``caught_up`` is set once everything is read that was there when ``follow`` began.

    ``max_keys`` bounds the memory; further keys are an error of whoever writes the topic, and are left out with a warning.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        *,
        max_keys: int,
        on_change: Callable[[], None] = lambda: None,
        on_value: Callable[[bytes, bytes], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._max_keys = max_keys
        self._on_change = on_change
        self._on_value = on_value
        self.values: dict[bytes, bytes] = {}
        self.caught_up = asyncio.Event()

    async def follow(self, partitions: int) -> None:
        """Read from the beginning and on, until cancelled."""
        places = [aiokafka.TopicPartition(self._topic, p) for p in range(partitions)]
        async with changelog_reader(self._client, places, READ_AHEAD_BYTES) as reader:
            await reader.seek_to_beginning(*places)
            ends = await reader.end_offsets(places)
            while True:
                changed = False
                got = await reader.getmany(timeout_ms=1000)
                for records in got.values():
                    for record in records:
                        changed |= self._apply(record.key, record.value)
                if changed:
                    self._on_change()
                # The embedded broker understates an end: there must be nothing more as well.
                if ends and not got:
                    ends = {tp: end for tp, end in ends.items() if await reader.position(tp) < end}
                    if not ends:
                        self.caught_up.set()
                await asyncio.sleep(0)

    def _apply(self, key: bytes | None, value: bytes | None) -> bool:
        if key is None or self.values.get(key) == value:
            return False
        if value is None:
            return self.values.pop(key, None) is not None
        if key not in self.values and len(self.values) >= self._max_keys:
            logger.warning("%s has more than %d keys: %r is left out", self._topic, self._max_keys, key)
            return False
        self.values[key] = value
        self._on_value(key, value)
        return True
