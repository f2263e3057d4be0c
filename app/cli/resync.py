"""``tidings resync``: current lists once more, to one person, a segment or everybody, whether or not they were confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import click
from google.protobuf.message import DecodeError

from app.cli.command_writing import Tally, ask, new_command, now_ms, write_commands
from app.cli.dead_deliveries import outbox_changelog
from app.cli.latest_values import LatestValues, latest_values
from app.cli.settings_option import settings_options
from app.domain.segment import Segment
from app.domain.validation import MAX_USER_ID_BYTES, key_problem
from app.errors import CommandError
from app.expressions import WrongExpressionError
from app.settings import Settings
from app.streams.topics import TopicNames
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

EPILOG = """
\b
Examples:
  tidings resync --user ada
  tidings resync --all --destination new-crm             a destination that was added: everybody's list
  tidings resync --segment 'attributes.plan == "gold" and cart_size > 0'
  tidings resync --segment 'days_since_last_event < 30' --destination crm --yes

\b
A segment is a condition on the profile; and, or, not, ==, !=, <, in, =~ (matches) and parentheses part or join:
  attributes.x             the profile's value of x: a text, a number or a flag; null where there is none
  days_since_first_event   days_since_last_event   event_count   emails_opened   emails_clicked
  cart, cart_size          product ids in the cart: "red-shoes" in cart
  seen, bought             product ids of the last interactions, and of orders
  user_id, denied          the id; purposes that consent was denied to

Resyncs go on a lane of their own, which never delays live traffic; each person gets the list that is current when their turn comes.
Who is blocked at the destination, or gave no consent, is not sent.
"""

#: What is kept of a person who is in the segment, and of one for whom that cannot be said.
_IN, _UNDECIDED = b"+", b"?"


@click.command(epilog=EPILOG)
@settings_options
@click.option("--user", "users", multiple=True, metavar="ID", help="May be given more than once.")
@click.option("--segment", metavar="CONDITION", help="Everybody whose profile fulfils it.")
@click.option("--all", "everybody", is_flag=True, help="Everybody who has a list.")
@click.option("--destination", "destinations", multiple=True, metavar="NAME", help="May be given more than once [default: all].")
@click.option("--yes", is_flag=True, help="Do not ask.")
def resync(
    settings: Settings, users: tuple[str, ...], segment: str | None, everybody: bool, destinations: tuple[str, ...], yes: bool
) -> None:
    """Send current lists again, though they were confirmed."""
    if bool(users) + (segment is not None) + everybody != 1:
        raise click.UsageError("say who: --user ID, --segment CONDITION or --all, one of them")
    targets = chosen_targets(settings, destinations)
    at_ms, tally = now_ms(), Tally()
    condition = None if segment is None else _segment(segment, at_ms)
    for user in users:
        if problem := key_problem(user, MAX_USER_ID_BYTES):
            raise click.BadParameter(f"{user!r} is no user id: it {problem}", param_hint="--user")
    try:
        asyncio.run(_resync(settings, tuple(dict.fromkeys(users)), condition, targets, at_ms, yes, tally))
    except KeyboardInterrupt:
        click.echo(f"stopped: {tally.acknowledged:,} command(s) were written, and are carried out", err=True)
        raise SystemExit(130) from None


def chosen_targets(settings: Settings, destinations: Sequence[str]) -> list[str]:
    """The destinations that are meant: those named, or all. Raises CommandError without any, click.BadParameter for an unknown one."""
    known = [target.name for target in settings.targets]
    if not known:
        raise CommandError("there is no destination in the settings: name the settings file of the workers with --settings")
    if unknown := [name for name in destinations if name not in known]:
        problem = f"there is no {', '.join(unknown)} in the settings; there are {', '.join(known)}"
        raise click.BadParameter(problem, param_hint="--destination")
    return list(dict.fromkeys(destinations)) or known


def _segment(text: str, at_ms: int) -> Segment:
    try:
        return Segment(text, at_ms)
    except WrongExpressionError as exc:
        raise click.BadParameter(f"{exc}: {text}", param_hint="--segment") from None


async def _resync(
    settings: Settings, users: Sequence[str], segment: Segment | None, targets: Sequence[str], at_ms: int, yes: bool, tally: Tally
) -> None:
    async with AsyncExitStack() as stack:
        found = None if users else await stack.enter_async_context(_people(settings, segment))

        def people() -> Iterator[str]:
            if found is None:
                yield from users
            else:
                yield from (key.decode(errors="replace") for key, value in found.items() if value == _IN)

        count = sum(1 for _ in people())
        if found is not None and (undecided := sum(value == _UNDECIDED for _, value in found.items())):
            why = "they lack what it compares, or have something of another kind there"
            click.echo(f"{undecided:,} people are left out, for whom the condition cannot be decided: {why}", err=True)
        if not count:
            click.echo("nobody fits: nothing to send", err=True)
            return
        if found is not None:
            ask(f"The lists of {count:,} people would be sent again to {' and '.join(targets)}.", yes)
        commands: Iterator[DeliveryCommand] = (
            new_command("resync", user_id, target, at_ms) for user_id in people() for target in targets
        )
        await write_commands(settings, commands, count * len(targets), tally)
    click.echo(
        f"{tally.acknowledged:,} command(s) written. They go on a lane of their own, behind all live traffic; see how far it is:\n"
        "  tidings deliveries show USER\n  tidings destinations list --worker URL",
        err=True,
    )


def _people(settings: Settings, segment: Segment | None) -> AbstractAsyncContextManager[LatestValues]:
    if segment is None:
        return latest_values(settings.kafka, outbox_changelog(settings.kafka), lambda _, value: _IN if _has_list(value) else None)

    def keep(key: bytes, value: bytes) -> bytes | None:
        try:
            holds = segment.holds(Profile.FromString(value))
        except DecodeError:
            return None  # not written by a worker
        return _UNDECIDED if holds is None else _IN if holds else None

    return latest_values(settings.kafka, TopicNames.of(settings.kafka).changelogs["profiles"], keep)


def _has_list(value: bytes) -> bool:
    try:
        return OutboxEntry.FromString(value).update.version > 0
    except DecodeError:
        return False
