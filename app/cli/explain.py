"""``tidings explain``: why a person gets these products, and what was left out by which rule."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import orjson

from app.cli.output import print_json, print_table, printable
from app.cli.settings_option import settings_options
from app.errors import CommandError
from app.settings import Settings

EPILOG = """
\b
Examples:
  tidings explain ada
  tidings explain ada --slot basket --worker http://worker-1:8080
  TIDINGS_TOKEN=... tidings explain ada --json | jq .removed

It asks a worker, any of them, with TIDINGS_TOKEN or the first token of the settings that may read.
"""

#: Of the whole answer; a worker that has to ask another one gives up before.
_TIMEOUT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 4 * 1024**2


@click.command(epilog=EPILOG)
@settings_options
@click.argument("user")
@click.option("--slot", default="for_you", show_default=True, help="A slot of the worker's settings.")
@click.option("--worker", metavar="URL", help="Of any worker [default: the address in the settings].")
@click.option("--json", "as_json", is_flag=True, help="The worker's answer as it came.")
def explain(settings: Settings, user: str, slot: str, worker: str | None, as_json: bool) -> None:
    """Say why USER gets these products, and what was left out."""
    answer = asyncio.run(_ask(worker or _address(settings), _token(settings), user, slot))
    if as_json:
        print_json(answer)
        return
    if not answer["known"]:
        click.echo(f"No event of {user!r} was applied: this is what anybody gets.", err=True)
    print_table(["", "product", "title", "why"], [
        (place, one["product_id"], one.get("title") or "-", one["reason"]["text"])
        for place, one in enumerate(answer["recommendations"], 1)
    ])
    if answer["removed"]:
        click.echo("\nLeft out:", err=True)
        print_table(["product", "title", "rule", "proposed by"], [
            (one["product_id"], one["title"] or "-", one["rule"], one["strategy"]) for one in answer["removed"]
        ])


async def _ask(worker: str, token: str | None, user: str, slot: str) -> dict[str, Any]:
    url = f"{worker.rstrip('/')}/v1/users/{quote(user, safe='')}/recommendations"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS), headers=headers) as session,
            session.get(_as_written(url, slot), allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_ANSWER_BYTES)
            while chunk := await answer.content.read(_MAX_ANSWER_BYTES - len(body)):
                body += chunk
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
        why = str(exc) or "it took too long"
        raise CommandError(f"the worker at {worker} did not answer: {why}. Name a running one with --worker URL") from None
    return _read(worker, status, body)


def _as_written(url: str, slot: str) -> Any:
    from yarl import URL

    # As it stands: an id may hold an escaped slash.
    return URL(f"{url}?slot={quote(slot, safe='')}&explain=true", encoded=True)


def _read(worker: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if status == 200 and isinstance(document, dict) and "recommendations" in document:
        return document
    said = printable(document["detail"]) if isinstance(document, dict) and "detail" in document else "not in Tidings' words"
    if status in (401, 403):
        said += ". Put a token with the scope read into TIDINGS_TOKEN"
    raise CommandError(f"the worker at {worker} answered {status}: {said}")


def _address(settings: Settings) -> str:
    http = settings.http
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host
    return http.advertised_url or f"http://{host}:{http.port or 8080}"


def _token(settings: Settings) -> str | None:
    if token := os.environ.get("TIDINGS_TOKEN"):
        return token
    return next((one.token.get_secret_value() for one in settings.tokens if "read" in one.scopes), None)
