"""Brings every due user to every target: a line for each, one ledger, one end. How a delivery goes, step by step, is in line.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

from app.delivery.addresses import Guard
from app.delivery.breaker import Breaker
from app.delivery.client import Client, HttpClient
from app.delivery.jobs import MAX_POLLS
from app.delivery.lane import MAX_USERS, divide
from app.delivery.ledger import Ledger, OutboxStore
from app.delivery.limiter import Limiter
from app.delivery.line import Line
from app.delivery.status import LineProgress, LineStatus
from app.destinations import Destination, JobBased
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
        may_tell: Callable[[str], bool],
        clock: Callable[[], int],
        lease: Callable[[], bool],
        settings: DeliverySettings,
        share: Callable[[], float] = lambda: 1.0,
        refresh_days: Mapping[str, int] | None = None,
        breakers: Mapping[str, Breaker] | None = None,
        connect: Callable[[Destination], Client] | None = None,
        max_users: int = MAX_USERS,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """``render`` gives a user as they are now, with ``entry.update`` as it stands, or None: nothing is sent (unknown, no consent).
        ``may_tell``: whether it would give anything; it must be cheap, for it is asked of everyone in a request as that goes into the
        socket. ``share``: the part of the fleet's partitions that this worker owns. ``refresh_days`` of the targets that have it, and
        their ``breakers``, if somebody else looks after them.

        ``clock``: milliseconds since 1970. ``lease``: whether this worker may still act as owner of its partitions; asked right before each
        request. ``connect`` makes a target's client; over HTTP unless a test says otherwise. ``max_users`` may wait in each lane.
        ``is_busy``: whether what need not be durable at once should wait for company. Raises SettingsError if there are more targets than
        ``settings.max_in_flight``.
        """
        if len(targets) > settings.max_in_flight:
            raise SettingsError([f"delivery.max_in_flight is {settings.max_in_flight}, below the number of targets ({len(targets)})"])
        self._ledger = Ledger(store, self._begin, is_busy)
        guard = Guard(settings.allow_networks)
        shares = divide(settings.max_in_flight, [target.limits.concurrency for target in targets])
        self._lines = [
            Line(
                target, connect(target) if connect else _over_http(target, guard, concurrency, clock), concurrency,
                store=store, ledger=self._ledger, breaker=(breakers or {}).get(target.name) or Breaker(clock),
                limiter=Limiter(target.limits, share, clock), render=render, may_tell=may_tell, clock=clock, lease=lease, spawn=self._begin,
                refresh_days=(refresh_days or {}).get(target.name, 0), resync_per_second=lambda: settings.resync_per_second * share(),
                max_users=max_users,
            )
            for target, concurrency in zip(targets, shares, strict=True)
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

    def due_again(self, user_ids: Iterable[str]) -> None:
        """The users are to be sent once more somewhere, and have nothing new: when nobody else has, and no faster than the settings say."""
        users = list(user_ids)
        for line in self._lines:
            for partition in line.lane.due_again(users):
                self._ledger.hurry(partition)
            line.wake()

    def status(self) -> list[LineStatus]:
        """How it goes with each target, on this worker."""
        return [line.status() for line in self._lines]

    def progress(self) -> list[LineProgress]:
        """Whether each target's line goes on, or has to."""
        return [line.progress() for line in self._lines]

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """By target."""
        return {line.name: line.breaker for line in self._lines}

    def wake(self) -> None:
        """There may be something to do: a breaker was closed, a share grew."""
        for line in self._lines:
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
    return HttpClient(
        guard=guard,
        timeout_seconds=target.timeout_seconds,
        concurrency=concurrency + (MAX_POLLS if isinstance(target, JobBased) else 0),
        clock=clock,
        response_bytes=target.limits.response_bytes,
    )


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
