"""Brings every due user to every target: takes turns from the lanes, marks, sends, records. The one place where delivery's parts meet.

A turn, in order: render the body from the current profile; make *in flight* durable in the outbox; ask for consent and the lease once more;
send; make the outcome durable. A process may die between any two of these: the next owner of the user finds the mark, waits until the
request can no longer be on the wire, and sends what is current then, under the same id if it is the same version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import assert_never

from app.delivery import outbox, retry
from app.delivery.addresses import Guard
from app.delivery.client import Client, HttpClient, Missing, NoResponse
from app.delivery.lane import Lane, Turn, divide
from app.delivery.ledger import Ledger, OutboxStore
from app.destinations import Confirmed, Destination, Outcome, Rendered, Request, Response, Retry, TargetDisabled, Throttled
from app.errors import NotOwnedError, SettingsError
from app.metrics import DELIVERIES, EVENT_TO_DELIVERY, IN_FLIGHT, OUTBOX_DUE, TARGET_DISABLED
from app.settings import DeliverySettings
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: What an in-flight mark covers beyond the target's time-out: the write of the mark, the reading of the body, clocks that differ.
MARK_MARGIN_MS = 5_000
#: The part of it that the write may take. After a longer one the mark could end before the request does, so nothing is sent under it.
MAX_MARKING_MS = 2_000
#: How soon a user comes again who is due, but whose attempt was not possible: the outbox and what is rendered disagree for the moment.
_DISAGREEMENT_MS = 1_000
#: How long ``stop`` waits for requests on the wire and their outcomes.
DRAIN_SECONDS = 5.0
#: A lane that has nothing to do looks up this often, for the sake of clocks that jump and leases that come back.
_LOOK_UP_SECONDS = 0.5
#: Users looked at in a row before other tasks get the event loop.
_USERS_IN_A_ROW = 100

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

        ``clock``: milliseconds since 1970. ``lease``: whether this worker may still act as owner of its partitions; asked right before each
        request. ``connect`` makes a target's client; over HTTP unless a test says otherwise. Raises SettingsError if there are more targets
        than ``settings.max_in_flight``.
        """
        if len(targets) > settings.max_in_flight:
            raise SettingsError([f"delivery.max_in_flight is {settings.max_in_flight}, below the number of targets ({len(targets)})"])
        self._render = render
        self._store = store
        self._clock = clock
        self._lease = lease
        self._ledger = Ledger(store)
        guard = Guard(settings.allow_networks)
        shares = divide(settings.max_in_flight, [target.concurrency for target in targets])
        self._lines = [
            _Line(target, Lane(share), connect(target) if connect else _over_http(target, guard, share, clock, lease))
            for target, share in zip(targets, shares, strict=True)
        ]
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None

    def due(self, user_ids: Iterable[str]) -> None:
        """The users have something new, or may have: after each outbox write that made users due; at takeover for all pending."""
        users = list(user_ids)
        for line in self._lines:
            line.lane.due(users)
            line.wake.set()

    def revoke(self, partition_of: Callable[[str], int], partitions: set[int]) -> None:
        """Forget the users of partitions that are no longer this worker's. What is on the wire stays there; its outcome is ignored."""
        everyone = {user_id for line in self._lines for user_id in line.lane.users()}
        gone = {user_id for user_id in everyone if partition_of(user_id) in partitions}
        for line in self._lines:
            line.lane.forget(gone.__contains__)

    async def start(self) -> None:
        """Begin; users may have been made due before."""
        self._over = asyncio.get_running_loop().create_future()
        for line in self._lines:
            line.show_metrics()
        self._writing = self._watched(self._ledger.run())
        self._loops = [self._watched(self._run(line)) for line in self._lines]

    async def wait(self) -> None:
        """Until ``stop``. Raises what ended delivery before that: an outbox write that failed, or a bug. Nothing begins after it."""
        assert self._over is not None, "start() comes first"
        await asyncio.shield(self._over)

    async def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Begin nothing more, give what is on the wire ``drain_seconds`` to end and be recorded, close all connections."""
        await _cancel(self._loops)
        if self._tasks and drain_seconds > 0 and self._writing is not None and not self._writing.done():
            await asyncio.wait(self._tasks, timeout=drain_seconds)
        await _cancel([*self._tasks, *([self._writing] if self._writing else [])])
        for line in self._lines:
            await line.client.close()
            line.hide_metrics()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _run(self, line: _Line) -> None:
        """Hands out one lane's turns."""
        while True:
            seen = 0
            while self._lease() and (turn := line.lane.take(self._clock())) is not None:
                self._begin_turn(line, turn)
                seen += 1
                if seen % _USERS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
            await line.sleep(self._clock() if self._lease() else None)

    def _begin_turn(self, line: _Line, turn: Turn) -> None:
        """What the outbox says about the user whose turn it is: an attempt, or the turn is over."""
        match step := self._next_step(line, turn):
            case outbox.Send():
                task = self._watched(self._take_turn(line, turn))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case outbox.WaitUntil(at_ms):
                line.lane.end(turn, at_ms)
            case outbox.NotDue():
                line.count("unchanged")
                line.lane.end(turn, None)
            case None:
                line.lane.end(turn, None)
            case _:
                assert_never(step)

    def _end_turn(self, line: _Line, turn: Turn, *, not_before_ms: int) -> None:
        """After an attempt: due again, at once or later, or out of the lane."""
        match step := self._next_step(line, turn):
            case outbox.Send():
                line.lane.end(turn, not_before_ms)
            case outbox.WaitUntil(at_ms):
                line.lane.end(turn, max(at_ms, not_before_ms))
            case outbox.NotDue() | None:
                line.lane.end(turn, None)
            case _:
                assert_never(step)
        line.wake.set()

    def _next_step(self, line: _Line, turn: Turn) -> outbox.NotDue | outbox.WaitUntil | outbox.Send | None:
        """None: the user is another worker's."""
        try:
            return outbox.next_step(self._store.entry(turn.user_id), line.name, self._clock())
        except NotOwnedError:
            return None

    async def _take_turn(self, line: _Line, turn: Turn) -> None:
        try:
            was_possible = await self._attempt(line, turn)
        except NotOwnedError:
            was_possible = False
        self._end_turn(line, turn, not_before_ms=0 if was_possible else self._clock() + _DISAGREEMENT_MS)

    async def _attempt(self, line: _Line, turn: Turn) -> bool:
        """One attempt, from rendering to the recorded outcome. False: there was nothing to send, or nowhere to record it."""
        rendered = self._render(turn.user_id)
        if rendered is None:
            return await self._withhold(line, turn)
        version = rendered.update.version
        entry = self._store.entry(turn.user_id)
        delivery = outbox.delivery_of(entry, line.name) if entry else None
        if delivery is None or version <= delivery.confirmed_version:
            return False
        request = line.target.request(rendered)
        marked_at_ms = self._clock()
        if not await self._mark(line, turn, version, marked_at_ms + line.timeout_ms + MARK_MARGIN_MS):
            return False
        # What may have changed while the mark was written: consent, above all. A newer list is due right after this one.
        if self._render(turn.user_id) is None:
            return await self._withhold(line, turn)
        if not self._lease() or self._clock() - marked_at_ms > MAX_MARKING_MS:
            # The mark stands, and the user's turn comes again when it ends: here, or at the next owner.
            line.count("stopped")
            return True
        outcome = await self._send(line, request)
        if line.lane.holds(turn):
            await self._record(line, turn.user_id, version, outcome)
        return True

    async def _mark(self, line: _Line, turn: Turn, version: int, until_ms: int) -> bool:
        """Make the in-flight mark durable. False: the user went to another worker meanwhile."""
        is_applied = False

        def change(entry: OutboxEntry) -> None:
            nonlocal is_applied
            is_applied = True
            outbox.begin(entry, line.name, version, until_ms)

        await self._ledger.record(turn.user_id, change)
        return is_applied and line.lane.holds(turn)

    async def _withhold(self, line: _Line, turn: Turn) -> bool:
        """Give up the version that is due now; a newer one asks again."""
        entry = self._store.entry(turn.user_id)
        delivery = outbox.delivery_of(entry, line.name) if entry else None
        if delivery is not None:
            version = delivery.desired_version

            def change(entry: OutboxEntry) -> None:
                if self._render(turn.user_id) is None:  # still so: consent may have come while this waited to be written
                    outbox.withhold(entry, line.name, version)

            line.count("withheld")
            await self._ledger.record(turn.user_id, change)
        return False

    async def _send(self, line: _Line, request: Request) -> Outcome:
        with line.in_flight.track_inprogress():
            answer = await line.client.send(request)
        match answer:
            case Response():
                return line.target.read(answer)
            case NoResponse(missing, reason):
                if missing is Missing.REFUSED:
                    line.count("refused")
                return Retry(reason)
            case _:
                assert_never(answer)

    async def _record(self, line: _Line, user_id: str, version: int, outcome: Outcome) -> None:
        name, now_ms = line.name, self._clock()
        match outcome:
            case Confirmed():
                line.throttles_in_a_row = 0
                line.count("confirmed")

                def change(entry: OutboxEntry) -> None:
                    if since_ms := outbox.confirm(entry, name, version, now_ms):
                        EVENT_TO_DELIVERY.labels(name).observe(max(0, now_ms - since_ms) / 1000)
            case Retry(reason, after_ms):

                def change(entry: OutboxEntry) -> None:
                    decision = outbox.fail(entry, name, version, reason, now_ms, after_ms=after_ms)
                    line.count("abandoned" if isinstance(decision, retry.GiveUp) else "retried")
            case Throttled(reason, asked_ms):
                until_ms = line.throttle(asked_ms, now_ms)

                def change(entry: OutboxEntry) -> None:
                    outbox.postpone(entry, name, version, reason, until_ms)
            case TargetDisabled(reason):
                line.disable(reason)

                def change(entry: OutboxEntry) -> None:
                    outbox.release(entry, name, version, reason)
            case _:
                assert_never(outcome)
        await self._ledger.record(user_id, change)

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
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)
            self._over.exception()  # Seen, even if nobody waits: asyncio would log it once more.
            _log.error("delivery stops: %s", error)


