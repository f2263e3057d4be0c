"""A webhook receiver for the demo and the tests: it verifies each signature with the reference library and keeps the last body per user.

Standalone: ``python -m app.web.demo.inbox --port N --secret-env NAME`` serves ``POST /inbox``, ``GET /bodies`` (all last bodies, by user)
and ``GET /stats``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, assert_never

import click
import orjson
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

#: The largest body read. A list of 50 products is about 20 kB.
MAX_BODY_BYTES = 262_144
#: Users remembered, the longest silent forgotten first. Bodies are kept as the bytes they came in: about 4 kB each.
MAX_USERS = 50_000
#: Regressions remembered in full; all are counted.
MAX_REGRESSIONS = 1_000


@dataclass(frozen=True)
class Kept:
    """A verified body that is now the user's last."""

    user_id: str
    version: int
    message_id: str
    received_at_ms: int
    body: bytes


@dataclass(frozen=True)
class Outdated:
    """A verified body with a lower version than the one held: the receiver's contract is to ignore it."""

    user_id: str
    version: int
    held_version: int


@dataclass(frozen=True)
class BadSignature:
    """Headers are missing, too old, or do not fit the body."""

    detail: str


@dataclass(frozen=True)
class Malformed:
    """Signed, but not a recommendations.updated body."""

    detail: str


Received = Kept | Outdated | BadSignature | Malformed


class Inbox:
    """Holds what arrived. ``receive`` decides and needs no socket; ``handle`` is the aiohttp handler around it.

    ``secret`` is ``whsec_`` and base64. ``on_kept`` is called with each body that becomes the user's last.
    """

    def __init__(
        self,
        secret: str,
        *,
        max_users: int = MAX_USERS,
        on_kept: Callable[[Kept], None] = lambda kept: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._webhook = Webhook(secret)
        self._max_users = max_users
        self._on_kept = on_kept
        self._now_ms = now_ms
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        #: The last body of each user, decoded when read.
        self.last_body: Mapping[str, dict[str, Any]] = _DecodedBodies(self._kept)
        self.received = 0
        self.repeated = 0
        #: Repeats under another message id than the first: a sender that keeps its ids has none.
        self.renamed = 0
        #: Repeats with other products than what is held: a version is one list.
        self.altered = 0
        self.bad_signatures = 0
        self.malformed = 0
        self.regression_count = 0
        self.regressions: deque[Outdated] = deque(maxlen=MAX_REGRESSIONS)

    def receive(self, headers: Mapping[str, str], body: bytes) -> Received:
        """Verify, check and keep one request."""
        self.received += 1
        outcome = self._judge(headers, body)
        match outcome:
            case Kept():
                self._keep(outcome)
            case Outdated():
                self.regression_count += 1
                self.regressions.append(outcome)
            case BadSignature():
                self.bad_signatures += 1
            case Malformed():
                self.malformed += 1
            case _:
                assert_never(outcome)
        return outcome

    async def handle(self, request: web.Request) -> web.Response:
        """204 kept or ignored as outdated, 400 malformed, 401 bad signature, 413 too large."""
        body = await _read_at_most(request, MAX_BODY_BYTES)
        if body is None:
            return web.Response(status=413, text=f"at most {MAX_BODY_BYTES} bytes")
        match self.receive(request.headers, body):
            case Kept() | Outdated():
                return web.Response(status=204)
            case BadSignature(detail):
                return web.Response(status=401, text=detail)
            case Malformed(detail):
                return web.Response(status=400, text=detail)
            case unknown:
                assert_never(unknown)

    @property
    def versions(self) -> dict[str, int]:
        """The version held for each user."""
        return {user_id: kept.version for user_id, kept in self._kept.items()}

    def last(self, user_id: str) -> Kept | None:
        """What is held for a user."""
        return self._kept.get(user_id)

    def stats(self) -> dict[str, int]:
        return {
            "received": self.received,
            "users": len(self._kept),
            "repeated": self.repeated,
            "renamed": self.renamed,
            "altered": self.altered,
            "bad_signatures": self.bad_signatures,
            "malformed": self.malformed,
            "regressions": self.regression_count,
        }

    def bodies_json(self) -> bytes:
        """All last bodies as one JSON object keyed by user id, built from the bytes as they came."""
        entries = (orjson.dumps(user_id) + b":" + kept.body for user_id, kept in self._kept.items())
        return b"{" + b",".join(entries) + b"}"

    def _judge(self, headers: Mapping[str, str], body: bytes) -> Received:
        try:
            # ValueError: the library splits and decodes what a stranger sent (base64, UTF-8) before it compares.
            self._webhook.verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as exc:
            return BadSignature(str(exc) or "the signature cannot be read")
        try:
            parsed = orjson.loads(body)
            kind, user_id, version = parsed["type"], parsed["data"]["user_id"], parsed["data"]["version"]
        except (ValueError, KeyError, TypeError) as exc:
            return Malformed(f"not an update: {exc!r}")
        if kind != "recommendations.updated" or not isinstance(user_id, str) or type(version) is not int:
            return Malformed("not a recommendations.updated body with data.user_id (string) and data.version (integer)")
        held = self._kept.get(user_id)
        if held is not None and version < held.version:
            return Outdated(user_id, version, held.version)
        message_id = next((value for name, value in headers.items() if name.lower() == "webhook-id"), "")
        return Kept(user_id, version, message_id, self._now_ms(), body)

    def _keep(self, kept: Kept) -> None:
        held = self._kept.get(kept.user_id)
        if held is not None and held.version == kept.version:
            self.repeated += 1
            self.renamed += held.message_id != kept.message_id
            self.altered += _products(held.body) != _products(kept.body)
        self._kept[kept.user_id] = kept
        self._kept.move_to_end(kept.user_id)
        while len(self._kept) > self._max_users:
            self._kept.popitem(last=False)
        self._on_kept(kept)


class _DecodedBodies(Mapping[str, dict[str, Any]]):
    def __init__(self, kept: Mapping[str, Kept]) -> None:
        self._by_user = kept

    def __getitem__(self, user_id: str) -> dict[str, Any]:
        return orjson.loads(self._by_user[user_id].body)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_user)

    def __len__(self) -> int:
        return len(self._by_user)


