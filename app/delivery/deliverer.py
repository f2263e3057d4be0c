"""Brings every due user to every target: a line for each, one ledger, one end. How a delivery goes, step by step, is in line.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence

from app.delivery.addresses import Guard
from app.delivery.client import Client, HttpClient
from app.delivery.lane import divide
from app.delivery.ledger import Ledger, OutboxStore
from app.delivery.line import Line
from app.destinations import Destination
from app.destinations.requests import Rendered
from app.errors import SettingsError
from app.settings import DeliverySettings

#: How long ``stop`` waits for requests on the wire and their outcomes.
DRAIN_SECONDS = 5.0
#: How long ``rest`` waits for the release of the users who are claimed and not sent.
RELEASE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Deliverer:
    """All targets of one worker. Whoever owns it calls ``due`` and ``revoke``, awaits ``wait`` and lets its error stop the worker."""

    def __init__(
        self,
        targets: Sequence[Destination],
        store: OutboxStore,
        render: Callable[[str], Rendered | None],
        *,
        clock: Callable[[], int],
        lease: Callable[[], bool],
        settings: DeliverySettings,
        connect: Callable[[Destination], Client] | None = None,
    ) -> None:
        """``render`` gives a user as they are now, with ``entry.update`` as it stands, or None: nothing is sent (unknown, no consent).
        It must be cheap: it is asked twice for each request.

        ``clock``: milliseconds since 1970. ``lease``: whether this worker may still act as owner of its partitions; asked right before each
        request. ``connect`` makes a target's client; over HTTP unless a test says otherwise. Raises SettingsError if there are more targets
        than ``settings.max_in_flight``.
        """
        if len(targets) > settings.max_in_flight:
            raise SettingsError([f"delivery.max_in_flight is {settings.max_in_flight}, below the number of targets ({len(targets)})"])
        self._ledger = Ledger(store, self._begin)
        guard = Guard(settings.allow_networks)
        shares = divide(settings.max_in_flight, [target.limits.concurrency for target in targets])
        self._lines = [
            Line(
                target, connect(target) if connect else _over_http(target, guard, share, clock), share,
                store=store, ledger=self._ledger, render=render, clock=clock, lease=lease, spawn=self._begin,
            )
            for target, share in zip(targets, shares, strict=True)
        ]
        #: Requests on the wire, and writes.
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] | None = None

    def due(self, user_ids: Iterable[str]) -> None:
        """The users have something new, or may have: after each outbox write that made users due; at takeover for all pending."""
        users = list(user_ids)
        for line in self._lines:
            for partition in line.lane.due(users):
                self._ledger.hurry(partition)
            line.wake()

    async def rest(self) -> None:
        """The partitions are about to be given up: users who are claimed and not sent are released, so that whoever owns them next need
        not wait out their marks. What is on the wire stays there.
        """
        for line in self._lines:
            line.rest()
        self._ledger.hurry_all()
        await self._end_tasks(RELEASE_SECONDS, is_idle=lambda: not self._ledger.is_writing)

    def resume(self) -> None:
        """Partitions are owned again."""
        for line in self._lines:
            line.resume()

    def revoke(self, partitions: set[int]) -> None:
        """Forget the users of partitions that are no longer this worker's. What is on the wire stays there; its outcome is ignored."""
        for line in self._lines:
            line.lane.forget(partitions)

    async def start(self) -> None:
        """Begin; users may have been made due before."""
        self._over = asyncio.get_running_loop().create_future()
        for line in self._lines:
            line.show_metrics()
        self._loops = [self._watched(line.run()) for line in self._lines]

    async def wait(self) -> None:
        """Until ``stop``. Raises what ended delivery before that: an outbox write that failed, or a bug. Nothing begins after it."""
        assert self._over is not None, "start() comes first"
        await asyncio.shield(self._over)

    async def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Begin nothing more, give what is on the wire ``drain_seconds`` to end and be recorded, close all connections."""
        await _cancel(self._loops)
        if drain_seconds > 0 and self._over is not None and not self._over.done():
            self._ledger.be_hasty()
            for line in self._lines:
                line.end()
            await self._end_tasks(drain_seconds, is_idle=lambda: not self._tasks)
        self._ledger.close()
        await _cancel(list(self._tasks))
        for line in self._lines:
            await line.close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _end_tasks(self, seconds: float, is_idle: Callable[[], bool]) -> None:
        """Until there is nothing to wait for, at most so long: one task's end may be another's beginning."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._tasks and not is_idle() and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._watched(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _watched(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._notice)
        return task

    def _notice(self, task: asyncio.Task[None]) -> None:
        """The first error of any task is delivery's end."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        for loop in self._loops:
            loop.cancel()
        for line in self._lines:
            line.halt()
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)
            self._over.exception()  # Seen, even if nobody waits: asyncio would log it once more.
            _log.error("delivery stops: %s", error)


def _over_http(target: Destination, guard: Guard, concurrency: int, clock: Callable[[], int]) -> Client:
    return HttpClient(guard=guard, timeout_seconds=target.timeout_seconds, concurrency=concurrency, clock=clock)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
