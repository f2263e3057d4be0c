"""Sends whoever is claimed: as many people in one request as there may be, as many requests at once as there may be.

Each person is looked at once more right before: whether the mark is still ours and young, whether they may be told about, whether what is
marked is what they would see now. Those who do not pass drop out; the rest goes. As the body goes into the socket it is asked once more
whether this worker owns them, and whether each may be told about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import assert_never

from app.delivery import outbox
from app.delivery.claim import Claim
from app.delivery.claiming import Claims
from app.delivery.client import Missing, NoResponse
from app.delivery.kit import Kit
from app.delivery.settling import Settler
from app.destinations.outcomes import PerPerson, Rejected, Retry, Split, Unavailable
from app.destinations.requests import Part, Rendered, Response
from app.errors import NotOwnedError
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: People who are rendered and encoded before other tasks get the event loop: some milliseconds of work.
PEOPLE_AT_ONCE = 16
#: Who is being marked at this moment goes along in the same request, if that takes no longer than this. Nobody waits for anybody else.
GATHER_MS = 50
#: A request is made anew so often because somebody in it may not be told about any more; then all of them come again later.
MAX_REBUILDS = 4
#: Of a target's slots, the part that people who are sent once more may take: a live one does not wait for their requests to end.
RESYNC_SLOTS = 4

class Sender:
    """The requests of one target."""

    def __init__(self, kit: Kit, claims: Claims, settler: Settler, concurrency: int, has_room: Callable[[], bool]) -> None:
        """``concurrency``: requests on the wire at once, if the limiter allows as many. ``has_room``: whether one more job may begin."""
        self._kit = kit
        self._claims = claims
        self._settler = settler
        self._concurrency = concurrency
        self._has_room = has_room
        #: Tasks that send one batch after another, and how many of them wait for an answer.
        self._sending = 0
        self.on_wire = 0
        self._resync_sending = 0
        #: Requests of several people that are put together right now: one, or a second one if somebody fell out of another.
        self._building = 0
        self._gathers_since_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Bytes of a body around its parts: learned from the first.
        self._frame: int | None = None

    @property
    def places(self) -> int:
        """People in requests that could start now."""
        return max(0, self._slots() - self._sending) * self._kit.people

    def begin(self) -> None:
        """Somebody was claimed, or a place became free, or the time came."""
        while self._sending < self._slots() and self._claims and self._has_work_for_another() and not self._gathers():
            self._sending += 1
            self._kit.spawn(self._send_batches())
        self._kit.wake()

    def _slots(self) -> int:
        return min(self._concurrency, self._kit.limiter.concurrency())

    def _has_work_for_another(self) -> bool:
        idle = self._sending - self.on_wire
        return idle < (1 if self._kit.people > 1 else len(self._claims))

    def _gathers(self) -> bool:
        """Whether more people will be claimed in a moment, for whom there is room in the next request."""
        kit = self._kit
        if kit.people == 1 or self._claims.groups:
            return False
        now_ms = kit.clock()
        if not self._claims.coming(now_ms) or len(self._claims.live) >= kit.people:
            self._gathers_since_ms = None
            return False
        if self._gathers_since_ms is None:
            self._gathers_since_ms = now_ms
        if not 0 <= now_ms - self._gathers_since_ms < GATHER_MS:
            self._gathers_since_ms = None
            return False
        self._begin_in(GATHER_MS)
        return True

    def _begin_in(self, wait_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self.begin)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # One batch after another -------------------------------------------------------------------------------------------

    async def _send_batches(self) -> None:
        """One of as many as there may be requests at once."""
        try:
            while (batch := self._next_batch()) is not None:
                if len(self._claims.live) <= self._claims.refill_at and self._kit.lane.has_ready:
                    self._kit.wake()
                is_resync = batch[0].is_resync
                self._resync_sending += is_resync
                try:
                    if self._kit.people == 1:
                        await self._send_one(batch[0])
                    else:
                        await self._send_many(batch)
                finally:
                    self._resync_sending -= is_resync
        finally:
            self._sending -= 1
            self._kit.wake()

    def _next_batch(self) -> list[Claim] | None:
        """Whoever goes together next; None: nobody, or not now."""
        kit, claims = self._kit, self._claims
        if not claims or self._building:
            return None
        if not kit.lane.is_open(kit.clock()) or not kit.breaker.allows():
            claims.release_all()
            return None
        if not self._has_room():
            return None
        queue = claims.live
        if not claims.groups and not claims.live:
            queue = claims.resync
            if self._resync_sending >= max(1, self._slots() // RESYNC_SLOTS):
                return None
        if kit.people == 1:
            people = 1
        else:
            people = len(claims.groups[0]) if claims.groups else min(len(queue), kit.people, kit.limiter.most_people())
        if wait_ms := kit.limiter.wait_ms(people):
            self._begin_in(wait_ms)
            return None
        if claims.groups:
            return claims.groups.popleft()
        return [queue.popleft()] if people == 1 else [queue.popleft() for _ in range(people)]

    # A request of one --------------------------------------------------------------------------------------------------

    async def _send_one(self, claim: Claim) -> None:
        """As ``_send_many``, of which it is the short way: most of what a delivery costs beside its body is here."""
        kit, turn = self._kit, claim.turn
        for _ in range(MAX_REBUILDS):
            if not kit.lease():
                self._claims.drop(claim)
                return
            era = None
            try:
                part = self._checked(claim)
                if part is None:
                    return
                kit.limiter.took()
                era = kit.breaker.begin()
                self.on_wire += 1
                try:
                    may_send = partial(self._may_send_one, turn.user_id)
                    answer = await kit.client.send(kit.target.request([part]), may_send)
                finally:
                    self.on_wire -= 1
            except NotOwnedError:
                if era is not None:
                    kit.breaker.ended(era)
                kit.lose(claim)
                return
            if self._is_settled([claim], [part], answer, era):
                return
        self._claims.release(claim)

    def _may_send_one(self, user_id: str) -> bool:
        return self._kit.lease() and self._kit.may_tell(user_id)

    # A request of several ----------------------------------------------------------------------------------------------

    async def _send_many(self, batch: list[Claim]) -> None:
        """One request with those of them who may be told about as it goes into the socket: made anew without who may not be any more."""
        kit = self._kit
        for _ in range(MAX_REBUILDS):
            if not kit.lease():
                for claim in batch:
                    self._claims.drop(claim)
                return
            self._building += 1
            try:
                batch, parts = await self._build(batch)
            finally:
                self._building -= 1
            if not batch:
                self.begin()
                return
            if not self._may_start(batch):
                break
            request = kit.target.request(parts)
            if len(parts) > 1 and len(request.body) > kit.target.limits.body_bytes:
                self._settler.settle(batch, parts, Split("the request is larger than the target takes"), None)
                return
            kit.limiter.took(len(parts))
            era = kit.breaker.begin()
            kit.gauges.batch(len(parts))
            self.on_wire += 1
            try:
                self.begin()  # the next one is put together meanwhile
                answer = await kit.client.send(request, partial(self._may_send_all, batch))
            finally:
                self.on_wire -= 1
            if self._is_settled(batch, parts, answer, era):
                return
        for claim in reversed(batch):
            self._claims.release(claim)

    def _may_start(self, batch: list[Claim]) -> bool:
        """Whether all is as it was before the request was put together."""
        now_ms = self._kit.clock()
        is_open = self._kit.lane.is_open(now_ms) and self._kit.breaker.allows()
        return is_open and all(claim.is_young(now_ms) for claim in batch)

    async def _build(self, batch: Iterable[Claim]) -> tuple[list[Claim], list[Part]]:
        """Those of them who may be sent, with their parts; whoever has no room comes next."""
        limits = self._kit.target.limits
        claims: list[Claim] = []
        parts: list[Part] = []
        later: list[Claim] = []
        identities: set[str] = set()
        size = 0
        for number, claim in enumerate(batch):
            if number % PEOPLE_AT_ONCE == PEOPLE_AT_ONCE - 1:
                await asyncio.sleep(0)
            if later and size >= limits.body_bytes:
                later.append(claim)
                continue
            try:
                part = self._checked(claim)
            except NotOwnedError:
                self._kit.lose(claim)
                continue
            if part is None:
                continue
            if not size:
                size = self._frame_around(part)
            if part.identity in identities:
                later.append(claim)  # two of ours are one person over there
            elif claims and size + len(part.body) + 1 > limits.body_bytes:
                later.append(claim)
                size = limits.body_bytes  # it is full: nobody overtakes
            else:
                size += len(part.body) + 1
                identities.add(part.identity)
                claims.append(claim)
                parts.append(part)
        for claim in reversed(later):
            (self._claims.resync if claim.is_resync else self._claims.live).appendleft(claim)
        return claims, parts

    def _frame_around(self, part: Part) -> int:
        if self._frame is None:
            self._frame = len(self._kit.target.request([part]).body) - len(part.body) + 1
        return self._frame

    # Both --------------------------------------------------------------------------------------------------------------

    def _checked(self, claim: Claim) -> Part | None:
        """What is to be said of the person; None: nothing, and what follows from that is done. Raises NotOwnedError."""
        kit, turn = self._kit, claim.turn
        now_ms = kit.clock()
        entry = kit.store.entry(turn.partition, turn.user_id)
        delivery = outbox.delivery_of(entry, kit.name) if entry is not None else None
        if delivery is None or not kit.lane.holds(turn) or not claim.is_in(delivery):
            kit.ledger.outcome_came(turn.partition)
            kit.end_turn(turn)
            return None
        if not claim.is_young(now_ms):
            self._claims.release(claim)
            return None
        rendered = kit.render(turn.user_id)
        if rendered is None:
            self._settler.withhold(claim)
            return None
        if claim.part is None and rendered.update.version != claim.version:
            self._mark_anew(claim, rendered)
            return None
        part = claim.part or kit.target.encode(rendered)
        if isinstance(part, Rejected):
            self._settler.settle_one(claim, part)
            return None
        if outbox.says_nothing_new(delivery, part.digest, now_ms, kit.refresh_ms):
            self._settler.suppress(claim)
            return None
        claim.digest = part.digest
        return part

    def _mark_anew(self, claim: Claim, rendered: Rendered) -> None:
        """There is a newer list than the one that the claim made durable with its mark. It must not leave before it is durable itself, or
        a crash could leave the target with a list that never was. So it is rendered now, marked, and sent next, whatever comes meanwhile.
        """
        kit, turn, version = self._kit, claim.turn, rendered.update.version
        part = kit.target.encode(rendered)
        if isinstance(part, Rejected):
            self._settler.settle_one(claim, part)
            return

        def change(entry: OutboxEntry) -> None:
            if not kit.lane.holds(turn):
                return
            claim.part = part
            now_ms = kit.clock()
            claim.mark(entry, kit.name, version, now_ms, kit.flights.now(now_ms))

        def then(is_durable: bool) -> None:
            if not is_durable or claim.part is None:
                kit.lose(claim)
                return
            self._claims.put_first(claim)

        kit.ledger.record(turn.partition, {turn.user_id: change}, then)

    def _is_settled(self, claims: list[Claim], parts: list[Part], answer: Response | NoResponse, era: int) -> bool:
        """What came of the request. False: it was not sent, because somebody in it may not be told about, or this worker may not."""
        kit = self._kit
        if isinstance(answer, Response):
            if (quota := kit.target.quota(answer)) is not None:
                kit.limiter.told(quota)
            self._settler.settle(claims, parts, kit.target.read(parts, answer), era)
            return True
        match answer.missing:
            case Missing.FORBIDDEN:
                kit.breaker.ended(era)
                return False
            case Missing.REFUSED | Missing.UNRESOLVED:
                # What our own side did says nothing about the target.
                kit.breaker.ended(era)
                kit.gauges.count(answer.missing.value, len(parts))
                self._settler.settle(claims, parts, PerPerson((Retry(answer.reason),) * len(parts)), None)
            case Missing.TIMED_OUT | Missing.UNREACHABLE:
                self._settler.settle(claims, parts, Unavailable(answer.reason), era)
            case _:
                assert_never(answer.missing)
        return True

    def _may_send_all(self, claims: Sequence[Claim]) -> bool:
        return self._kit.lease() and all(map(self._may_tell, claims))

    def _may_tell(self, claim: Claim) -> bool:
        try:
            return self._kit.lane.holds(claim.turn) and self._kit.may_tell(claim.turn.user_id)
        except NotOwnedError:
            return False
