"""Writes operators' commands to the delivery-commands topic, after asking, with progress, and says how far it came."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import click

from app.cli.progress import progress
from app.errors import BrokerError, CommandError
from app.settings import Settings
from app.streams.publisher import Publisher, Record
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand


@dataclass
class Tally:
    """How far the writing has come; kept apart so that it can be told after Ctrl-C too."""

    acknowledged: int = 0


def new_command(action: str, user_id: str, target: str, at_ms: int) -> DeliveryCommand:
    """``action`` is retry, drop or resync."""
    command = DeliveryCommand(user_id=user_id, target=target, issued_at_ms=at_ms)
    getattr(command, action).SetInParent()
    return command


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ask(question: str, yes: bool) -> None:
    """Go on only if it is meant. Raises CommandError where nobody can be asked, click.Abort on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Say --yes to do it without being asked")
    click.confirm(question, abort=True, err=True)


async def write_commands(settings: Settings, commands: Iterable[DeliveryCommand], total: int, tally: Tally) -> None:
    """Each to its user's partition, in their order. Raises BrokerError, which says how many were acknowledged."""
    records = (Record(command.user_id.encode(), command.SerializeToString()) for command in commands)
    with progress(total, "commands") as advance:

        def acknowledged(count: int) -> None:
            tally.acknowledged += count
            advance(count)

        try:
            async with Publisher.of_delivery_commands(settings) as publisher:
                await publisher.publish_all(records, acknowledged=acknowledged)
        except BrokerError as exc:
            so_far = f"{tally.acknowledged:,} of {total:,} commands were acknowledged; to send them again does no harm"
            raise BrokerError(f"{exc} ({so_far})") from exc
