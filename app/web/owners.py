"""Owners: a question about a user or an item is answered by the worker that has its partition, whichever worker was asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, assert_never

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from app.streams.location import Elsewhere, Here, Location, Moving
from app.web.problems import Problem, try_again
from app.web.views import Views

log = logging.getLogger(__name__)

#: Set on a request that was forwarded once; it is never forwarded again.
HOP_HEADER = "X-Tidings-Hop"
#: An answer of another worker: a profile with all its lists is about 100 kB.
MAX_ANSWER_BYTES = 4 * 1024**2
_MAX_CONNECTIONS_PER_WORKER = 32


class Owners:
    """Answers here, or asks the owner. ``session`` is opened with the application and closed with it."""

    def __init__(self, views: Views, forward_timeout_seconds: float) -> None:
        self._views = views
        self._timeout = aiohttp.ClientTimeout(total=forward_timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def open(self, _: web.Application) -> AsyncIterator[None]:
        """For ``Application.cleanup_ctx``."""
        connector = aiohttp.TCPConnector(limit_per_host=_MAX_CONNECTIONS_PER_WORKER)
        async with aiohttp.ClientSession(timeout=self._timeout, connector=connector, auto_decompress=False, trust_env=False) as session:
            self._session = session
            yield
            self._session = None

    async def answer(self, request: web.Request, key: str, here: Callable[[], dict[str, Any] | Problem]) -> web.Response:
        """``here()`` if this worker has the key's partition, otherwise the owner's answer to the same request.

        NotOwnedError of ``here`` is left to the problems middleware: 503, try again.
        """
        location: Location = self._views.locate(self._views.partition_of(key))
        match location:
            case Here():
                found = here()
                return found.response() if isinstance(found, Problem) else json_response(found)
            case Moving(reason=reason):
                return try_again("partition-moving", reason).response()
            case Elsewhere() if HOP_HEADER in request.headers:
                return Problem(421, "not-the-owner", "this request was forwarded here, but another worker has the partition now").response()
            case Elsewhere(url=url):
                return await self._ask(url, request)
            case _:
                assert_never(location)

    async def _ask(self, url: str, request: web.Request) -> web.Response:
        assert self._session is not None, "the application is not started"
        headers = {name: request.headers[name] for name in ("Authorization", "Accept") if name in request.headers}
        target = url.rstrip("/") + request.rel_url.raw_path_qs
        try:
            # encoded=True keeps the path as the client wrote it: an id may hold an escaped slash
            async with self._session.get(URL(target, encoded=True), headers={**headers, HOP_HEADER: "1"}, allow_redirects=False) as answer:
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
        kept = {name: headers[name] for name in ("Content-Type", "Retry-After", "WWW-Authenticate") if name in headers}
        return web.Response(body=body, status=status, headers=kept)


def json_response(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
