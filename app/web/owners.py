"""Owners: a question about a user or an item is answered by the worker that has its partition, whichever worker was asked.

Where the owner does not answer, or the partition is moving, a copy answers: this worker's own, or another's. Each answer says whose it is
and how current (freshness.py). Nobody waits for an owner longer than a moment where a copy could answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any, assert_never

import orjson
from aiohttp import web

from app.streams.location import Elsewhere, Freshness, Here, Location, Moving
from app.web.freshness import OWN_WRITE_SECONDS, Wish, too_stale, with_headers
from app.web.peers import HOP_HEADER, TO_ANY_COPY, TO_STANDBY, Peers, problem_of
from app.web.problems import Problem, try_again
from app.web.views import Views

#: An owner that has not answered by then is still waited for, but copies are asked too: several times what an answer takes on a busy day.
PATIENCE_SECONDS = 0.15
#: What another's copy may take.
COPY_SECONDS = 0.5
#: Others who are asked for a copy, so many at once.
MAX_ASKED, ASKED_AT_ONCE = 12, 4
#: Of the answers of owners, the part that others' copies may be asked beside them, and how many at once after a quiet time: a fleet that is
#: slow because it has too much to do must not get twice as much (Dean and Barroso, The Tail at Scale, 2013).
SECOND_QUESTIONS_PER_ANSWER, MAX_SECOND_QUESTIONS = 0.1, 10.0
#: Nobody is asked again for a copy of a partition of which everybody said to have none.
NOBODY_SECONDS = 0.25
_LOOK_SECONDS = 0.01
#: Problems of somebody who cannot answer where another may.
_HAS_NONE = frozenset({"partition-moving", "not-the-owner"})
_NOT_THERE = _HAS_NONE | {"owner-unreachable"}
#: And of one whose copy is not current enough.
_TOO_OLD = frozenset({"too-stale", "not-applied-yet"})
#: Where there is a list that needs to know nothing of the person, it may be shown instead.
NOBODY_KNOWS = _NOT_THERE | {"too-stale"}


class Owners:
    """Answers here, or asks the owner. ``open`` goes with the application."""

    def __init__(self, views: Views, forward_timeout_seconds: float, clock: Callable[[], int]) -> None:
        """``clock``: milliseconds since 1970."""
        self._views = views
        self._clock = clock
        self._timeout_seconds = forward_timeout_seconds
        self._peers = Peers(forward_timeout_seconds)
        #: By partition, who answered from a copy last, and until when nobody is known to have one.
        self._copy_at: dict[int, str] = {}
        self._nobody_until: dict[int, float] = {}
        self._second_questions = MAX_SECOND_QUESTIONS

    def open(self, application: web.Application) -> AsyncIterator[None]:
        """For ``Application.cleanup_ctx``."""
        return self._peers.open(application)

    async def answer(
        self, request: web.Request, key: str, here: Callable[[], dict[str, Any] | Problem],
        freshness: Callable[[int], Freshness | None] | None = None, *, ranked: bool = False,
    ) -> web.Response:
        """``here()`` if this worker has the key's partition, otherwise the owner's answer to the same request, or one from a copy.

        ``freshness``: of what ``here`` reads, by partition; a user's profile unless it is said. ``ranked``: what ``here`` reads follows
        from events only when their users are ranked. NotOwnedError of ``here`` is left to the problems middleware: 503, try again.
        """
        wish, partition = Wish.of(request.query), self._views.partition_of(key)
        wish.check_partition(partition)
        ask = _Question(request, partition, wish, here, freshness or self._views.freshness, ranked)
        location: Location = self._views.locate(partition)
        match location, request.headers.get(HOP_HEADER):
            case Here(), _:
                return await self._here(ask) or try_again("partition-moving", "the partition has just moved to another worker").response()
            case _, "standby" if not ask.is_kept:
                return await self._here(ask) or _not_the_owner()
            case _, "copy":
                return await self._here(ask) or _not_the_owner()
            case Moving(reason=reason), None:
                return await self._from_a_copy(ask, None) or try_again("partition-moving", reason).response()
            case Moving(reason=reason), _:
                return try_again("partition-moving", reason).response()
            case Elsewhere(url=url), None:
                return await self._of_owner(ask, url)
            case Elsewhere(), _:
                return _not_the_owner()
            case _:
                assert_never(location)

    async def others(self, request: web.Request) -> dict[str, dict[str, Any] | None]:
        """What every other worker of the fleet answers to the same request, by its address; None: not in time, or not with 200."""
        urls = self._views.other_workers()
        answers = await asyncio.gather(*(self._peers.ask(url, request) for url in urls))
        return {url: _document(answer) for url, answer in zip(urls, answers, strict=True)}

    # Here --------------------------------------------------------------------------------------------------------------

    async def _here(self, ask: _Question) -> web.Response | None:
        """From what is here, the owner's or a copy, when it has the client's own event; None: nothing is here."""
        deadline = monotonic() + OWN_WRITE_SECONDS
        while True:
            freshness = ask.freshness(ask.partition)
            if freshness is None:
                return None
            if self._holds(ask, freshness):
                break
            if monotonic() > deadline:
                place = "/".join(map(str, ask.wish.after or ()))
                late = try_again("not-applied-yet", f"the event at {place} was not applied here within {OWN_WRITE_SECONDS:g} s")
                return with_headers(late.response(), freshness)
            await asyncio.sleep(_LOOK_SECONDS)
        if (problem := too_stale(freshness, ask.wish, self._clock())) is not None:
            return with_headers(problem.response(), freshness)
        found = ask.here()
        return with_headers(found.response() if isinstance(found, Problem) else json_response(found), freshness)

    def _holds(self, ask: _Question, freshness: Freshness) -> bool:
        """Whether what is here follows from the event that the client named; a copy does not tell who is ranked."""
        if ask.wish.after is None:
            return True
        return (self._views.seen_through(ask.partition) if ask.ranked else freshness.next_offset) > ask.wish.after[1]

    # Elsewhere ---------------------------------------------------------------------------------------------------------

    async def _of_owner(self, ask: _Question, url: str) -> web.Response:
        """The owner's answer; a copy's where the owner is silent, cannot answer, or takes longer than a copy."""
        # Whoever waits for an event of his own waits for its owner, who alone is sure to have it soon.
        if ask.wish.after is None and not self._peers.may_be_asked(url):
            copied = await self._from_a_standby(ask, url)
            if copied is not None and _answers(copied):
                return copied
        asking = asyncio.create_task(self._peers.ask(url, ask.request))
        copying: asyncio.Task[web.Response | None] | None = None
        try:
            await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
            if not asking.done():
                copying = asyncio.create_task(self._beside(ask, url))
                await asyncio.wait({asking, copying}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done() and (copied := copying.result()) is not None and _answers(copied):
                    self._peers.is_silent(url)
                    return copied
            answer = await asking
            if problem_of(answer) not in _NOT_THERE:
                self._second_questions = min(MAX_SECOND_QUESTIONS, self._second_questions + SECOND_QUESTIONS_PER_ANSWER)
                return answer
            copied = await copying if copying is not None else None
            if copied is None or not _answers(copied):
                copied = await self._from_a_copy(ask, url) or copied
            return copied or answer
        finally:
            asking.cancel()
            if copying is not None:
                copying.cancel()

    async def _beside(self, ask: _Question, owner: str) -> web.Response | None:
        """From a standby, while the owner is still waited for: of others only as long as there are not too many such questions."""
        own = None if ask.is_kept else await self._here(ask)
        if (own is not None and _answers(own)) or self._second_questions < 1:
            return own
        self._second_questions -= 1
        return await self._of_others(ask, owner, TO_STANDBY) or own

    async def _from_a_standby(self, ask: _Question, owner: str | None) -> web.Response | None:
        """This worker's own copy if it is kept up to date, or another's that is."""
        own = None if ask.is_kept else await self._here(ask)
        if own is not None and _answers(own):
            return own
        return await self._of_others(ask, owner, TO_STANDBY) or own

    async def _from_a_copy(self, ask: _Question, owner: str | None) -> web.Response | None:
        """Any that may answer, those that are only kept last; None: nobody has one, as far as the last assignment says who there is."""
        found = await self._from_a_standby(ask, owner)
        if found is not None and _answers(found):
            return found
        kept = await self._here(ask) if ask.is_kept else None
        if kept is not None and _answers(kept):
            return kept
        return await self._of_others(ask, owner, TO_ANY_COPY) or found or kept

    async def _of_others(self, ask: _Question, owner: str | None, hop: str) -> web.Response | None:
        """From another's copy: of who had one last, or of whoever has one."""
        if ask.wish.after is None and monotonic() < self._nobody_until.get(ask.partition, 0.0):
            return None
        urls = [url for url in self._peers.in_order(self._views.other_workers()) if url != owner][:MAX_ASKED]
        rounds = [urls[first : first + ASKED_AT_ONCE] for first in range(0, len(urls), ASKED_AT_ONCE)]
        if (known := self._copy_at.get(ask.partition)) in urls and known is not None and self._peers.may_be_asked(known):
            rounds = [[known], *([url for url in round_ if url != known] for round_ in rounds)]
        refused: set[str] = set()
        for round_ in rounds:
            if (answer := await self._first_of(round_, ask, hop, refused)) is not None:
                return answer
        if hop == TO_ANY_COPY and refused <= _HAS_NONE:
            self._nobody_until[ask.partition] = monotonic() + NOBODY_SECONDS
        return None

    async def _first_of(self, urls: list[str], ask: _Question, hop: str, refused: set[str]) -> web.Response | None:
        """The first answer of a copy among these; None: none of them may answer, ``refused`` has why."""
        seconds = COPY_SECONDS if ask.wish.after is None else self._timeout_seconds
        asking = {asyncio.create_task(self._peers.ask(url, ask.request, hop, seconds)): url for url in urls}
        pending = set(asking)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if _answers(answer := task.result()):
                        self._copy_at[ask.partition] = asking[task]
                        return answer
                    refused.add(problem_of(answer))
            return None
        finally:
            for task in pending:
                task.cancel()


class _Question:
    """What is asked, of which partition, and how it is answered here."""

    __slots__ = ("freshness", "here", "partition", "ranked", "request", "wish")

    def __init__(
        self, request: web.Request, partition: int, wish: Wish, here: Callable[[], dict[str, Any] | Problem],
        freshness: Callable[[int], Freshness | None], ranked: bool,
    ) -> None:
        self.request = request
        self.partition = partition
        self.wish = wish
        self.here = here
        self.freshness = freshness
        self.ranked = ranked

    @property
    def is_kept(self) -> bool:
        """Whether what is here is a copy that nobody brings up to date any more."""
        of = self.freshness(self.partition)
        return of is not None and not of.is_followed


def _answers(answer: web.Response) -> bool:
    """Whether nobody else needs to be asked."""
    return problem_of(answer) not in _NOT_THERE | _TOO_OLD


def _document(answer: web.Response) -> dict[str, Any] | None:
    try:
        document = orjson.loads(answer.body) if answer.status == 200 and isinstance(answer.body, bytes) else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _not_the_owner() -> web.Response:
    return Problem(421, "not-the-owner", "this request was forwarded here, but another worker has the partition now").response()


def json_response(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
