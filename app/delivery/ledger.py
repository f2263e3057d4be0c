"""Writes what delivery knows into the outbox, many users at once: each partition has a page of its own, and one write at a time.

A write has a price of its own, whatever is in it (a request to the broker, a write to the database), so what need not be durable at once
waits for company: the outcomes of requests, while others of the same partition are still awaited, but not for longer than LINGER_SECONDS.
In a worker that is busy they wait for others in any case, all partitions until the same moments, so that one request takes them all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from tidings.state.v1.outbox_pb2 import OutboxEntry

Change = Callable[[OutboxEntry], None]

#: How long an outcome waits for the others of its partition. A user whose newer list waits for it is written at once.
LINGER_SECONDS = 0.1
#: Users in one write: their entries are at most some 2 MB together, a quarter of what one batch may hold, and encoded in milliseconds.
MAX_USERS_PER_WRITE = 128


class OutboxStore(Protocol):
    """The outbox partitions that this worker owns. Implemented by app/streams."""

    def partition_of(self, user_id: str) -> int:
        """The partition that a user's entry is in."""

    def entry(self, partition: int, user_id: str) -> OutboxEntry | None:
        """The user's entry as it stands, changes that are not durable yet included; to be read at once and not kept. None: there is none.

        Raises NotOwnedError if the partition is not this worker's.
        """

    def scan(self, partition: int, first: str = "") -> Iterator[tuple[str, OutboxEntry]]:
        """All users of a partition, by their ids, from ``first`` on, with their entries as they are durable. Raises as ``entry`` does."""

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        """Apply each change to the entry of its user, before anything is awaited, and return True when all of them are durable.

        False if the partition is not owned, or was lost before they were. Anything raised stops the worker.
        """


@dataclass(slots=True)
class _Page:
    """One partition's part."""

    partition: int
    #: Changes that belong together, and who is told whether they are durable.
    waiting: deque[tuple[Mapping[str, Change], Callable[[bool], None]]] = field(default_factory=deque)
    users: int = 0
    #: Outcomes to come: while there are any, those that came wait.
    awaited: int = 0
    is_wanted: bool = False
    is_writing: bool = False
    timer: asyncio.TimerHandle | None = None


class Ledger:
    """As many changes wait as there are turns in the lanes. ``spawn`` starts a task whose error ends delivery. ``is_busy``: whether
    outcomes should wait although none is awaited.
    """

    def __init__(
        self, store: OutboxStore, spawn: Callable[[Coroutine[None, None, None]], object], is_busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._store = store
        self._spawn = spawn
        self._is_busy = is_busy
        self._pages: dict[int, _Page] = {}
        self._is_hasty = False

    def record(self, partition: int, changes: Mapping[str, Change], then: Callable[[bool], None], *, patient: bool = False) -> None:
        """Write the changes (at most MAX_USERS_PER_WRITE users), then call ``then``: True if they are durable, False if the partition was
        lost. A patient record waits for the outcomes that are awaited in its partition.
        """
        page = self._page(partition)
        page.waiting.append((changes, then))
        page.users += len(changes)
        is_busy = self._is_busy()
        if not patient or not (page.awaited or is_busy) or page.users >= MAX_USERS_PER_WRITE or self._is_hasty:
            self._write_soon(page)
        elif page.timer is None and not page.is_wanted:
            loop = asyncio.get_running_loop()
            wait = LINGER_SECONDS - loop.time() % LINGER_SECONDS if is_busy else LINGER_SECONDS
            page.timer = loop.call_later(wait, self._write_soon, page)

    def await_outcome(self, partition: int) -> None:
        """There will be an outcome: a patient record may wait for it."""
        self._page(partition).awaited += 1

    def outcome_came(self, partition: int) -> None:
        """It came, or it will not come. Its record, if it has one, follows before anything is awaited."""
        page = self._pages[partition]
        page.awaited -= 1
        if not page.awaited and page.waiting and not self._is_busy():
            self._write_soon(page)

    def hurry(self, partition: int) -> None:
        """Someone waits for what is recorded in this partition."""
        if (page := self._pages.get(partition)) is not None and page.waiting:
            self._write_soon(page)

    def hurry_all(self) -> None:
        """The same for all partitions."""
        for partition in self._pages:
            self.hurry(partition)

    def be_hasty(self) -> None:
        """Nothing waits for company any more."""
        self._is_hasty = True
        self.hurry_all()

    @property
    def is_writing(self) -> bool:
        """Whether a write is in progress, or follows at once."""
        return any(page.is_writing for page in self._pages.values())

    def close(self) -> None:
        """What is not being written is left to the next owner."""
        for page in self._pages.values():
            if page.timer is not None:
                page.timer.cancel()
                page.timer = None

    def _page(self, partition: int) -> _Page:
        page = self._pages.get(partition)
        if page is None:
            page = self._pages[partition] = _Page(partition)
        return page

    def _write_soon(self, page: _Page) -> None:
        """In the loop's next round, so that all that is recorded in this one goes together; or right after the write in progress."""
        if page.timer is not None:
            page.timer.cancel()
            page.timer = None
        page.is_wanted = True
        if not page.is_writing:
            page.is_writing = True
            self._spawn(self._write(page))

    async def _write(self, page: _Page) -> None:
        while page.is_wanted:
            taken = [page.waiting.popleft()]
            users = len(taken[0][0])
            while page.waiting and users + len(page.waiting[0][0]) <= MAX_USERS_PER_WRITE:
                taken.append(page.waiting.popleft())
                users += len(taken[-1][0])
            page.users -= users
            page.is_wanted = bool(page.waiting)
            is_durable = await self._store.write(page.partition, _merged([changes for changes, _ in taken]))
            for _, then in taken:
                then(is_durable)
        page.is_writing = False


def _merged(parts: list[Mapping[str, Change]]) -> Mapping[str, Change]:
    """One change per user: two targets may both have something to say about one."""
    if len(parts) == 1:
        return parts[0]
    by_user: dict[str, list[Change]] = {}
    for user_id, change in chain.from_iterable(changes.items() for changes in parts):
        by_user.setdefault(user_id, []).append(change)
    return {user_id: changes[0] if len(changes) == 1 else _in_order(changes) for user_id, changes in by_user.items()}


def _in_order(changes: Iterable[Change]) -> Change:
    def apply(entry: OutboxEntry) -> None:
        for change in changes:
            change(entry)

    return apply
