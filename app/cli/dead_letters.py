"""``tidings dead-letters``: what could not be applied, why, and sending it again."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import click

from app.cli.dead_letter_log import REASONS, LetterFilter, place_of, read_dead_letters, reason_of
from app.cli.moment import Moment, time_text
from app.cli.output import print_json, print_table, printable
from app.cli.settings_option import settings_options
from app.domain.product_validation import product_id_of
from app.errors import CommandError
from app.settings import Settings
from app.streams.publisher import Publisher, Record, partition_of
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetter

EPILOG = """
\b
Examples:
  tidings dead-letters list --reason invalid --since 2h
  tidings dead-letters show tidings.events.v1/3/1042
  tidings dead-letters replay tidings.events.v1/3/1042
  tidings dead-letters replay --reason unknown_payload --yes      after an upgrade that knows the payload

A letter holds the record's bytes, its place (topic/partition/offset) and the reason:
undecodable (not an Event), invalid (a rule is broken; the field is named), unknown_payload (a kind this version does not know).
"""

#: Bytes of a value that `show` prints; the rest is counted.
_MAX_SHOWN_BYTES = 4096
#: Records, and bytes, on the wire at once in a replay.
_REPLAY_RECORDS = 500
_REPLAY_BYTES = 8 * 1024 * 1024


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--since", type=Moment(), help="An age (90s, 15m, 2h, 7d) or a time (ISO 8601, UTC if not said)."),
        click.option("--topic", help="The topic the record came from."),
        click.option("--reason", "reasons", multiple=True, type=click.Choice(list(REASONS)), help="May be given more than once."),
    ):
        command = option(command)
    return command


@click.group(epilog=EPILOG)
def dead_letters() -> None:
    """List, show and replay the records that could not be applied."""


@dead_letters.command("list")
@settings_options
@_filter_options
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Show the last so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each letter.")
def list_letters(settings: Settings, reasons: tuple[str, ...], topic: str | None, since: int | None, limit: int, as_json: bool) -> None:
    """List dead letters, the youngest last, and count them by reason."""
    asyncio.run(_list(settings, _filter(reasons, topic, since), limit, as_json))


@dead_letters.command("show")
@settings_options
@click.argument("place")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with key and value in base64.")
def show_letter(settings: Settings, place: str, as_json: bool) -> None:
    """Show one letter: why, and its bytes. PLACE is topic/partition/offset, as `list` prints it."""
    asyncio.run(_show(settings, _valid_place(place), as_json))


@dead_letters.command("replay")
@settings_options
@_filter_options
@click.argument("places", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter, when nothing else chooses.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay_letters(
    settings: Settings, places: tuple[str, ...], reasons: tuple[str, ...], topic: str | None, since: int | None, everything: bool, yes: bool
) -> None:
    """Send the original records of events and products to their topics again: by PLACES (topic/partition/offset), or by filter.

    A record that is still wrong becomes a dead letter again, at its new place. An event is counted once however often it is replayed, for
    its event id stays the same. Letters are not removed: the topic forgets them by age.
    """
    if not (places or reasons or topic or since or everything):
        raise click.UsageError("say which: places, --reason, --topic, --since, or --all")
    wanted = LetterFilter(_filter(reasons, topic, since).reasons, topic, since, tuple(_valid_place(place) for place in places))
    asyncio.run(_replay(settings, wanted, yes))


async def _list(settings: Settings, wanted: LetterFilter, limit: int, as_json: bool) -> None:
    # Summaries, without the bytes: a thousand letters of a megabyte need no gigabyte.
    last: deque[dict[str, Any]] = deque(maxlen=limit)
    counts: Counter[str] = Counter()
    async with aclosing(read_dead_letters(settings.kafka, wanted)) as letters:
        async for letter in letters:
            counts[reason_of(letter)] += 1
            last.append(_summary(letter))
    ordered = sorted(last, key=lambda summary: (summary["time"], summary["place"]))
    if as_json:
        for summary in ordered:
            print_json(summary)
    else:
        print_table(
            ["place", "time", "reason", "field", "what is wrong"],
            [[summary[name] for name in ("place", "time", "reason", "field", "detail")] for summary in ordered],
        )
    shown = f", the last {limit} shown" if counts.total() > limit else ""
    by_reason = "".join(f", {count} {reason}" for reason, count in sorted(counts.items()))
    click.echo(f"{counts.total()} dead letter(s){by_reason}{shown}", err=True)


async def _show(settings: Settings, place: str, as_json: bool) -> None:
    async with aclosing(read_dead_letters(settings.kafka, LetterFilter(places=(place,)))) as letters:
        letter = await anext(letters, None)
        if letter is None:
            raise CommandError(f"there is no dead letter {place}: `tidings dead-letters list` prints the places")
    if as_json:
        encoded = {"key_base64": base64.b64encode(letter.key).decode(), "value_base64": base64.b64encode(letter.value).decode()}
        print_json({**_summary(letter), **encoded})
        return
    summary = _summary(letter)
    for name in ("place", "time", "reason", "field", "detail"):
        click.echo(f"{name + ':':10}{printable(summary[name])}")
    click.echo(f"{'key:':10}{repr(letter.key)[2:-1]}")
    click.echo(f"value, {len(letter.value)} bytes:")
    for line in hexdump(letter.value[:_MAX_SHOWN_BYTES]):
        click.echo(line)
    if len(letter.value) > _MAX_SHOWN_BYTES:
        click.echo(f"... {len(letter.value) - _MAX_SHOWN_BYTES} bytes more; --json gives them all")


async def _replay(settings: Settings, wanted: LetterFilter, yes: bool) -> None:
    names = TopicNames.of(settings.kafka)
    replayed = (names.events, names.products)
    counts: Counter[str] = Counter()
    found: set[str] = set()
    async with aclosing(read_dead_letters(settings.kafka, wanted)) as letters:
        async for letter in letters:
            counts[letter.topic] += 1
            if wanted.places:
                found.add(place_of(letter))
    if absent := [place for place in wanted.places if place not in found]:
        raise CommandError("no dead letter at " + ", ".join(absent))
    if foreign := [topic for topic in counts if topic not in replayed]:
        raise CommandError(
            f"only records of {' and '.join(replayed)} can be replayed; these came from {', '.join(foreign)}: "
            f"choose with --topic {names.events}"
        )
    if not counts:
        click.echo("no dead letter to replay", err=True)
        return
    topics = " and ".join(counts)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"{counts.total()} record(s) would be sent to {topics}: say --yes to do it without being asked")
        click.confirm(f"Send {counts.total()} record(s) to {topics} again?", abort=True, err=True)
    sent = await _send_again(settings, wanted)
    click.echo(f"{sent} record(s) sent to {topics}; the ones that are still wrong come back as dead letters", err=True)


async def _send_again(settings: Settings, wanted: LetterFilter) -> int:
    waiting: list[DeadLetter] = []
    waiting_bytes = sent = 0
    async with AsyncExitStack() as stack:
        events = await stack.enter_async_context(Publisher.of_events(settings))
        products = await stack.enter_async_context(Publisher.of_products(settings))
        letters = await stack.enter_async_context(aclosing(read_dead_letters(settings.kafka, wanted)))

        async def flush() -> None:
            nonlocal sent, waiting_bytes
            for publisher in (events, products):
                own = [letter for letter in waiting if letter.topic == publisher.topic]
                records = [_record_of(letter, settings, is_product=publisher is products) for letter in own]
                for letter, position in zip(own, await publisher.publish_records(records), strict=True):
                    click.echo(f"{place_of(letter)} -> {publisher.topic}/{position.partition}/{position.offset}")
            sent += len(waiting)
            waiting_bytes = 0
            waiting.clear()

        async for letter in letters:
            waiting.append(letter)
            waiting_bytes += len(letter.value)
            if len(waiting) >= _REPLAY_RECORDS or waiting_bytes >= _REPLAY_BYTES:
                await flush()
        await flush()
    return sent


def _record_of(letter: DeadLetter, settings: Settings, *, is_product: bool) -> Record:
    """The record as it was, for where it belongs. One without a key has only its old partition to go by."""
    if not letter.key:
        return Record(letter.key, letter.value, letter.partition)
    # A change of a product goes where the product is, whatever else its key says.
    home = partition_of(product_id_of(letter.key), settings.kafka.partitions) if is_product else None
    return Record(letter.key, letter.value, home)


def hexdump(data: bytes) -> list[str]:
    """Sixteen bytes a line: offset, hexadecimal, and the printable ASCII characters."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):47}  {text}")
    return lines


def _filter(reasons: tuple[str, ...], topic: str | None, since_ms: int | None) -> LetterFilter:
    return LetterFilter(tuple(REASONS[reason] for reason in reasons), topic, since_ms)


def _valid_place(place: str) -> str:
    topic, _, rest = place.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise click.BadParameter(f"{place!r} is not topic/partition/offset", param_hint="PLACE")
    return f"{topic}/{int(partition)}/{int(offset)}"


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "place": place_of(letter),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": time_text(letter.timestamp_ms),
        "reason": reason_of(letter),
        "field": letter.field,
        "detail": letter.detail,
        "key": letter.key[:_MAX_SHOWN_BYTES].decode(errors="replace"),
        "value_bytes": len(letter.value),
    }
