"""Claims a target's due users some way ahead, each with a durable mark, many with one write; releases those who cannot be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from app.delivery import outbox
from app.delivery.claim import Claim
from app.delivery.kit import Kit
from app.delivery.lane import Turn
from app.delivery.ledger import MAX_USERS_PER_WRITE, Change
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: A partition whose claim takes longer to write than this does not keep the others' users from being claimed.
SLOW_CLAIM_MS = 250
#: Users are claimed so long before the limiter lets the next request go: their marks take a while to write.
AHEAD_OF_LIMITER_MS = 500
#: Where several people go in one request, those who are sent once more wait so long for one another.
RESYNC_EVERY_MS = 1_000


class Claims:
    """Who is marked and not sent yet."""

    def __init__(
        self, kit: Kit, resync_per_second: Callable[[], float], adopt: Callable[[Turn, outbox.AskJob], bool], go_on: Callable[[], None]
    ) -> None:
        """``resync_per_second``: people who may be sent once more, from this worker. ``adopt``: takes the turn of a user whom a job has.
        ``go_on``: somebody was claimed.
        """
        self._kit = kit
        self._adopt = adopt
        self._go_on = go_on
        self._resync_budget = _Budget(resync_per_second, kit.people)
        #: Partition → how many of its users are being marked, and since when.
        self._claiming: dict[int, tuple[int, int]] = {}
        #: Marked durably, and not sent yet; the oldest first.
        self.live: deque[Claim] = deque()
        #: Those of them who have nothing new.
        self.resync: deque[Claim] = deque()
        #: Those who are to go together, and with nobody else: halves of requests that were refused as a whole.
        self.groups: deque[list[Claim]] = deque()
        #: More users are claimed when so few claims are left.
        self.refill_at = 0

    def __len__(self) -> int:
        return len(self.live) + len(self.resync) + sum(map(len, self.groups))

    def __bool__(self) -> bool:
        return bool(self.live or self.groups or self.resync)

    def coming(self, now_ms: int) -> int:
        """How many are being marked, and not slowly."""
        return sum(count for count, since_ms in self._claiming.values() if now_ms - since_ms <= SLOW_CLAIM_MS)

    # Claim -------------------------------------------------------------------------------------------------------------

    def claim_some(self, places: int) -> bool:
        """Mark the next users of one partition, if there is room for them: ``places`` may be in requests that could start now. False:
        nothing can be done now.
        """
        kit = self._kit
        now_ms = kit.clock()
        if not kit.breaker.allows():
            return False
        if wait_ms := kit.limiter.wait_ms(1):
            if wait_ms > AHEAD_OF_LIMITER_MS:
                return False
            places = min(places, kit.people)
        ahead = kit.pace.ahead(now_ms)
        # Who is sent once more takes no place from whoever has something new.
        waiting = len(self) - (len(self.resync) if kit.lane.has_ready else 0) + self.coming(now_ms)
        # Large writes are cheap ones: unless a request could start at once, the claims are let shrink to one half.
        self.refill_at = ahead // 2
        if waiting >= places and waiting > self.refill_at:
            return False
        limit = min(places + ahead - waiting, MAX_USERS_PER_WRITE)
        if kit.breaker.state.kind != "closed":
            limit = min(limit, 1 - waiting)  # a probe needs no more
        turns = kit.lane.take(now_ms, limit, self._claiming)
        is_resync = False
        if not turns and kit.lane.has_resync and (allowed := self._resync_budget.allows(now_ms)):
            turns = kit.lane.take_resync(now_ms, min(limit, allowed), self._claiming)
            is_resync = True
        claims = [claim for turn in turns if (claim := self._claim_of(turn, now_ms, is_resync)) is not None]
        if claims:
            if is_resync:
                self._resync_budget.took(len(claims))
            partition = claims[0].turn.partition
            self._claiming[partition] = len(claims), now_ms
            changes: dict[str, Change] = {claim.turn.user_id: partial(self._begin, claim) for claim in claims}
            kit.ledger.record(partition, changes, lambda is_durable: self._claimed(partition, claims, is_durable))
        return bool(turns)

    def _claim_of(self, turn: Turn, now_ms: int, is_resync: bool) -> Claim | None:
        """What the outbox says about the user whose turn it is: an attempt, or the turn is over."""
        kit = self._kit
        match kit.next_step(turn, now_ms):
            case outbox.Send(is_resync=False):
                return Claim(turn)
            case outbox.Send():
                if is_resync:
                    return Claim(turn, is_resync=True)
                kit.lane.end(turn, 0, is_resync=True)
            case outbox.AskJob() as ask if self._adopt(turn, ask):
                pass  # the turn goes on with the job
            case outbox.WaitUntil(at_ms) | outbox.AskJob(until_ms=at_ms):
                kit.lane.end(turn, at_ms)
            case outbox.NotDue():
                kit.gauges.count("unchanged")
                kit.lane.end(turn, None)
            case None:
                kit.lane.end(turn, None)
        return None

    def _begin(self, claim: Claim, entry: OutboxEntry) -> None:
        """The mark: with the version that is current when it is written, from which moment it counts."""
        delivery = outbox.delivery_of(entry, self._kit.name)
        if delivery is None or (entry.update.version <= delivery.confirmed_version and not delivery.resync_since_ms):
            claim.version = 0
            return  # or a version that cannot be confirmed any more would be sent for ever
        now_ms = self._kit.clock()
        claim.mark(entry, self._kit.name, entry.update.version, now_ms, self._kit.flights.now(now_ms))

    def _begin_anew(self, claim: Claim, entry: OutboxEntry) -> None:
        if self._kit.lane.holds(claim.turn):
            self._begin(claim, entry)
        else:
            claim.version = 0

    def _claimed(self, partition: int, claims: list[Claim], is_durable: bool) -> None:
        """The marks of these users are durable, or they went to another worker."""
        del self._claiming[partition]
        now_ms = self._kit.clock()
        if is_durable and (marked := [claim.marked_at_ms for claim in claims if claim.version]):
            self._kit.flights.took(now_ms - min(marked), now_ms)
        for claim in claims:
            self._kit.ledger.await_outcome(partition)
            if not is_durable or not claim.version:
                self._kit.lose(claim)
            else:
                (self.resync if claim.is_resync else self.live).append(claim)
        self._go_on()

    def mark_anew(self, claims: Iterable[Claim], then: Callable[[list[Claim]], None]) -> None:
        """Marks that begin now in the place of those that these claims have; ``then`` gets those that are durable, in their order."""
        todo = list(claims)
        left, kept = len(todo), set[Claim]()

        def marked(claim: Claim, is_durable: bool) -> None:
            nonlocal left
            left -= 1
            if is_durable and claim.version:
                kept.add(claim)
            else:
                self._kit.lose(claim)
            if not left:
                then([one for one in todo if one in kept])
                self._go_on()

        self._kit.record(todo, lambda claim: partial(self._begin_anew, claim), marked)

    def put_first(self, claim: Claim) -> None:
        """This one goes next."""
        self.live.appendleft(claim)
        self._go_on()

    # Release -----------------------------------------------------------------------------------------------------------

    def release_all(self) -> None:
        """Everyone who is claimed and not sent; the last first, so that the first comes first again."""
        for group in self.groups:
            self.live.extend(group)
        self.groups.clear()
        for queue in (self.resync, self.live):
            while queue:
                self.release(queue.pop())

    def release_old(self) -> None:
        """Claims that wait behind a target that became slow."""
        now_ms, old = self._kit.clock(), []
        for queue in (self.live, self.resync):
            while queue and not queue[0].is_young(now_ms):
                old.append(queue.popleft())
        while self.groups and not all(claim.is_young(now_ms) for claim in self.groups[0]):
            old += self.groups.popleft()
        for claim in reversed(old):
            self.release(claim)

    def release(self, claim: Claim) -> None:
        """Nothing was sent under this mark: lift it, and let the user's turn come again, before the others'."""
        kit, turn = self._kit, claim.turn
        if not kit.lease():
            self.drop(claim)
            return
        kit.gauges.count("stopped")
        kit.ledger.outcome_came(turn.partition)
        lift: Change = partial(claim.lift, target=kit.name)
        kit.ledger.record(turn.partition, {turn.user_id: lift}, lambda _: kit.end_turn(turn, first=True))

    def drop(self, claim: Claim) -> None:
        """The mark stands, and the user's turn comes again when it ends: here, or at the next owner."""
        self._kit.gauges.count("stopped")
        self._kit.ledger.outcome_came(claim.turn.partition)
        self._kit.end_turn(claim.turn)

    def forget_all(self) -> None:
        """The claims stand, and nothing follows."""
        self.live.clear()
        self.resync.clear()
        self.groups.clear()


class _Budget:
    """How many people may be sent once more now: a bucket that fills at a rate and holds what is good for a request."""

    def __init__(self, per_second: Callable[[], float], people: int) -> None:
        self._per_second = per_second
        self._people = people
        self._left = 0.0
        self._at_ms: int | None = None

    def allows(self, now_ms: int) -> int:
        """So many; where one request takes several people, none until there are as many as come in a while."""
        rate = self._per_second()
        if self._at_ms is None or now_ms < self._at_ms:
            self._at_ms = now_ms
        most = max(1.0, rate * RESYNC_EVERY_MS / 1000)
        self._left = min(most, self._left + (now_ms - self._at_ms) * rate / 1000)
        self._at_ms = now_ms
        return int(self._left) if self._left >= (1 if self._people == 1 else min(most, self._people)) else 0

    def took(self, people: int) -> None:
        self._left -= people
