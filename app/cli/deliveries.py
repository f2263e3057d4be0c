"""``tidings deliveries``: what was given up, why, and trying it again."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from app.cli.command_writing import Tally, ask, new_command, now_ms, write_commands
from app.cli.dead_deliveries import REASONS, DeadDeliveries, DeliveryFilter, dead_deliveries, outbox_entry, reason_of
from app.cli.moment import Moment, time_text
from app.cli.output import print_json, print_table, printable
from app.cli.settings_option import settings_options
from app.delivery.standing import STANDINGS, standing_of
from app.errors import CommandError
from app.settings import Settings
from app.web.deliveries import deliveries_json
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry

EPILOG = """
\b
Examples:
  tidings deliveries list --by reason --by destination
  tidings deliveries list --destination crm --since 2h
  tidings deliveries show ada
  tidings deliveries retry --destination crm --reason refused      after the cause was mended
  tidings deliveries drop --user ada

\b
A delivery is given up, for one person at one destination, because of:
  exhausted         the schedule of retries is at its end
  no_identity       the profile has nothing by which the destination could know the person
  invalid_identity  the destination does not take the address or the id
  conflict          it has the person twice, or under another id
  suppressed        unsubscribed, forgotten or blocked over there
  unknown_person    it does not know the person, and does not create people
  too_large         not even one product fits
  refused           it refuses what is said, for another reason
  withheld          the person is unknown, or gave no consent: counted and chosen only with --reason withheld

