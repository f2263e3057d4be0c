"""The demo's web server: it serves the page, receives the signed webhooks, hands clicks to the worker and streams the inbox to the page.

It listens on 127.0.0.1 and answers only what was asked of it by that name, so that no other site in the browser can use its token.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from app.web.demo.inbox import Inbox, Kept
from app.web.demo.platform_inbox import Held, PlatformInbox, address_of
from app.web.demo.platforms import Platform
from app.web.demo.shop import ACTIONS, Catalog, arrival_json, event_json, product_json

_HERE = Path(__file__).parent
_PAGE_FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "art.svg": "image/svg+xml"}
#: Nothing outside this server, nothing inline.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: What of the worker the page's footer may look at, with the demo's token.
_WORKER_PATHS = re.compile(
    r"metrics|openapi\.json|healthz|readyz|v1/destinations|v1/users/[a-z0-9-]{1,64}(/recommendations|/deliveries)?|"
    r"v1/items/[a-z0-9-]{1,64}/neighbours"
)
#: The list that the emails are made of.
_SLOT = "for_you"
_USER_ID = re.compile(r"[a-z0-9-]{1,64}")
_EVENT_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
MAX_STREAMS = 64
MAX_CLICK_BYTES = 4_096
#: Visitors whose clicks are remembered, and clicks of each, for the measured steps.
MAX_VISITORS, MAX_CLICKS = 500, 16
HEARTBEAT_SECONDS = 15.0


@dataclass
class Click:
    """One click on its way; times are this server's clock."""

    event_id: str
    occurred_at_ms: int
    accepted_at_ms: int | None = None


class Clicks:
    """The latest clicks of the latest visitors: which one a list answers, and how long each step took."""

    def __init__(self) -> None:
        self._by_user: OrderedDict[str, deque[Click]] = OrderedDict()

    def add(self, user_id: str, click: Click) -> None:
        self._by_user.setdefault(user_id, deque(maxlen=MAX_CLICKS)).append(click)
        self._by_user.move_to_end(user_id)
        while len(self._by_user) > MAX_VISITORS:
            self._by_user.popitem(last=False)

    def answered_by(self, user_id: str, current_to_ms: int) -> Click | None:
        """The newest click that a list current to ``current_to_ms`` contains."""
        answered = [c for c in self._by_user.get(user_id, ()) if c.occurred_at_ms <= current_to_ms]
        return answered[-1] if answered else None


