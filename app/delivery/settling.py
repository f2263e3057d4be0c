"""What an answer means for each person in a request, for the outbox, the lane, the limiter and the breaker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import assert_never

from app.delivery import outbox, retry
from app.delivery.breaker import PARK_BEYOND_MS
from app.delivery.claim import Claim
from app.delivery.claiming import Claims
from app.delivery.kit import Kit
from app.delivery.ledger import MAX_USERS_PER_WRITE, Change
from app.destinations.outcomes import (
    CONFIRMED,
    Accepted,
    Confirmed,
    Down,
    PerPerson,
    PersonOutcome,
    Reading,
    Rejected,
    Retry,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.requests import Part
from tidings.state.v1.outbox_pb2 import OutboxEntry

_log = logging.getLogger(__name__)


class Settler:
    """Ends claims: each with a change that gets durable, then their turns, unless a job has them."""

    def __init__(self, kit: Kit, claims: Claims, follow: Callable[[str, list[Claim]], None]) -> None:
        """``follow``: a job has these people now, in this order."""
        self._kit = kit
        self._claims = claims
        self._follow = follow

    def settle(self, claims: list[Claim], parts: Sequence[Part], reading: Reading, era: int | None) -> None:
        """``parts`` are those of the claims, in their order. ``era``: what the breaker gave the request (None: nothing came of it that it
        could learn from).
        """
        kit = self._kit
        if reading is CONFIRMED and len(claims) == 1 and era is not None:  # what happens most, by the shortest way
            self._confirm_one(claims[0], era)
            return
        match reading:
            case PerPerson(outcomes):
                self.answered(era)
                self.settle_all(claims, parts, outcomes)
            case Unavailable(reason, after_ms):
                if era is not None:
                    kit.breaker.failed(reason, era)
                self.settle_all(claims, parts, (Retry(reason, min(after_ms, PARK_BEYOND_MS)),) * len(claims))
            case Throttled(reason, after_ms):
                kit.breaker.ended(era)
                kit.gauges.count("throttled", len(claims))
                until_ms = self.throttle(reason, after_ms)
                self._record(claims, lambda claim: partial(_postpone, claim, kit.name, reason, until_ms))
            case Down():
                self.down(reading)
                self._record(claims, lambda claim: partial(_release, claim, kit.name, reading.reason))
            case Split(reason, dead):
                self.answered(era)
                if len(claims) == 1:
                    self.settle_one(claims[0], Rejected(dead, reason))
                else:
                    self.split(claims)
            case _:
                assert_never(reading)

    def settle_one(self, claim: Claim, outcome: PersonOutcome) -> None:
        """Of somebody for whom there was no request, or nobody else in it."""
        self._record_one(claim, self._change(claim, outcome, self._kit.clock()))

    def _confirm_one(self, claim: Claim, era: int) -> None:
        """Nobody else is in the request."""
        kit = self._kit
        now_ms = kit.clock()
        kit.breaker.succeeded(era)
        kit.limiter.succeeded()
        kit.pace.confirmed(now_ms)
        kit.gauges.count("confirmed")
        self._record_one(claim, partial(self._confirm, claim.version, now_ms, claim.digest))

    def _confirm(self, version: int, now_ms: int, digest: int, entry: OutboxEntry) -> None:
        if since_ms := outbox.confirm(entry, self._kit.name, version, now_ms, digest):
            self._kit.gauges.delivered(now_ms - since_ms)

    def suppress(self, claim: Claim) -> None:
        """The target has just this: nothing is sent."""
        name = self._kit.name

        def change(entry: OutboxEntry) -> None:
            outbox.suppress(entry, name, claim.version)

        self._kit.gauges.count("suppressed")
        self._record_one(claim, change)

    def withhold(self, claim: Claim) -> None:
        """Give up the version that is due now; a newer one asks again."""
        kit, user_id = self._kit, claim.turn.user_id

        def change(entry: OutboxEntry) -> None:
            if kit.render(user_id) is None:  # still so: consent may have come while this waited to be written
                outbox.withhold(entry, kit.name, entry.update.version, kit.clock())
            else:
                claim.lift(entry, kit.name)

        kit.gauges.count("withheld")
        self._record_one(claim, change)

    def split(self, claims: list[Claim]) -> None:
        """The request was refused as a whole: its halves go as requests of their own, under marks of their own."""
        self._kit.gauges.count("split")
        middle = (len(claims) + 1) // 2
        for half in (claims[:middle], claims[middle:]):
            self._claims.mark_anew(half, self._regroup)

    def _regroup(self, claims: list[Claim]) -> None:
        if claims:
            self._claims.groups.append(claims)

    # What the answer says of the target ----------------------------------------------------------------------------------

    def throttle(self, reason: str, after_ms: int | None) -> int:
        """Pause the whole lane, or park it if that is to be long; returns until when."""
        kit, now_ms = self._kit, self._kit.clock()
        until_ms = now_ms + kit.limiter.throttled(after_ms)
        if after_ms is not None and after_ms > PARK_BEYOND_MS:
            until_ms = now_ms + after_ms
            kit.breaker.parked(until_ms, reason)
        else:
            kit.lane.pause(until_ms)
        return until_ms

    def down(self, reading: Down) -> None:
        """Nothing goes there until an operator acts."""
        kit = self._kit
        kit.gauges.count("down")
        if kit.breaker.state.kind != "open":
            _log.warning("target %s is down (%s): %s. Its users stay due", kit.name, reading.cause.value, reading.reason)
        kit.breaker.opened(reading.cause, reading.reason)

    def answered(self, era: int | None) -> None:
        """It took the request, whatever it said about people."""
        if era is not None:
            self._kit.breaker.succeeded(era)
            self._kit.limiter.succeeded()

    # Each person -----------------------------------------------------------------------------------------------------------

    def settle_all(self, claims: list[Claim], parts: Sequence[Part], outcomes: Sequence[PersonOutcome], *, of_job: bool = False) -> None:
        """Each by their own outcome. ``of_job``: it came from a job, for which no write waits."""
        now_ms = self._kit.clock()
        taken = 0
        jobs: dict[str, list[Claim]] = {}
        outcome_of: dict[Claim, PersonOutcome] = {}
        for claim, part, outcome in zip(claims, parts, outcomes, strict=True):
            outcome_of[claim] = outcome
            if isinstance(outcome, Accepted):
                # What the job's answer is read with: not what was said, but of whom, and where they stood.
                claim.part = part._replace(body=b"")
                jobs.setdefault(outcome.job, []).append(claim)
                taken += 1
            elif isinstance(outcome, Confirmed):
                taken += 1
        if taken:
            self._kit.pace.confirmed(now_ms, taken)
        for job, people in jobs.items():
            self._follow(job, people)
        self._record(
            claims,
            lambda claim: self._change(claim, outcome_of[claim], now_ms),
            stays=lambda claim: isinstance(outcome_of[claim], Accepted),
            is_awaited=not of_job,
        )

    def _change(self, claim: Claim, outcome: PersonOutcome, now_ms: int) -> Change:
        """How the person's entry changes, and what is counted."""
        gauges, name, version, digest = self._kit.gauges, self._kit.name, claim.version, claim.digest
        match outcome:
            case Confirmed():
                gauges.count("confirmed")
                return partial(self._confirm, version, now_ms, digest)
            case Accepted(job):
                gauges.count("accepted")
                return lambda entry: outbox.accept(entry, name, version, job, digest, now_ms)
            case Retry(reason, after_ms):

                def fail(entry: OutboxEntry) -> None:
                    decision = outbox.fail(entry, name, version, reason, now_ms, after_ms=after_ms)
                    gauges.count("abandoned" if isinstance(decision, retry.GiveUp) else "retried")

                return fail
            case Rejected(why, detail, blocks):
                gauges.count("rejected")
                return lambda entry: outbox.reject(entry, name, version, why, detail, now_ms, blocks=blocks)
            case _:
                assert_never(outcome)

    # Record ----------------------------------------------------------------------------------------------------------------

    def release_job(self, claims: list[Claim], reason: str) -> None:
        """The job said nothing of these people that could be understood: they are due as before."""
        self._record(claims, lambda claim: partial(_release, claim, self._kit.name, reason), is_awaited=False)

    def split_job(self, claims: list[Claim], reading: Split) -> None:
        """The job failed as a whole: as if the request had."""
        for claim in claims:
            claim.part = None
            self._kit.ledger.await_outcome(claim.turn.partition)
        self.settle(claims, [], reading, None)

    def _record_one(self, claim: Claim, change: Change) -> None:
        kit, turn = self._kit, claim.turn
        kit.ledger.outcome_came(turn.partition)
        if kit.lane.holds(turn):
            kit.ledger.record(turn.partition, {turn.user_id: change}, lambda _: kit.end_turn(turn), patient=True)
        else:
            kit.lane.end(turn, None)

    def _record(
        self,
        claims: Iterable[Claim],
        change_of: Callable[[Claim], Change],
        stays: Callable[[Claim], bool] = lambda _: False,
        *,
        is_awaited: bool = True,
    ) -> None:
        """The turns end when the changes are durable, unless they stay with a job. ``is_awaited``: the ledger waits for these outcomes."""
        kit = self._kit
        by_partition: dict[int, list[Claim]] = {}
        for claim in claims:
            if is_awaited:
                kit.ledger.outcome_came(claim.turn.partition)
            if kit.lane.holds(claim.turn):
                by_partition.setdefault(claim.turn.partition, []).append(claim)
            else:
                kit.lane.end(claim.turn, None)
        for partition, of_one in by_partition.items():
            for start in range(0, len(of_one), MAX_USERS_PER_WRITE):
                some = of_one[start : start + MAX_USERS_PER_WRITE]
                ending = [claim for claim in some if not stays(claim)]
                changes = {claim.turn.user_id: change_of(claim) for claim in some}
                kit.ledger.record(partition, changes, partial(self._end_turns, ending), patient=True)

    def _end_turns(self, claims: list[Claim], _: bool) -> None:
        for claim in claims:
            self._kit.end_turn(claim.turn)


def _postpone(claim: Claim, target: str, reason: str, until_ms: int, entry: OutboxEntry) -> None:
    outbox.postpone(entry, target, claim.version, reason, until_ms)


def _release(claim: Claim, target: str, reason: str, entry: OutboxEntry) -> None:
    outbox.release(entry, target, claim.version, reason)
