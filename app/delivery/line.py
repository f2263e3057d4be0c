"""One target at work: claims its due users some way ahead, sends to as many at once as it may, records what came of each.

A turn, in order: *claim* (claiming.py): make the in-flight mark durable, for a whole partition's next users with one write; *send*
(sending.py): once a request may start, ask of each person whether the mark is still ours and young, render what is to be said from the
current profile, ask for consent and the lease as the body goes into the socket; *settle* (settling.py): make the outcome of each durable,
together with others; where the target answers with a job (jobs.py), that is when the job says so. A process may die between any two of
these: the next owner of the user finds the mark, waits until the request can no longer be on the wire, or asks for the job, and sends what
is current then, under the same id if it is the same version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from app.delivery.breaker import Breaker
from app.delivery.claim import Flights
from app.delivery.claiming import Claims
from app.delivery.client import Client
from app.delivery.gauges import Gauges
from app.delivery.jobs import Jobs
from app.delivery.kit import Kit
from app.delivery.lane import MAX_USERS, Lane
from app.delivery.ledger import Ledger, OutboxStore
from app.delivery.limiter import Limiter
from app.delivery.pace import Pace
from app.delivery.search import Search
from app.delivery.sending import Sender
from app.delivery.settling import Settler
from app.delivery.status import LineProgress, LineStatus, oldest_due_ms
from app.destinations import Destination
from app.destinations.requests import Rendered

#: A lane that has nothing to do looks up this often: for claims that grow old, clocks that jump and leases that come back.
_LOOK_UP_SECONDS = 0.5
#: A clock that shows so much less than it did was set back; by less, it is being kept right.
SET_BACK_MS = 1_000
#: From the end of a request's time to its outcome in the outbox.
WIRE_PATIENCE_SECONDS = 15.0


class Line:
    """A target with its lane, its claims, its client and its metrics."""

    def __init__(
        self,
        target: Destination,
        client: Client,
        concurrency: int,
        *,
        store: OutboxStore,
        ledger: Ledger,
        breaker: Breaker,
        limiter: Limiter,
        render: Callable[[str], Rendered | None],
        may_tell: Callable[[str], bool],
        clock: Callable[[], int],
        lease: Callable[[], bool],
        spawn: Callable[[Coroutine[None, None, None]], object],
        refresh_days: int = 0,
        resync_per_second: Callable[[], float] = lambda: 1e9,
        max_users: int = MAX_USERS,
    ) -> None:
        """``concurrency``: requests on the wire at once, if the limiter allows as many. ``spawn`` starts a task whose error ends delivery.
        ``resync_per_second``: people who may be sent once more, from this worker. ``max_users``: who may wait in the lane.
        """
        self.name = target.name
        people = target.limits.people
        self._kit = kit = Kit(
            target.name, target, Lane(store.partition_of, max_users), store, ledger, client, limiter, breaker, Pace(concurrency, people),
            Gauges(target.name), Flights(round(target.timeout_seconds * 1000), people), people, refresh_days * 86_400_000,
            render, may_tell, clock, lease, spawn, self.wake,
        )  # fmt: skip
        self.lane = kit.lane
        self.breaker = breaker
        self._jobs = Jobs(kit, lambda: self._settler, lambda: self._sender.begin())
        self._claims = Claims(kit, resync_per_second, self._jobs.adopt, self._go_on)
        self._settler = Settler(kit, self._claims, self._jobs.follow)
        self._sender = Sender(kit, self._claims, self._settler, concurrency, self._jobs.has_room)
        self._search = Search(kit)
        self._wake = asyncio.Event()
        self._latest_ms = 0
        self._rests = self._is_over = False

    # From outside ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claims users as fast as the target takes them, until cancelled."""
        while True:
            self._see_the_clock()
            if self._kit.lease() and not self._rests:
                self._claims.release_old()
                self._jobs.ask_due()
                self._search.begin(lambda: not self._rests and self._kit.lease())
                while self._claims.claim_some(self._sender.places):  # noqa: ASYNC110  it works, and lets others work between two pieces
                    await asyncio.sleep(0)
            await self._sleep()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def rest(self) -> None:
        """Claim nobody, and release whoever is claimed and not sent, until ``resume``."""
        self._rests = True
        self._claims.release_all()

    def resume(self) -> None:
        """Go on after a rest, unless this is the end."""
        self._rests = self._is_over
        self._wake.set()

    def end(self) -> None:
        """Rest for good. What is on the wire goes on."""
        self._is_over = True
        self.rest()

    def halt(self) -> None:
        """End without another write: the claims stand."""
        self._is_over = self._rests = True
        self._claims.forget_all()

    async def close(self) -> None:
        self._sender.close()
        await self._kit.client.close()
        self._kit.gauges.hide()

    def status(self) -> LineStatus:
        """How it goes here, on this worker."""
        kit = self._kit
        return LineStatus(
            name=self.name,
            due=self._due,
            resync_due=self.lane.resync_users,
            in_flight=self._sender.on_wire,
            in_jobs=self._jobs.users,
            breaker=kit.breaker.state,
            oldest_due_ms=oldest_due_ms(kit),
            paused_until_ms=self.lane.paused_until_ms if not self.lane.is_open(kit.clock()) else 0,
        )

    def progress(self) -> LineProgress:
        """A target that is down, limited or paused is not our standstill."""
        kit = self._kit
        waits = kit.lane.has_ready or bool(self._claims)
        may_send = (
            kit.lease() and not self._rests and kit.breaker.state.kind == "closed" and kit.lane.is_open(kit.clock())
            and self._jobs.has_room() and not kit.limiter.wait_ms(1)
        )  # fmt: skip
        wire_seconds = kit.target.timeout_seconds + WIRE_PATIENCE_SECONDS if self._sender.on_wire else 0.0
        return LineProgress(self.name, kit.lane.ended, waits and may_send, wire_seconds)

    def show_metrics(self) -> None:
        kit = self._kit
        kit.gauges.show(
            due=lambda: self._due,
            resync_due=lambda: self.lane.resync_users,
            in_flight=lambda: self._sender.on_wire,
            oldest_seconds=lambda: oldest_due_ms(kit) / 1000,
            breaker=lambda: kit.breaker.state,
        )

    # -------------------------------------------------------------------------------------------------------------------

    @property
    def _due(self) -> int:
        """Users; those who are left out of the lane as far as it is known."""
        return len(self.lane) + self.lane.left_out.users

    def _go_on(self) -> None:
        """Somebody was claimed."""
        if self._rests:
            self.rest()
        self._sender.begin()

    def _see_the_clock(self) -> None:
        """What waits for a time would wait as much longer as the clock was set back by."""
        now_ms, before_ms = self._kit.clock(), self._latest_ms
        if (by_ms := before_ms - now_ms) <= SET_BACK_MS:
            self._latest_ms = max(before_ms, now_ms)
        else:
            self._latest_ms = now_ms
            for part in (self.lane, self._jobs, self._kit.limiter):
                part.set_back(by_ms)

    async def _sleep(self) -> None:
        """Until someone is due, a turn ends, or the next timer rings; timers do not count without a lease."""
        now_ms = self._kit.clock()
        seconds = _LOOK_UP_SECONDS
        for next_at_ms in (self.lane.next_at_ms(), self._jobs.next_at_ms(), self._kit.breaker.next_at_ms()):
            if next_at_ms is not None and next_at_ms > now_ms and self._kit.lease():
                seconds = min(seconds, (next_at_ms - now_ms) / 1000)
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        self._wake.clear()
