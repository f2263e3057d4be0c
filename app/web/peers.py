"""Peers: the other workers of the fleet, asked over HTTP; who does not answer is not waited for again and again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import monotonic

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from app.web.freshness import HEADERS
from app.web.problems import Problem, try_again

log = logging.getLogger(__name__)

#: Set on a request that was forwarded once; it is never forwarded again. The owner alone may answer, or also a standby, or whoever has a
#: copy, be it one that is only kept.
HOP_HEADER = "X-Tidings-Hop"
TO_OWNER, TO_STANDBY, TO_ANY_COPY = "1", "standby", "copy"
#: An answer of another worker: a profile with all its lists is about 100 kB.
MAX_ANSWER_BYTES = 4 * 1024**2
#: A worker that did not answer is not asked for so long, but by one request, which finds out.
SILENCE_SECONDS = 1.0
#: Remembered of; a fleet has fewer workers, but those of a week have had more addresses.
MAX_SILENT = 256
#: Between two lines of the log about one of them.
TELL_SECONDS = 60.0
_MAX_CONNECTIONS_PER_WORKER = 32


class Peers:
    """``open`` goes with the application."""

    def __init__(self, timeout_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        """``clock``: seconds."""
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        #: Who did not answer, and when they may be asked again.
        self._silent: dict[str, float] = {}
        #: When the log told last that one could not be asked.
        self._told: dict[str, float] = {}

    async def open(self, _: web.Application) -> AsyncIterator[None]:
        """For ``Application.cleanup_ctx``."""
        connector = aiohttp.TCPConnector(limit_per_host=_MAX_CONNECTIONS_PER_WORKER)
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False, trust_env=False) as session:
            self._session = session
            yield
            self._session = None

    def may_be_asked(self, url: str) -> bool:
        """False while it is silent. Once in a while True all the same: whoever asks then finds out, and the others need not wait."""
        if (until := self._silent.get(url)) is None:
            return True
        if (now := self._clock()) < until:
            return False
        self._silent[url] = now + SILENCE_SECONDS
        return True

    def in_order(self, urls: Iterable[str]) -> list[str]:
        """Those that answer before those that were silent."""
        return sorted(urls, key=lambda url: (url in self._silent, url))

    def is_silent(self, url: str) -> None:
        """It was waited for in vain."""
        if url not in self._silent:
            log.debug("%s does not answer in time", url)
            if len(self._silent) >= MAX_SILENT:
                self._silent.clear()
        self._silent[url] = self._clock() + SILENCE_SECONDS

    async def ask(self, url: str, request: web.Request, hop: str = TO_OWNER, seconds: float | None = None) -> web.Response:
        """The answer of another worker to the same request; a 503 of the kind ``owner-unreachable`` where there is none in time."""
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
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
            if self._is_news(url):
                log.warning("cannot ask %s: %s", url, exc or type(exc).__name__)
            self.is_silent(url)
            return try_again("owner-unreachable", "the worker that has the partition does not answer").response()
        self._silent.pop(url, None)
        if len(body) > MAX_ANSWER_BYTES:
            return Problem(502, "owner-failed", "the answer of the worker that has the partition is too large").response()
        return _passed_on(answer.status, answer.headers, body)

    def _is_news(self, url: str) -> bool:
        """Once a minute for each: whoever is gone is asked every second."""
        if (now := self._clock()) - self._told.get(url, -TELL_SECONDS) < TELL_SECONDS:
            return False
        if len(self._told) >= MAX_SILENT:
            self._told.clear()
        self._told[url] = now
        return True


def _passed_on(status: int, headers: Mapping[str, str], body: bytes) -> web.Response:
    if status == 421 or 300 <= status < 400:
        return try_again("partition-moving", "the partition is moving to another worker").response()
    kept = {name: headers[name] for name in ("Content-Type", "Retry-After", "WWW-Authenticate", *HEADERS) if name in headers}
    return web.Response(body=body, status=status, headers=kept)


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