class _Line:
    """A target with its lane, its client and its metrics."""

    def __init__(self, target: Destination, lane: Lane, client: Client) -> None:
        self.target = target
        self.name = target.name
        self.timeout_ms = round(target.timeout_seconds * 1000)
        self.lane = lane
        self.client = client
        self.wake = asyncio.Event()
        self.throttles_in_a_row = 0
        self.in_flight = IN_FLIGHT.labels(target.name)

    def count(self, outcome: str) -> None:
        DELIVERIES.labels(self.name, outcome).inc()

    def show_metrics(self) -> None:
        OUTBOX_DUE.labels(self.name).set_function(lambda: len(self.lane))
        TARGET_DISABLED.labels(self.name).set(self.lane.disabled)

    def hide_metrics(self) -> None:
        OUTBOX_DUE.labels(self.name).set_function(lambda: 0)

    def throttle(self, asked_ms: int | None, now_ms: int) -> int:
        """Pause the whole lane; returns until when."""
        self.count("throttled")
        self.throttles_in_a_row += 1
        jitter = retry.jitter_of(self.name, now_ms)
        until_ms = now_ms + retry.pause_ms(asked_ms, self.throttles_in_a_row, jitter=jitter)
        self.lane.pause(until_ms)
        return until_ms

    def disable(self, reason: str) -> None:
        """Nothing goes there until the worker starts anew."""
        self.count("disabled")
        if not self.lane.disabled:
            _log.warning("target %s is disabled: %s. Its users stay due; start the worker anew once it is mended", self.name, reason)
        self.lane.disabled = True
        TARGET_DISABLED.labels(self.name).set(1)

    async def sleep(self, now_ms: int | None) -> None:
        """Until someone is due, a turn ends, or the next timer rings; timers do not count without a lease (``now_ms`` None)."""
        next_at_ms = self.lane.next_at_ms()
        seconds = _LOOK_UP_SECONDS
        if now_ms is not None and next_at_ms is not None:
            seconds = min(seconds, max(0.001, (next_at_ms - now_ms) / 1000))
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()


def _over_http(target: Destination, guard: Guard, concurrency: int, clock: Callable[[], int], lease: Callable[[], bool]) -> Client:
    return HttpClient(guard=guard, timeout_seconds=target.timeout_seconds, concurrency=concurrency, clock=clock, may_send=lease)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