def _products(body: bytes) -> Any:
    """The ids of a body's products; whatever stands there, where it is no list of products."""
    listed = orjson.loads(body)["data"].get("recommendations")
    are_products = isinstance(listed, list) and all(isinstance(one, dict) for one in listed)
    return [one.get("product_id") for one in listed] if are_products else listed


async def _read_at_most(request: web.Request, limit: int) -> bytes | None:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def inbox_app(inbox: Inbox) -> web.Application:
    """The standalone receiver."""

    async def bodies(request: web.Request) -> web.Response:
        return web.Response(body=inbox.bodies_json(), content_type="application/json")

    async def stats(request: web.Request) -> web.Response:
        return web.json_response(inbox.stats())

    app = web.Application()
    app.add_routes([web.post("/inbox", inbox.handle), web.get("/bodies", bodies), web.get("/stats", stats)])
    return app


@click.command(help="Receive signed webhooks on 127.0.0.1 and show the last body per user.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--secret-env", default="TIDINGS_INBOX_SECRET", show_default=True, help="The variable that holds the whsec_ secret.")
def main(port: int, secret_env: str) -> None:
    secret = os.environ.get(secret_env)
    if not secret:
        raise click.ClickException(f"the environment variable {secret_env} is not set: put the target's whsec_ secret into it")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(Inbox(secret), port))


async def _serve(inbox: Inbox, port: int) -> None:
    runner = web.AppRunner(inbox_app(inbox), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    click.echo(f"inbox: http://127.0.0.1:{runner.addresses[0][1]}/inbox")
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main()
