"""Jobs at a target that answers with the name of one: asked for at rising intervals until they say what became of the people in them.

The people stay in flight, their turns open; a newer list waits for the job's end. The name is in their outbox entries, so that the next
owner asks on instead of sending again. A job that says nothing for too long is given up, and its people are due again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from app.delivery import outbox
from app.delivery.claim import Claim
from app.delivery.client import Missing, NoResponse
from app.delivery.kit import Kit
from app.delivery.lane import Turn
from app.delivery.settling import Settler
from app.destinations import JobBased
from app.destinations.outcomes import Down, JobReading, PerPerson, Retry, Running, Split, Throttled, Unavailable
from app.destinations.requests import Part, Response
from app.errors import NotOwnedError

#: Jobs that are followed at once, and people in them; while there are so many, nothing more is sent.
MAX_JOBS = 100
MAX_PEOPLE = 100_000
#: Jobs that are asked for at once.
MAX_POLLS = 4
#: The waits between two questions: the first, how each is longer than the one before, and the longest.
FIRST_POLL_MS = 1_000
POLL_GROWTH = 1.5
MAX_POLL_MS = 60_000
#: People whose parts are made anew before other tasks get the event loop.
_PEOPLE_AT_ONCE = 16


@dataclass(slots=True, eq=False)
class Job:
    """One job and who is in it."""

    #: As the outbox entries have it.
    name: str
    #: By what it is asked for: it may have another name by now.
    asked_as: str
    claims: list[Claim]
    #: Whether another worker sent it: then nobody knows all who were in it, nor in which order.
    is_adopted: bool
    next_at_ms: int
    until_ms: int
    wait_ms: int = FIRST_POLL_MS
    #: A question about it is on the wire.
    is_asked: bool = False


class Jobs:
    """Those of one target."""

    def __init__(self, kit: Kit, settler: Callable[[], Settler], room_made: Callable[[], None]) -> None:
        """``room_made``: there may be one more again."""
        self._kit = kit
        self._target = kit.target if isinstance(kit.target, JobBased) else None
        self._settler = settler
        self._room_made = room_made
        self._jobs: dict[str, Job] = {}
        self._polls = 0

    def has_room(self) -> bool:
        return not self._jobs or (len(self._jobs) < MAX_JOBS and self.users < MAX_PEOPLE)

    @property
    def users(self) -> int:
        """People who are in jobs."""
        return sum(len(job.claims) for job in self._jobs.values())

    def follow(self, name: str, claims: list[Claim]) -> None:
        """A job took these people, in this order."""
        now_ms = self._kit.clock()
        if (job := self._jobs.get(name)) is not None:
            job.claims += claims
            job.is_adopted = True  # two requests, one name: who stood where is not known any more
            return
        self._jobs[name] = Job(name, name, claims, False, now_ms + FIRST_POLL_MS, now_ms + outbox.MAX_JOB_MS)
        self._kit.wake()

    def adopt(self, turn: Turn, ask: outbox.AskJob) -> bool:
        """A job that another worker, or this one before it was started anew, sent has the user. False: nobody can be asked about it."""
        if self._target is None:
            return False
        if not self.has_room():
            return False
        job = self._jobs.get(ask.job)
        if job is None:
            next_at_ms = self._kit.clock() + FIRST_POLL_MS  # until then most of the others in it are found
            job = self._jobs[ask.job] = Job(ask.job, ask.job, [], True, next_at_ms, ask.until_ms)
        job.is_adopted = True
        claim = Claim(turn)
        claim.version, claim.digest, claim.until_ms = ask.version, ask.digest, ask.until_ms
        job.claims.append(claim)
        return True

    # Ask ---------------------------------------------------------------------------------------------------------------

    def ask_due(self) -> None:
        """Ask for those whose time has come."""
        if not self._jobs:
            return
        now_ms = self._kit.clock()
        for job in list(self._jobs.values()):
            if job.is_asked or now_ms < min(job.next_at_ms, job.until_ms):
                continue
            if not any(self._kit.lane.holds(claim.turn) for claim in job.claims):
                self._end_turns_of(job)  # all of them went to other workers
            elif now_ms >= job.until_ms:
                self._give_up(job)
            elif self._polls < MAX_POLLS and self._may_ask(job, now_ms):
                job.is_asked = True
                self._polls += 1
                self._kit.spawn(self._ask(job))

    def set_back(self, by_ms: int) -> None:
        """The clock was: all times lie as far ahead as they did."""
        for job in self._jobs.values():
            job.next_at_ms -= by_ms
            job.until_ms -= by_ms

    def next_at_ms(self) -> int | None:
        """When the next is to be asked for; None: there is none."""
        return min((min(job.next_at_ms, job.until_ms) for job in self._jobs.values() if not job.is_asked), default=None)

    def _may_ask(self, job: Job, now_ms: int) -> bool:
        kit = self._kit
        if not kit.breaker.allows() or not kit.lane.is_open(now_ms):
            job.next_at_ms = now_ms + FIRST_POLL_MS
            return False
        if wait_ms := kit.limiter.wait_ms(0):
            job.next_at_ms = now_ms + wait_ms
            return False
        return True

    async def _ask(self, job: Job) -> None:
        kit = self._kit
        assert self._target is not None, "only such targets have jobs"
        try:
            kit.limiter.took(0)
            era = kit.breaker.begin()
            answer = await kit.client.send(self._target.poll(job.asked_as), kit.lease)
            if isinstance(answer, NoResponse):
                if answer.missing in (Missing.TIMED_OUT, Missing.UNREACHABLE):
                    kit.breaker.failed(answer.reason, era)
                else:
                    kit.breaker.ended(era)
                self._ask_later(job)
                return
            claims, parts = await self._parts(job)
            self._settle(job, claims, parts, self._read(job, parts, answer), era)
        finally:
            self._polls -= 1
            job.is_asked = False
            kit.wake()

    def _read(self, job: Job, parts: Sequence[Part], response: Response) -> JobReading:
        assert self._target is not None, "only such targets have jobs"
        if (quota := self._kit.target.quota(response)) is not None:
            self._kit.limiter.told(quota)
        return self._target.read_poll(job.asked_as, parts, response)

    async def _parts(self, job: Job) -> tuple[list[Claim], list[Part]]:
        """Everyone in it, and their parts: those that were sent, or, where another worker sent them, as they would be now."""
        unknown: list[Claim] = []
        for number, claim in enumerate(list(job.claims)):
            if claim.part is None:
                if number % _PEOPLE_AT_ONCE == _PEOPLE_AT_ONCE - 1:
                    await asyncio.sleep(0)
                claim.part = self._part_of(claim)
                if claim.part is None:
                    unknown.append(claim)
        if unknown:
            self._take_out(job, unknown)
            self._settler().release_job(unknown, "a job has the person, who cannot be named there any more")
        claims = [claim for claim in job.claims if claim.part is not None]
        return claims, [claim.part for claim in claims if claim.part is not None]

    def _part_of(self, claim: Claim) -> Part | None:
        kit = self._kit
        try:
            rendered = kit.render(claim.turn.user_id)
        except NotOwnedError:
            return None
        part = kit.target.encode(rendered) if rendered is not None else None
        return part._replace(body=b"") if isinstance(part, Part) else None

    # Settle ------------------------------------------------------------------------------------------------------------

    def _settle(self, job: Job, claims: list[Claim], parts: Sequence[Part], reading: JobReading, era: int) -> None:
        kit, settler = self._kit, self._settler()
        match reading:
            case Running(after_ms, name):
                settler.answered(era)
                job.asked_as = name or job.asked_as
                self._ask_later(job, after_ms)
            case PerPerson(outcomes):
                settler.answered(era)
                self._take_out(job, claims)
                settler.settle_all(claims, parts, outcomes, of_job=True)
            case Split(reason):
                settler.answered(era)
                is_adopted = job.is_adopted
                self._take_out(job, claims)
                if is_adopted:
                    settler.release_job(claims, reason)
                else:
                    settler.split_job(claims, reading)
            case Unavailable(reason, after_ms):
                kit.breaker.failed(reason, era)
                self._ask_later(job, after_ms)
            case Throttled(reason, asked_ms):
                kit.breaker.ended(era)
                job.next_at_ms = settler.throttle(reason, asked_ms)
            case Down():
                settler.down(reading)
                self._ask_later(job)
            case _:
                assert_never(reading)

    def _ask_later(self, job: Job, after_ms: int = 0) -> None:
        job.next_at_ms = self._kit.clock() + max(after_ms, job.wait_ms)
        job.wait_ms = min(round(job.wait_ms * POLL_GROWTH), MAX_POLL_MS)

    def _give_up(self, job: Job) -> None:
        claims = job.claims
        self._take_out(job, claims)
        reason = f"the job {job.name} did not end within {outbox.MAX_JOB_MS // 60_000} minutes"
        self._settler().settle_all(claims, [_NOBODY] * len(claims), [Retry(reason)] * len(claims), of_job=True)

    def _end_turns_of(self, job: Job) -> None:
        for claim in job.claims:
            self._kit.lane.end(claim.turn, None)
        self._take_out(job, job.claims)

    def _take_out(self, job: Job, claims: Sequence[Claim]) -> None:
        """These have ended. Whoever was found to be in it meanwhile is asked for once more."""
        out = set(claims)
        job.claims = [claim for claim in job.claims if claim not in out]
        if not job.claims:
            self._jobs.pop(job.name, None)
            self._room_made()


#: Stands where nobody reads a part.
_NOBODY = Part("", 0, 0, b"", "")
