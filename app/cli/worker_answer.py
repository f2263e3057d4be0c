"""Asks a worker over HTTP, with the operator's token, and says in words what is wrong when no answer comes."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
import orjson
from yarl import URL

from app.cli.output import printable
from app.errors import CommandError
from app.settings import Scope, Settings

#: Of the whole answer; a worker that has to ask another one gives up before.
_TIMEOUT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 4 * 1024**2


async def ask_worker(settings: Settings, worker: str, path: str, wanted: str, scope: Scope = "read") -> dict[str, Any]:
    """The JSON object at ``path``, which must not need escaping any more, with ``wanted`` in it.

    The token is TIDINGS_TOKEN, or the first one of the settings that has ``scope``. Raises CommandError.
    """
    token = _token(settings, scope)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS), headers=headers) as session,
            # As it stands: an id may hold an escaped slash.
            session.get(URL(worker.rstrip("/") + path, encoded=True), allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_ANSWER_BYTES)
            while chunk := await answer.content.read(_MAX_ANSWER_BYTES - len(body)):
                body += chunk
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
        why = str(exc) or "it took too long"
        raise CommandError(f"the worker at {worker} did not answer: {why}. Name a running one with --worker URL") from None
    return _read(worker, status, body, wanted, scope)


def _read(worker: str, status: int, body: bytes, wanted: str, scope: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if status == 200 and isinstance(document, dict) and wanted in document:
        return document
    said = printable(document["detail"]) if isinstance(document, dict) and "detail" in document else "not in Tidings' words"
    if status in (401, 403):
        said += f". Put a token with the scope {scope} into TIDINGS_TOKEN"
    raise CommandError(f"the worker at {worker} answered {status}: {said}")


def _token(settings: Settings, scope: str) -> str | None:
    if token := os.environ.get("TIDINGS_TOKEN"):
        return token
    return next((one.token.get_secret_value() for one in settings.tokens if scope in one.scopes), None)