A newer list is tried anyhow, unless the person is blocked over there. What is tried again says what is known then, not what was said.
"""


_REASON = click.Choice(list(REASONS))


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--until", "until_ms", type=Moment(), help="Given up before; said in the same way."),
        click.option("--since", "since_ms", type=Moment(), help="Given up after: an age (90s, 15m, 2h, 7d) or a time (ISO 8601, in UTC)."),
        click.option("--user", "users", multiple=True, metavar="ID"),
        click.option("--reason", "reasons", multiple=True, type=_REASON, metavar="REASON", help="`tidings deliveries --help` has them."),
        click.option("--destination", "destinations", multiple=True, metavar="NAME", help="This and the next two: once or more."),
    ):
        command = option(command)
    return command


def _filter(given: dict[str, Any]) -> DeliveryFilter:
    """Takes its own from the options."""
    reasons = tuple(REASONS[reason] for reason in given.pop("reasons"))
    return DeliveryFilter(given.pop("destinations"), reasons, given.pop("users"), given.pop("since_ms"), given.pop("until_ms"))


@click.group(epilog=EPILOG)
def deliveries() -> None:
    """List, show, retry and drop deliveries that were given up."""


@deliveries.command("list")
@settings_options
@_filter_options
@click.option("--by", type=click.Choice(["reason", "destination"]), multiple=True, help="Count by it instead; both may be given.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Show the last so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document for each line.")
def list_deliveries(settings: Settings, by: tuple[str, ...], limit: int, as_json: bool, **given: Any) -> None:
    """List what was given up, the youngest last."""
    asyncio.run(_list(settings, _filter(given), tuple(dict.fromkeys(by)), limit, as_json))


@deliveries.command("show")
@settings_options
@click.argument("user")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, as GET /v1/users/USER/deliveries answers.")
def show_user(settings: Settings, user: str, as_json: bool) -> None:
    """Show how USER stands at each destination, given up or not."""
    entry = asyncio.run(outbox_entry(settings.kafka, user))
    if entry is None:
        raise CommandError(f"the outbox has never heard of {user!r}: no event of theirs led to a list. User ids are case-sensitive")
    if as_json:
        print_json(deliveries_json(user, entry, now_ms()))
        return
    for line in standing_lines(user, entry, now_ms()):
        click.echo(line)


@deliveries.command("retry")
@settings_options
@_filter_options
@click.option("--all", "everything", is_flag=True, help="Whatever was given up, when nothing else chooses.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retry_deliveries(settings: Settings, **given: Any) -> None:
    """Try again what was given up, with what is known by now. What is blocked over there is tried too."""
    _change(settings, "retry", "tried again", given)


@deliveries.command("drop")
@settings_options
@_filter_options
@click.option("--all", "everything", is_flag=True, help="Whatever was given up, when nothing else chooses.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop_deliveries(settings: Settings, **given: Any) -> None:
    """Take it from the list. Nothing is sent until the person has a newer list."""
    _change(settings, "drop", "dropped", given)


async def _list(settings: Settings, wanted: DeliveryFilter, by: tuple[str, ...], limit: int, as_json: bool) -> None:
    async with dead_deliveries(settings.kafka, wanted) as found:
        counts = Counter(tuple(_cell(name, delivery) for name in by or ("reason",)) for _, delivery in found)
        if by:
            rows = [(*names, count) for names, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
            _print([*by, "count"], rows, as_json)
        else:
            # The youngest, without holding all of them.
            last = heapq.nlargest(limit, _rows(found), key=lambda row: (row["since"], row["user_id"], row["destination"]))
            columns = ["user_id", "destination", "reason", "detail", "since", "attempts"]
            _print(columns, [tuple(row[name] for name in columns) for row in reversed(last)], as_json)
    shown = f", the last {limit} shown" if not by and counts.total() > limit else ""
    click.echo(f"{counts.total():,} given up{_told(counts) if not by else ''}{shown}", err=True)


def _rows(found: DeadDeliveries) -> Any:
    for user_id, delivery in found:
        yield {
            "user_id": user_id,
            "destination": delivery.target,
            "reason": reason_of(delivery),
            "detail": delivery.last_error,
            "since": time_text(delivery.abandoned_at_ms),
            "attempts": delivery.attempts,
        }


def _cell(name: str, delivery: Delivery) -> str:
    return reason_of(delivery) if name == "reason" else delivery.target


def _print(columns: list[str], rows: list[tuple[Any, ...]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)))
    else:
        print_table([name.removesuffix("_id") for name in columns], rows)


def _change(settings: Settings, action: str, done: str, given: dict[str, Any]) -> None:
    wanted, everything, yes = _filter(given), given["everything"], given["yes"]
    if wanted.is_empty and not everything:
        raise click.UsageError("say which: --destination, --reason, --user, --since, --until, or --all")
    tally = Tally()
    try:
        asyncio.run(_write(settings, wanted, action, done, yes, tally))
    except KeyboardInterrupt:
        click.echo(f"stopped: {tally.acknowledged:,} command(s) were written, and are carried out", err=True)
        raise SystemExit(130) from None


async def _write(settings: Settings, wanted: DeliveryFilter, action: str, done: str, yes: bool, tally: Tally) -> None:
    async with dead_deliveries(settings.kafka, wanted) as found:
        counts: Counter[tuple[str, ...]] = Counter((reason_of(delivery),) for _, delivery in found)
        total = counts.total()
        if not total:
            click.echo("nothing that was given up fits; `tidings deliveries list` shows what there is", err=True)
            return
        ask(f"{total:,} deliveries would be {done}{_told(counts)}.", yes)
        at_ms = now_ms()
        # After what it is about, which was seen, whatever this machine's clock says.
        commands = (new_command(action, user, delivery.target, max(at_ms, delivery.abandoned_at_ms)) for user, delivery in found)
        await write_commands(settings, commands, total, tally)
    click.echo(f"{tally.acknowledged:,} command(s) written; each person's worker carries them out. See what comes of it:", err=True)
    click.echo("  tidings deliveries list            what is given up still, or again\n  tidings deliveries show USER", err=True)


def _told(counts: Counter[tuple[str, ...]]) -> str:
    return "".join(f", {count:,} {name}" for (name,), count in sorted(counts.items()))


def standing_lines(user_id: str, entry: OutboxEntry, at_ms: int) -> list[str]:
    """How a person stands at each destination, in lines to read. ``at_ms``: now."""
    version = entry.update.version
    made = f"version {version}, made {time_text(entry.update.ranked_at_ms)}" if version else "none yet"
    lines = [f"{printable(user_id)}: the list that destinations should have: {made}"]
    if not entry.deliveries:
        lines.append("No destination was in the settings when it was made; `tidings resync --user` sends it to those that are there now.")
    for delivery in entry.deliveries:
        standing = standing_of(delivery, at_ms)
        lines += ["", f"{printable(delivery.target)}: {standing.replace('_', ' ')} ({STANDINGS[standing]})"]
        lines += [f"  {name + ':':12}{printable(text)}" for name, text in _facts(delivery, at_ms) if text]
    return lines


def _facts(delivery: Delivery, at_ms: int) -> list[tuple[str, str]]:
    def version(number: int, rest: str) -> str:
        return f"version {number}{rest}" if number else ""

    confirmed = version(delivery.confirmed_version, f" at {time_text(delivery.confirmed_at_ms)}") or "never"
    in_flight = version(delivery.in_flight_version, f", until {time_text(delivery.in_flight_until_ms)}")
    due = f"version {delivery.desired_version}, since {time_text(delivery.due_since_ms)}" if delivery.due_since_ms else ""
    waits = time_text(delivery.next_attempt_at_ms) if delivery.next_attempt_at_ms > at_ms else ""
    given_up = ""
    if delivery.abandoned_version or delivery.blocked:
        why = f", {reason_of(delivery)}" if delivery.dead_reason else ", dropped" if delivery.abandoned_at_ms else ""
        given_up = f"version {delivery.abandoned_version} at {time_text(delivery.abandoned_at_ms)}{why}"
    return [
        ("confirmed", confirmed),
        ("due", due),
        ("resync", f"asked for {time_text(delivery.resync_since_ms)}" if delivery.resync_since_ms else ""),
        ("in flight", in_flight),
        ("job", delivery.job),
        ("attempts", f"{delivery.attempts} failed" if delivery.attempts else ""),
        ("next", waits),
        ("given up", given_up),
        ("last error", delivery.last_error),
    ]
