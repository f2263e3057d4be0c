"""The outbox partitions that this worker owns, as delivery sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from app.delivery.ledger import Change
from app.delivery.outbox import is_due
from app.engine import EngineApp, Table, Unit
from app.errors import NotOwnedError
from tidings.state.v1.outbox_pb2 import OutboxEntry


class TableOutboxStore:
    """Implements app.delivery.ledger.OutboxStore over the outbox table."""

    def __init__(self, app: EngineApp, outbox: Table[OutboxEntry], partition_of: Callable[[str], int]) -> None:
        self._app = app
        self._outbox = outbox
        self._partition_of = partition_of

    def entry(self, user_id: str) -> OutboxEntry | None:
        return self._outbox.state(self._partition_of(user_id)).get(user_id.encode())

    async def write(self, changes: Mapping[str, Change]) -> None:
        by_partition: dict[int, dict[str, Change]] = {}
        for user_id, change in changes.items():
            by_partition.setdefault(self._partition_of(user_id), {})[user_id] = change
        await asyncio.gather(*(self._write(partition, changes) for partition, changes in by_partition.items()))

    async def _write(self, partition: int, changes: Mapping[str, Change]) -> None:
        def apply(unit: Unit[OutboxEntry]) -> None:
            for user_id, change in changes.items():
                key = user_id.encode()
                if unit.state.get(key) is not None:
                    change(unit.state.obtain(key))

        try:
            await self._app.apply_to(self._outbox, partition, apply)
        except NotOwnedError:
            pass  # its next owner finds what is durable, and takes it from there

    def pending(self, partition: int) -> Iterator[str]:
        """Users with something due in a partition just taken over."""
        for key, entry in self._outbox.state(partition).items():
            if any(is_due(delivery) for delivery in entry.deliveries):
                yield key.decode()
