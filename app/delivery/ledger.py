"""Writes what delivery knows into the outbox, many users at once: a change waits for the write in progress and goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from tidings.state.v1.outbox_pb2 import OutboxEntry

Change = Callable[[OutboxEntry], None]


class OutboxStore(Protocol):
    """The outbox partitions that this worker owns. Implemented by app/streams."""

    def entry(self, user_id: str) -> OutboxEntry | None:
        """The user's entry as it stands, changes that are not durable yet included; to be read at once and not kept. None: there is none.

        Raises NotOwnedError if the user's partition is not this worker's.
        """

    async def write(self, changes: Mapping[str, Change]) -> None:
        """Apply each change to the entry of its user and return when all of them are durable.

        The change of a user whose partition is not owned, or is lost before the write is durable, is skipped; each is applied at most once.
        Anything raised stops the worker.
        """


class Ledger:
    """One write at a time. As many changes as there are deliveries in progress can wait: each waits for its own."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self._changes: dict[str, list[Change]] = {}
        self._durable: asyncio.Future[None] | None = None
        self._wanted = asyncio.Event()

    async def record(self, user_id: str, change: Change) -> None:
        """Returns when the change is durable. Raises what the write raised."""
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
            self._wanted.set()
        self._changes.setdefault(user_id, []).append(change)
        # Shielded, since the future belongs to all changes of the write.
        await asyncio.shield(self._durable)

    async def run(self) -> None:
        """Writes until cancelled, or until a write fails: then everyone who waits gets the error, and it is raised here."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            changes, durable = self._changes, self._durable
            self._changes, self._durable = {}, None
            if durable is None:
                continue
            try:
                await self._store.write({user_id: _in_order(of_user) for user_id, of_user in changes.items()})
            except BaseException as exc:
                durable.set_exception(exc if isinstance(exc, Exception) else asyncio.CancelledError())
                durable.exception()  # Seen, even if no one waits any more.
                raise
            durable.set_result(None)


def _in_order(changes: list[Change]) -> Change:
    if len(changes) == 1:
        return changes[0]

    def apply(entry: OutboxEntry) -> None:
        for change in changes:
            change(entry)

    return apply
