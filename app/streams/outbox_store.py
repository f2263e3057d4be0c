"""The outbox partitions that this worker owns, as delivery sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from app.delivery.ledger import Change
from app.delivery.outbox import is_due, is_live
from app.engine import EngineApp, Table, Unit
from app.errors import NotOwnedError
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry


class TableOutboxStore:
    """Implements app.delivery.ledger.OutboxStore over the outbox table."""

    def __init__(self, app: EngineApp, outbox: Table[OutboxEntry], partition_of: Callable[[str], int]) -> None:
        self._app = app
        self._outbox = outbox
        self._partition_of = partition_of

    def partition_of(self, user_id: str) -> int:
        return self._partition_of(user_id)

    def entry(self, partition: int, user_id: str) -> OutboxEntry | None:
        return self._outbox.state(partition).get(user_id.encode())

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        def apply(unit: Unit[OutboxEntry]) -> None:
            for user_id, change in changes.items():
                key = user_id.encode()
                if unit.state.get(key) is not None:
                    change(unit.state.obtain(key))

        try:
            await self._app.apply_to(self._outbox, partition, apply)
        except NotOwnedError:
            return False  # its next owner finds what is durable, and takes it from there
        return True

    def scan(self, partition: int, first: str = "") -> Iterator[tuple[str, OutboxEntry]]:
        """All users of a partition with their entries, as they are durable."""
        for key, entry in self._outbox.state(partition).items(first.encode()):
            yield key.decode(), entry


class PendingScan:
    """After a take-over, finds the users whom the former owner left with something due, while everything else already runs."""

    #: Entries looked at before other tasks get the event loop.
    STEP = 500

    def __init__(
        self,
        store: TableOutboxStore,
        due: Callable[[Iterable[str]], None],
        due_again: Callable[[Iterable[str]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """``due`` gets those who have something new, or are in flight; ``due_again`` those who are only to be sent once more."""
        self._store = store
        self._due_again = due_again
        self._fail = fail
        self._due = due
        self._task: asyncio.Task[None] | None = None

    def begin(self, partitions: Iterable[int]) -> None:
        self._task = asyncio.create_task(self._guarded(list(partitions)), name="outbox scan")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _guarded(self, partitions: list[int]) -> None:
        try:
            await self._scan(partitions)
        except NotOwnedError:
            return  # given up again meanwhile
        except Exception as exc:
            self._fail(exc)

    async def _scan(self, partitions: list[int]) -> None:
        for partition in partitions:
            entries = self._store.scan(partition)
            while step := list(islice(entries, self.STEP)):
                self._due([user_id for user_id, entry in step if any(map(_is_waiting, entry.deliveries))])
                self._due_again([user_id for user_id, entry in step if any(map(is_due, entry.deliveries))])
                await asyncio.sleep(0)


def _is_waiting(delivery: Delivery) -> bool:
    """For more than to be sent once more."""
    return is_live(delivery) or bool(delivery.job)
