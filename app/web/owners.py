"""Owners: a question about a user or an item is answered by the worker that has its partition, whichever worker was asked.

Where the owner does not answer, or the partition is moving, a copy answers: this worker's own, or another's. Each answer says whose it is
and how current (freshness.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic
from typing import Any, assert_never

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from app.streams.location import Elsewhere, Freshness, Here, Location, Moving
from app.web.freshness import HEADERS, OWN_WRITE_SECONDS, Wish, too_stale, with_headers
from app.web.problems import Problem, try_again
from app.web.views import Views

log = logging.getLogger(__name__)

#: Set on a request that was forwarded once; it is never forwarded again. The owner alone may answer, or whoever has a copy.
HOP_HEADER = "X-Tidings-Hop"
TO_OWNER, TO_ANY_COPY = "1", "copy"
#: An answer of another worker: a profile with all its lists is about 100 kB.
MAX_ANSWER_BYTES = 4 * 1024**2
#: An owner may take so long where this worker could answer from a copy.
OWNER_SECONDS = 0.5
#: An owner that did not answer is not asked for so long, but once, where there is a copy.
SILENCE_SECONDS = 1.0
#: Others who are asked for a copy, one after another.
MAX_ASKED = 2
_MAX_CONNECTIONS_PER_WORKER = 32
_LOOK_SECONDS = 0.01
#: Problems of somebody who cannot answer where another may.
_NOT_THERE = frozenset({"partition-moving", "owner-unreachable", "not-the-owner"})
#: And of one whose copy is not current enough.
_TOO_OLD = frozenset({"too-stale", "not-applied-yet"})
#: Where there is a list that needs to know nothing of the person, it may be shown instead.
NOBODY_KNOWS = _NOT_THERE | {"too-stale"}


class Owners:
    """Answers here, or asks the owner. ``session`` is opened with the application and closed with it."""

    def __init__(self, views: Views, forward_timeout_seconds: float, clock: Callable[[], int]) -> None:
        """``clock``: milliseconds since 1970."""
        self._views = views
        self._clock = clock
        self._timeout_seconds = forward_timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        #: Owners that did not answer, and when they may be asked again; as many as there are workers.
        self._silent: dict[str, float] = {}

    async def open(self, _: web.Application) -> AsyncIterator[None]:
        """For ``Application.cleanup_ctx``."""
        connector = aiohttp.TCPConnector(limit_per_host=_MAX_CONNECTIONS_PER_WORKER)
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False, trust_env=False) as session:
            self._session = session
            yield
            self._session = None

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
        has_copy = self._has_copy(ask)
        seconds = self._timeout_seconds
        if has_copy and ask.wish.after is None:
            if monotonic() < self._silent.get(url, 0.0) and (copied := await self._here(ask)) is not None:
                return copied
            seconds = min(seconds, OWNER_SECONDS)
            if url in self._silent:
                self._silent[url] = monotonic() + SILENCE_SECONDS + seconds  # this one finds out, the others need not wait
        answer = await self._ask(url, ask.request, seconds=seconds)
        kind = problem_of(answer)
        if kind == "owner-unreachable":
            self._silent[url] = monotonic() + SILENCE_SECONDS
        else:
            self._silent.pop(url, None)
        if kind not in _NOT_THERE:
            return answer
        return await self._from_a_copy(ask, url) or answer

    async def _from_a_copy(self, ask: _Question, owner: str | None) -> web.Response | None:
        """This worker's own, or another's, if it may answer; None: nobody has one, as far as the last assignment says who there is."""
        own = await self._here(ask)
        if own is not None and problem_of(own) not in _TOO_OLD:
            return own
        for url in [url for url in self._views.other_workers() if url != owner][:MAX_ASKED]:
            answer = await self._ask(url, ask.request, TO_ANY_COPY, OWNER_SECONDS if ask.wish.after is None else self._timeout_seconds)
            if problem_of(answer) not in _NOT_THERE | _TOO_OLD:
                return answer
        return own

    def _has_copy(self, ask: _Question) -> bool:
        """Whether there is one here that may answer."""
        freshness = ask.freshness(ask.partition)
        return freshness is not None and too_stale(freshness, ask.wish, self._clock()) is None

    async def _ask(self, url: str, request: web.Request, hop: str = TO_OWNER, seconds: float | None = None) -> web.Response:
        assert self._session is not None, "the application is not started"
        headers = {name: request.headers[name] for name in ("Authorization", "Accept") if name in request.headers}
        target = url.rstrip("/") + request.rel_url.raw_path_qs
        timeout = aiohttp.ClientTimeout(total=seconds or self._timeout_seconds)
        try:
            # encoded=True keeps the path as the client wrote it: an id may hold an escaped slash
            async with self._session.get(
                URL(target, encoded=True), headers={**headers, HOP_HEADER: hop}, allow_redirects=False, timeout=timeout
            ) as answer:
                body = await answer.content.read(MAX_ANSWER_BYTES + 1)
                while chunk := await answer.content.read(MAX_ANSWER_BYTES + 1 - len(body)):
                    body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return Problem(502, "owner-failed", "the answer of the worker that has the partition is too large").response()
                return self._passed_on(answer.status, answer.headers, body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            log.warning("cannot ask %s: %s", url, exc or type(exc).__name__)
            return try_again("owner-unreachable", "the worker that has the partition does not answer").response()

    async def others(self, request: web.Request) -> dict[str, dict[str, Any] | None]:
        """What every other worker of the fleet answers to the same request, by its address; None: not in time, or not with 200."""
        urls = self._views.other_workers()
        answers = await asyncio.gather(*(self._ask(url, request) for url in urls))
        return {url: self._document(answer) for url, answer in zip(urls, answers, strict=True)}

    @staticmethod
    def _document(answer: web.Response) -> dict[str, Any] | None:
        try:
            document = orjson.loads(answer.body) if answer.status == 200 and isinstance(answer.body, bytes) else None
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    @staticmethod
    def _passed_on(status: int, headers: Mapping[str, str], body: bytes) -> web.Response:
        if status == 421 or 300 <= status < 400:
            return try_again("partition-moving", "the partition is moving to another worker").response()
        kept = {name: headers[name] for name in ("Content-Type", "Retry-After", "WWW-Authenticate", *HEADERS) if name in headers}
        return web.Response(body=body, status=status, headers=kept)


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


def problem_of(answer: web.Response) -> str:
    """The kind of the problem that a 503 tells; empty for any other answer."""
    if answer.status != 503 or not isinstance(answer.body, bytes):
        return ""
    try:
        document = orjson.loads(answer.body)
    except ValueError:
        return ""
    kind = document.get("type") if isinstance(document, dict) else None
    return kind.removeprefix("urn:tidings:problem:") if isinstance(kind, str) else ""


def _not_the_owner() -> web.Response:
    return Problem(421, "not-the-owner", "this request was forwarded here, but another worker has the partition now").response()


def json_response(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
