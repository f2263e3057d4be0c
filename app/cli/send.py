"""``tidings send``: one event, from options or as JSON, straight to Kafka."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import click

from app.cli.output import print_json
from app.cli.settings_option import settings_options
from app.domain.json_event import EVENT_NAMES, event_from_json
from app.domain.validation import Violation
from app.errors import CommandError
from app.settings import Settings
from app.streams.publisher import Position, Publisher
from tidings.events.v1.event_pb2 import Event

EPILOG = """
\b
Examples:
  tidings send --user ada --event product_viewed --product red-shoes
  tidings send --user ada --event add_to_cart --product red-shoes --quantity 2 --field price=49.90
  tidings send --user ada --event profile_changed --field 'changes={"city":"Ghent"}'
  tidings send '{"user_id":"ada","event":"product_viewed","product_id":"red-shoes"}'
  cat event.json | tidings send -

The JSON form is that of POST /v1/events. Without a timestamp the event happened now. An event without an event id gets one from
its content, so the same event sent twice, timestamp and all, counts once.
"""

#: Of the JSON of one event; a valid one is far smaller.
_MAX_INPUT_BYTES = 1024 * 1024

# Longer names for the same events are understood too; help lists each once.
_KNOWN_EVENTS = list({payload: name for name, payload in reversed(EVENT_NAMES.items())}.values())[::-1]


@click.command(epilog=EPILOG)
@settings_options
@click.argument("json_event", required=False, metavar="[JSON | -]")
@click.option("--user", help="Who: the user id.")
@click.option("--event", "event_name", help=f"What: {', '.join(_KNOWN_EVENTS)}.")
@click.option("--product", help="The product id.")
@click.option("--quantity", type=int, help="How many.")
@click.option("--session", help="The client's session id.")
@click.option("--at", metavar="TIME", help="When it happened (ISO 8601) [default: now].")
@click.option("--field", "fields", multiple=True, metavar="NAME=VALUE", help="Any other field of the JSON form; VALUE may be JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the position as one JSON document.")
def send(
    settings: Settings,
    json_event: str | None,
    user: str | None,
    event_name: str | None,
    product: str | None,
    quantity: int | None,
    session: str | None,
    at: str | None,
    fields: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send one event, given by options, as JSON, or as JSON on standard input (-)."""
    given = {
        "user_id": user, "event": event_name, "product_id": product, "quantity": quantity, "session_id": session, "timestamp": at,
        **dict(_field(text) for text in fields),
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if json_event is not None and given:
        raise click.UsageError("say it with options or as JSON, not both")
    if json_event is None and not given:
        raise click.UsageError("say which event: --user ID --event NAME --product ID, or JSON; `tidings send --help` has examples")
    event = _event(_parsed(json_event) if json_event is not None else given)
    position, topic = asyncio.run(_send(settings, event))
    _report(settings, event, topic, position, as_json)


async def _send(settings: Settings, event: Event) -> tuple[Position, str]:
    async with Publisher.of_events(settings) as publisher:
        return (await publisher.publish([event]))[0], publisher.topic


def _event(obj: object) -> Event:
    found = event_from_json(obj, time.time_ns() // 1_000_000)
    if isinstance(found, Violation):
        raise CommandError(f"this is no valid event: {found.detail if found.field in found.detail else f'{found.field} {found.detail}'}")
    return found


def _report(settings: Settings, event: Event, topic: str, position: Position, as_json: bool) -> None:
    port, host = settings.http.port or 8080, settings.http.host
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}/v1/users/{quote(event.user_id, safe='')}"
    if as_json:
        place = {"topic": topic, "partition": position.partition, "offset": position.offset}
        print_json({**place, "event_id": event.event_id, "user_id": event.user_id, "url": url})
        return
    what = f"{event.WhichOneof('payload')} of {event.user_id!r}, event id {event.event_id}"
    click.echo(f"{topic}/{position.partition}/{position.offset}  {what}")
    curl = 'curl -H "Authorization: Bearer $TOKEN"'  # one of [[tokens]] with the scope read
    click.echo(f"See what it did:\n  {curl} {url}\n  {curl} {url}/recommendations\n  tidings dead-letters list", err=True)


def _parsed(text: str) -> object:
    if text == "-":
        text = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1).decode(errors="replace")
    if len(text) > _MAX_INPUT_BYTES:
        raise CommandError(f"one event is at most {_MAX_INPUT_BYTES} bytes of JSON: for a file of events use `tidings replay`")
    try:
        # Decimals, as a price of 299.99 is not a binary fraction.
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as exc:
        raise CommandError(f"this is not JSON: {exc}") from None


def _field(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--field")
    try:
        return name, json.loads(value, parse_float=Decimal)
    except ValueError:
        return name, value  # a word is itself