class DemoServer:
    """The demo's state and its aiohttp application. ``token`` is the worker's bearer token and never leaves this process.

    With a ``platform`` the e-mails are made of the fields that it holds; otherwise of what the inbox receives.
    """

    def __init__(
        self, *, secret: str, catalog: Catalog, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        platform: Platform | None = None,
    ) -> None:
        self.inbox = Inbox(secret, on_kept=lambda kept: self._on_news(kept.user_id), now_ms=now_ms)
        self.platform = PlatformInbox(platform, self._on_news) if platform is not None else None
        self.worker_url = ""
        self.seeded_events = 0
        self._token = ""
        self._catalog = catalog
        self._now_ms = now_ms
        self._clicks = Clicks()
        self._sent_events = 0
        self._streams: dict[asyncio.Event, str] = {}
        self._stopping = False
        self._session: aiohttp.ClientSession | None = None
        self._files = {name: (_HERE / name).read_bytes() for name in _PAGE_FILES}

    def connect(self, worker_url: str, token: str) -> None:
        """Where clicks go from now on."""
        self.worker_url, self._token = worker_url, token

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_only_for_us], client_max_size=MAX_CLICK_BYTES)
        app.cleanup_ctx.append(self._with_session)
        app.on_shutdown.append(self._end_streams)
        app.add_routes([
            web.get("/", self._page),
            web.get("/{name:page\\.css|page\\.js|art\\.svg}", self._page),
            web.get("/catalog", self._get_catalog),
            web.get("/status", self._status),
            web.get("/stream/{user_id}", self._stream),
            web.get("/worker/{path:.+}", self._look_at_worker),
            web.post("/visitors", self._arrive),
            web.post("/clicks", self._click),
            web.post("/stock", self._change_stock),
            web.post("/inbox", self.inbox.handle),
        ])
        return app

    async def send_events(self, events: list[dict[str, Any]]) -> None:
        """POST /v1/events at the worker. Raises RuntimeError with the worker's words unless it answers 202."""
        await self._tell_worker("POST", "v1/events", events)

    async def fill_shop(self) -> None:
        """PUT /v1/products at the worker. Raises RuntimeError with the worker's words unless it answers 202."""
        await self._tell_worker("PUT", "v1/products", product_json(self._catalog))

    # What the page asks for

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "page.html")
        return web.Response(body=self._files[name], content_type=_PAGE_FILES[name], charset="utf-8", headers=_HEADERS)

    async def _get_catalog(self, request: web.Request) -> web.Response:
        return _json(self._catalog.document)

    async def _status(self, request: web.Request) -> web.Response:
        title = self.platform.title if self.platform else None
        return _json({"events": self.seeded_events + self._sent_events, "inbox": self._stats(), "platform": title})

    async def _click(self, request: web.Request) -> web.Response:
        """Body {event_id, user_id, action, product_id}; 202 once Kafka has the event, 400, or 502 with the worker's words."""
        click = _read(await request.read(), {"event_id", "user_id", "action", "product_id"}, self._catalog)
        if isinstance(click, str):
            return _json({"detail": click}, 400)
        timed = Click(click["event_id"], self._now_ms())
        self._clicks.add(click["user_id"], timed)
        answer = await self._hand_on(event_json(self._catalog, occurred_at_ms=timed.occurred_at_ms, **click))
        if answer.status == 202:
            timed.accepted_at_ms = self._now_ms()
        return answer

    async def _arrive(self, request: web.Request) -> web.Response:
        """Body {event_id, user_id, name}; answers like a click."""
        visitor = _read(await request.read(), {"event_id", "user_id", "name"}, self._catalog)
        if isinstance(visitor, str):
            return _json({"detail": visitor}, 400)
        if self.platform is not None:
            self.platform.introduce(visitor["user_id"], visitor["name"])
        address = address_of(visitor["user_id"])
        return await self._hand_on(arrival_json(occurred_at_ms=self._now_ms(), address=address, **visitor))

    async def _change_stock(self, request: web.Request) -> web.Response:
        """Body {product_id, availability}; 202 once Kafka has the change, 400, or 502 with the worker's words."""
        change = _object(await request.read(), {"product_id", "availability"})
        if isinstance(change, str):
            return _json({"detail": change}, 400)
        if change["product_id"] not in self._catalog.products:
            return _json({"detail": "product_id: not in this shop"}, 400)
        if change["availability"] not in ("in_stock", "out_of_stock"):
            return _json({"detail": "availability: in_stock or out_of_stock"}, 400)
        try:
            await self._tell_worker("PATCH", "v1/products", [change])
        except (RuntimeError, aiohttp.ClientError, TimeoutError) as exc:
            return _json({"detail": f"the change did not reach the worker: {exc}"}, 502)
        return _json({"events": self.seeded_events + self._sent_events}, 202)

    async def _hand_on(self, event: dict[str, Any]) -> web.Response:
        try:
            await self.send_events([event])
        except (RuntimeError, aiohttp.ClientError, TimeoutError) as exc:
            return _json({"detail": f"the event did not reach the worker: {exc}"}, 502)
        self._sent_events += 1
        return _json({"events": self.seeded_events + self._sent_events}, 202)

    async def _look_at_worker(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if not _WORKER_PATHS.fullmatch(path):
            return _json({"detail": "the demo does not show this part of the worker"}, 404)
        query = f"?explain=true&slot={_SLOT}" if request.query.get("explain") == "true" else ""
        try:
            status, body, content_type = await self._ask_worker("GET", path + query)
        except (aiohttp.ClientError, TimeoutError) as exc:
            return _json({"detail": f"the worker did not answer: {exc}"}, 502)
        return web.Response(status=status, body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the user's last email now, and each that follows. A slow reader gets the latest, not all."""
        user_id = request.match_info["user_id"]
        if not _USER_ID.fullmatch(user_id):
            return _json({"detail": "not a visitor of this shop"}, 400)
        if len(self._streams) >= MAX_STREAMS:
            return _json({"detail": f"{MAX_STREAMS} pages are open already: close one"}, 503)
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            async with aclosing(self._emails(user_id)) as emails:
                async for email in emails:
                    await response.write(b"data: " + orjson.dumps(email) + b"\n\n" if email else b": still here\n\n")
        return response

    async def _emails(self, user_id: str) -> AsyncGenerator[dict[str, Any] | None, None]:
        changed = asyncio.Event()
        changed.set()
        self._streams[changed] = user_id
        try:
            while not self._stopping:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield None
                    continue
                changed.clear()
                yield await self._latest_email(user_id)
        finally:
            del self._streams[changed]

    async def _latest_email(self, user_id: str) -> dict[str, Any] | None:
        if self.platform is not None:
            held = self.platform.last(user_id)
            return await self._email_of_fields(held) if held else None
        kept = self.inbox.last(user_id)
        return self._email(kept) if kept else None

    def _email(self, kept: Kept) -> dict[str, Any]:
        data = orjson.loads(kept.body)["data"]
        return {
            "data": data,
            "message_id": kept.message_id,
            "answers": self._answers(kept.user_id, data, kept.received_at_ms),
            "events": self.seeded_events + self._sent_events,
            "inbox": self._stats(),
        }

    async def _email_of_fields(self, held: Held) -> dict[str, Any]:
        """In the form of the inbox's e-mails, and with the fields it is made of. What they do not say is the worker's to say."""
        recommendations = [{"product_id": item.product_id, "reason": {"kind": "held", "text": item.reason}} for item in held.items]
        data = {"version": held.version or held.writes, "ranked_at": held.ranked_at, "recommendations": recommendations}
        listed = await self._list_behind(held)
        return {
            "data": data,
            "message_id": None,
            "answers": self._answers(held.user_id, listed, held.received_at_ms) if listed else None,
            "events": self.seeded_events + self._sent_events,
            "inbox": self._stats(),
            "platform": {"person": held.identity, "fields": held.shown_fields()},
        }

    async def _list_behind(self, held: Held) -> dict[str, Any] | None:
        """The list that the fields were written from, as the worker has it; None once the worker has a newer one."""
        try:
            status, body, _ = await self._ask_worker("GET", f"v1/users/{held.user_id}/recommendations")
            listed = orjson.loads(body)
        except (RuntimeError, aiohttp.ClientError, TimeoutError, ValueError):
            return None
        if status != 200 or (held.version and listed.get("version") != held.version):
            return None
        # To the second: where no field holds the version, this is all there is to know it by.
        return listed if not held.ranked_at or str(listed.get("ranked_at"))[:19] == held.ranked_at[:19] else None

    def _answers(self, user_id: str, data: dict[str, Any], received_at_ms: int) -> dict[str, Any] | None:
        """The click that this list answers, and how long each step took."""
        click = self._clicks.answered_by(user_id, _milliseconds(data.get("current_to")))
        if click is None:
            return None
        return {
            "event_id": click.event_id,
            "accepted_ms": None if click.accepted_at_ms is None else click.accepted_at_ms - click.occurred_at_ms,
            "ranked_ms": _milliseconds(data.get("ranked_at")) - click.occurred_at_ms,
            "received_ms": received_at_ms - click.occurred_at_ms,
        }

    def _stats(self) -> dict[str, int]:
        return self.platform.stats() if self.platform is not None else self.inbox.stats()

    # Plumbing

    def _on_news(self, user_id: str) -> None:
        for changed, of in self._streams.items():
            if of == user_id:
                changed.set()

    async def _tell_worker(self, method: str, path: str, document: Any) -> None:
        status, body, _ = await self._ask_worker(method, path, orjson.dumps(document))
        if status != 202:
            raise RuntimeError(f"the worker answered {status}: {body.decode(errors='replace')[:500]}")

    async def _ask_worker(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, str]:
        if self._session is None or not self.worker_url:
            raise RuntimeError("the worker is not up yet")
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        async with self._session.request(method, f"{self.worker_url}/{path}", data=body, headers=headers) as response:
            return response.status, await response.read(), response.headers.get("Content-Type", "text/plain")

    async def _with_session(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            self._session = session
            yield
            self._session = None

    async def _end_streams(self, app: web.Application) -> None:
        self._stopping = True
        for changed in self._streams:
            changed.set()


def _object(body: bytes, fields: set[str]) -> dict[str, Any] | str:
    """The object with exactly these fields, or what is wrong with it."""
    try:
        found = orjson.loads(body)
    except ValueError:
        return "not JSON"
    if not isinstance(found, dict) or set(found) != fields or not all(isinstance(value, str) for value in found.values()):
        return f"send {', '.join(sorted(fields))}, all strings"
    return found


def _read(body: bytes, fields: set[str], catalog: Catalog) -> dict[str, Any] | str:
    """A click or a visitor with exactly these fields, or what is wrong with it."""
    click = _object(body, fields)
    if isinstance(click, str):
        return click
    if not _USER_ID.fullmatch(click["user_id"]):
        return "user_id: 1 to 64 of a-z, 0-9 and -"
    if not _EVENT_ID.fullmatch(click["event_id"]):
        return "event_id: 8 to 64 of A-Z, a-z, 0-9 and -"
    if click.get("action", ACTIONS[0]) not in ACTIONS:
        return f"action: one of {', '.join(ACTIONS)}"
    if "product_id" in click and click["product_id"] not in catalog.products:
        return "product_id: not in this shop"
    if not 1 <= len(click.get("name", "x")) <= 40:
        return "name: 1 to 40 characters"
    return click


def _milliseconds(when: Any) -> int:
    """Milliseconds since 1970 from an ISO 8601 time, 0 if there is none."""
    try:
        return round(datetime.fromisoformat(when).timestamp() * 1000)
    except (TypeError, ValueError):
        return 0


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json", headers=_HEADERS)


@web.middleware
async def _only_for_us(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Refuse a request that a page of another origin, or a name that was made to resolve to 127.0.0.1, brought here."""
    if request.url.host not in ("127.0.0.1", "localhost"):
        return _json({"detail": "open the demo as http://127.0.0.1 or http://localhost"}, 421)
    if request.method == "POST" and request.headers.get("Origin", str(request.url.origin())) != str(request.url.origin()):
        return _json({"detail": "clicks come from the demo's own page"}, 403)
    if request.method == "POST" and request.content_type != "application/json":
        return _json({"detail": "send application/json"}, 415)
    return await handler(request)
