"""One target at work: claims its due users some way ahead, sends to as many at once as it may, records what came of each.

A turn, in order: *claim* — make the in-flight mark durable, for a whole partition's next users with one write; *send* — once a request may
start: ask whether the mark is still ours and young, render the body from the current profile, ask for consent and the lease as the body
goes into the socket; *record* — make the outcome durable, together with others. A process may die between any two of these: the next owner
of the user finds the mark, waits until the request can no longer be on the wire, and sends what is current then, under the same id if it is
the same version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import assert_never

from app.delivery import outbox, retry
from app.delivery.claim import Claim
from app.delivery.client import Client, Missing, NoResponse
from app.delivery.gauges import Gauges
from app.delivery.lane import Lane, Turn
from app.delivery.ledger import MAX_USERS_PER_WRITE, Change, Ledger, OutboxStore
from app.delivery.pace import Pace
from app.destinations import Destination
from app.destinations.outcomes import Confirmed, Down, PerPerson, PersonOutcome, Reading, Rejected, Retry, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Response
from app.errors import NotOwnedError
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: A partition whose claim takes longer to write than this does not keep the others' users from being claimed.
_SLOW_CLAIM_MS = 250
#: How soon a user comes again who is due, but whose attempt was not possible: the outbox and what is rendered disagree for the moment.
_DISAGREEMENT_MS = 1_000
#: A lane that has nothing to do looks up this often: for claims that grow old, clocks that jump and leases that come back.
_LOOK_UP_SECONDS = 0.5

_log = logging.getLogger(__name__)


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
        render: Callable[[str], Rendered | None],
        clock: Callable[[], int],
        lease: Callable[[], bool],
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        """``concurrency``: requests on the wire at once. ``spawn`` starts a task whose error ends delivery."""
        self.name = target.name
        self.lane = Lane(store.partition_of)
        self._target = target
        self._client = client
        self._concurrency = concurrency
        self._store = store
        self._ledger = ledger
        self._render = render
        self._clock = clock
        self._lease = lease
        self._spawn = spawn
        self._timeout_ms = round(target.timeout_seconds * 1000)
        self._pace = Pace(concurrency)
        #: Partition → how many of its users are being marked, and since when.
        self._claiming: dict[int, tuple[int, int]] = {}
        #: Marked durably, and not sent yet; the oldest first.
        self._claimed: deque[Claim] = deque()
        #: More users are claimed when so few claims are left.
        self._refill_at = 0
        self._sending = 0
        self._on_wire = 0
        self._throttles_in_a_row = 0
        self._wake = asyncio.Event()
        self._rests = self._is_over = False
        self._gauges = Gauges(target.name)

    # From outside ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claims users as fast as the target takes them, until cancelled."""
        while True:
            if self._lease() and not self._rests:
                self._release_old()
                while self._claim_some():  # noqa: ASYNC110  it works, and lets others work between two pieces
                    await asyncio.sleep(0)
            await self._sleep()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def rest(self) -> None:
        """Claim nobody, and release whoever is claimed and not sent, until ``resume``."""
        self._rests = True
        while self._claimed:
            self._release(self._claimed.pop())  # the last first, so that the first comes first again

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
        self._claimed.clear()

    async def close(self) -> None:
        await self._client.close()
        self._gauges.hide()

    def show_metrics(self) -> None:
        self._gauges.show(due=lambda: len(self.lane), in_flight=lambda: self._on_wire, disabled=self.lane.disabled)

    # Claim -------------------------------------------------------------------------------------------------------------

    def _claim_some(self) -> bool:
        """Mark the next users of one partition, if there is room for them. False: nothing can be done now."""
        now_ms = self._clock()
        idle, ahead = self._concurrency - self._sending, self._pace.ahead(now_ms)
        waiting = len(self._claimed) + sum(count for count, since_ms in self._claiming.values() if now_ms - since_ms <= _SLOW_CLAIM_MS)
        # Large writes are cheap ones: unless a request could start at once, the claims are let shrink to one half.
        self._refill_at = ahead // 2
        if waiting >= idle and waiting > self._refill_at:
            return False
        turns = self.lane.take(now_ms, min(idle + ahead - waiting, MAX_USERS_PER_WRITE), self._claiming)
        claims = [Claim(turn) for turn in turns if self._is_to_send(turn, now_ms)]
        if claims:
            partition = claims[0].turn.partition
            self._claiming[partition] = len(claims), now_ms
            changes = {claim.turn.user_id: partial(self._begin, claim) for claim in claims}
            self._ledger.record(partition, changes, lambda is_durable: self._claim(partition, claims, is_durable))
        return bool(turns)

    def _is_to_send(self, turn: Turn, now_ms: int) -> bool:
        """What the outbox says about the user whose turn it is: an attempt, or the turn is over."""
        match self._next_step(turn, now_ms):
            case outbox.Send():
                return True
            case outbox.WaitUntil(at_ms):
                self.lane.end(turn, at_ms)
            case outbox.NotDue():
                self._gauges.count("unchanged")
                self.lane.end(turn, None)
            case None:
                self.lane.end(turn, None)
        return False

    def _begin(self, claim: Claim, entry: OutboxEntry) -> None:
        """The mark: with the version that is current when it is written, from which moment it counts."""
        delivery = outbox.delivery_of(entry, self.name)
        if delivery is None or entry.update.version <= delivery.confirmed_version:
            return  # or a version that cannot be confirmed any more would be sent for ever
        claim.mark(entry, self.name, entry.update.version, self._clock(), self._timeout_ms)

    def _claim(self, partition: int, claims: list[Claim], is_durable: bool) -> None:
        """The marks of these users are durable, or they went to another worker."""
        del self._claiming[partition]
        for claim in claims:
            if not is_durable or not claim.version:
                self._end_turn(claim.turn, not_before_ms=self._clock() + _DISAGREEMENT_MS)
            else:
                self._ledger.await_outcome(partition)
                self._claimed.append(claim)
        self._go_on()

    def _go_on(self) -> None:
        """Somebody was claimed, or a place became free."""
        if self._rests:
            self.rest()
        while self._sending < self._concurrency and self._claimed and self._sending - self._on_wire < len(self._claimed):
            self._sending += 1
            self._spawn(self._send_claims())
        self._wake.set()

    def _release_old(self) -> None:
        """Claims that wait behind a target that became slow."""
        now_ms, old = self._clock(), []
        while self._claimed and not self._claimed[0].is_young(now_ms):
            old.append(self._claimed.popleft())
        for claim in reversed(old):
            self._release(claim)

    def _release(self, claim: Claim) -> None:
        """Nothing was sent under this mark: lift it, and let the user's turn come again, before the others'."""
        if not self._lease():
            self._drop(claim)
            return
        turn = claim.turn
        self._gauges.count("stopped")
        self._ledger.outcome_came(turn.partition)
        self._ledger.record(
            turn.partition, {turn.user_id: lambda entry: claim.lift(entry, self.name)}, lambda _: self._end_turn(turn, first=True)
        )

    def _drop(self, claim: Claim) -> None:
        """The mark stands, and the user's turn comes again when it ends: here, or at the next owner."""
        self._gauges.count("stopped")
        self._ledger.outcome_came(claim.turn.partition)
        self._end_turn(claim.turn)

    # Send --------------------------------------------------------------------------------------------------------------

    async def _send_claims(self) -> None:
        """One of as many as there may be requests at once."""
        try:
            while self._claimed:
                claim = self._claimed.popleft()
                if len(self._claimed) <= self._refill_at and self.lane.has_ready:
                    self._wake.set()
                try:
                    await self._attempt(claim)
                except NotOwnedError:
                    self._ledger.outcome_came(claim.turn.partition)
                    self._end_turn(claim.turn, not_before_ms=self._clock() + _DISAGREEMENT_MS)
        finally:
            self._sending -= 1
            self._wake.set()

    async def _attempt(self, claim: Claim) -> None:
        """One attempt, from the last questions to the outcome. Raises NotOwnedError before the request if the user is another worker's."""
        turn, now_ms = claim.turn, self._clock()
        if not self.lane.holds(turn) or not claim.is_in(self._store.entry(turn.partition, turn.user_id), self.name):
            self._ledger.outcome_came(turn.partition)
            self._end_turn(turn)
            return
        if not self._lease():
            self._drop(claim)
            return
        if not self.lane.is_open(now_ms) or not claim.is_young(now_ms):
            self._release(claim)
            return
        rendered = self._render(turn.user_id)
        if rendered is None:
            self._withhold(claim)
            return
        if claim.part is None and rendered.update.version != claim.version:
            self._mark_anew(claim, rendered)
            return
        part = claim.part or self._target.encode(rendered)
        if isinstance(part, Rejected):
            self._settle(claim, part)
            return
        request = self._target.request([part])
        self._on_wire += 1
        try:
            answer = await self._client.send(request, lambda: self._lease() and self._render(turn.user_id) is not None)
        finally:
            self._on_wire -= 1
        if isinstance(answer, NoResponse) and answer.missing is Missing.FORBIDDEN:
            await self._attempt(claim)  # which finds out whether it was the lease or the consent
            return
        self._settle(claim, self._outcome(part, answer))

    def _mark_anew(self, claim: Claim, rendered: Rendered) -> None:
        """There is a newer list than the one that the claim made durable with its mark. It must not leave before it is durable itself, or
        a crash could leave the target with a list that never was. So it is rendered now, marked, and sent next, whatever comes meanwhile.
        """
        turn, version = claim.turn, rendered.update.version
        part = self._target.encode(rendered)
        if isinstance(part, Rejected):
            self._settle(claim, part)
            return

        def change(entry: OutboxEntry) -> None:
            claim.part = part
            claim.mark(entry, self.name, version, self._clock(), self._timeout_ms)

        def then(is_durable: bool) -> None:
            if not is_durable or claim.part is None:
                self._ledger.outcome_came(turn.partition)
                self._end_turn(turn, not_before_ms=self._clock() + _DISAGREEMENT_MS)
                return
            self._claimed.appendleft(claim)
            self._go_on()

        self._ledger.record(turn.partition, {turn.user_id: change}, then)

    def _withhold(self, claim: Claim) -> None:
        """Give up the version that is due now; a newer one asks again."""
        user_id = claim.turn.user_id

        def change(entry: OutboxEntry) -> None:
            if self._render(user_id) is None:  # still so: consent may have come while this waited to be written
                outbox.withhold(entry, self.name, entry.update.version)
            else:
                claim.lift(entry, self.name)

        self._gauges.count("withheld")
        self._record(claim.turn, change)

    # Record ------------------------------------------------------------------------------------------------------------

    def _outcome(self, part: Part, answer: Response | NoResponse) -> PersonOutcome | Reading:
        match answer:
            case Response():
                reading = self._target.read([part], answer)
                return reading.outcomes[0] if isinstance(reading, PerPerson) else reading
            case NoResponse(missing, reason):
                if missing is Missing.REFUSED:
                    self._gauges.count("refused")
                return Unavailable(reason)
            case _:
                assert_never(answer)

    def _settle(self, claim: Claim, outcome: PersonOutcome | Reading) -> None:
        turn, name, version, now_ms = claim.turn, self.name, claim.version, self._clock()
        if not self.lane.holds(turn):
            self._ledger.outcome_came(turn.partition)
            self.lane.end(turn, None)
            return
        match outcome:
            case Confirmed():
                self._throttles_in_a_row = 0
                self._pace.confirmed(now_ms)
                self._gauges.count("confirmed")

                def change(entry: OutboxEntry) -> None:
                    if since_ms := outbox.confirm(entry, name, version, now_ms):
                        self._gauges.delivered(now_ms - since_ms)
            case Retry(reason, after_ms) | Unavailable(reason, after_ms):

                def change(entry: OutboxEntry) -> None:
                    decision = outbox.fail(entry, name, version, reason, now_ms, after_ms=after_ms)
                    self._gauges.count("abandoned" if isinstance(decision, retry.GiveUp) else "retried")
            case Throttled(reason, asked_ms):
                until_ms = self._throttle(asked_ms, now_ms)

                def change(entry: OutboxEntry) -> None:
                    outbox.postpone(entry, name, version, reason, until_ms)
            case Down(_, reason):
                self._disable(reason)

                def change(entry: OutboxEntry) -> None:
                    outbox.release(entry, name, version, reason)
            case _:
                raise NotImplementedError(f"{outcome} of {name}")  # of destinations that take several people at once
        self._record(turn, change)

    def _record(self, turn: Turn, change: Change) -> None:
        """The turn ends when the change is durable."""
        self._ledger.outcome_came(turn.partition)
        self._ledger.record(turn.partition, {turn.user_id: change}, lambda _: self._end_turn(turn), patient=True)

    def _end_turn(self, turn: Turn, *, not_before_ms: int = 0, first: bool = False) -> None:
        """Due again, at once or later, or out of the lane."""
        match self._next_step(turn, self._clock()):
            case outbox.Send():
                self.lane.end(turn, not_before_ms, first=first)
            case outbox.WaitUntil(at_ms):
                self.lane.end(turn, max(at_ms, not_before_ms))
            case outbox.NotDue() | None:
                self.lane.end(turn, None)
        self._wake.set()

    # What the outbox and the target say, and when ----------------------------------------------------------------------

    def _next_step(self, turn: Turn, now_ms: int) -> outbox.NotDue | outbox.WaitUntil | outbox.Send | None:
        """None: the user is another worker's."""
        try:
            return outbox.next_step(self._store.entry(turn.partition, turn.user_id), self.name, now_ms)
        except NotOwnedError:
            return None

    def _throttle(self, asked_ms: int | None, now_ms: int) -> int:
        """Pause the whole lane; returns until when."""
        self._gauges.count("throttled")
        self._throttles_in_a_row += 1
        jitter = retry.jitter_of(self.name, now_ms)
        until_ms = now_ms + retry.pause_ms(asked_ms, self._throttles_in_a_row, jitter=jitter)
        self.lane.pause(until_ms)
        return until_ms

    def _disable(self, reason: str) -> None:
        """Nothing goes there until the worker starts anew."""
        self._gauges.count("disabled")
        if not self.lane.disabled:
            _log.warning("target %s is disabled: %s. Its users stay due; start the worker anew once it is mended", self.name, reason)
        self.lane.disabled = True
        self._gauges.disabled(True)

    async def _sleep(self) -> None:
        """Until someone is due, a turn ends, or the next timer rings; timers do not count without a lease."""
        now_ms, next_at_ms = self._clock(), self.lane.next_at_ms()
        seconds = _LOOK_UP_SECONDS
        if next_at_ms is not None and next_at_ms > now_ms and self._lease():
            seconds = min(seconds, (next_at_ms - now_ms) / 1000)
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        self._wake.clear()
