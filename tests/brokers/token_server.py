"""A token endpoint on this machine: unsigned tokens, which a broker without a validator of its own takes, or whatever it is told to say."""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from typing import Any

from aiohttp import web


def unsigned_token(subject: str, seconds: float = 300) -> str:
    def part(what: dict[str, Any]) -> str:
        return urlsafe_b64encode(json.dumps(what).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now, 'exp': int(now + seconds)})}."


class TokenServer:
    """``async with`` it. ``asked`` holds the form of each request that had the right credentials."""

    def __init__(self, client_id: str, client_secret: str, seconds: float = 300) -> None:
        self._login = f"Basic {b64encode(f'{client_id}:{client_secret}'.encode()).decode()}"
        self._seconds = seconds
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        #: Status and body to say instead.
        self.says: tuple[int, bytes] | None = None
        self.url = ""

    async def __aenter__(self) -> TokenServer:
        app = web.Application()
        app.router.add_post("/token", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != self._login:
            return web.json_response({"error": "invalid_client", "error_description": "no"}, status=401)
        self.asked.append(dict(await request.post()))
        if self.says is not None:
            return web.Response(status=self.says[0], body=self.says[1], headers={"Location": self.url})
        self.tokens.append(unsigned_token("tidings", self._seconds))
        return web.json_response({"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": self._seconds})
