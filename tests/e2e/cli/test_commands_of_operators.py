"""What operators ask for is done by the worker of each person: what was given up is sent, what was confirmed is sent again, once each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.cli.command_writing import new_command, now_ms
from app.cli.embedded_broker import EmbeddedBroker
from app.streams.publisher import Publisher, Record
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.waiting import until
from tidings.state.v1.profile_pb2 import Profile

from .outbox_worlds import dead, entry, fine, write_table

#: From a command to its effect.
SECONDS = 30
PEOPLE = ("ann", "bob", "cat", "dan", "eve")


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka)])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A shop that had trouble before its worker was restarted: ann and dan were given up, bob is blocked, cat and eve are confirmed."""
    is_embedded = request.param == "embedded"
    broker: EmbeddedBroker | ApacheKafka = request.getfixturevalue("embedded_broker" if is_embedded else "apache_kafka")
    async with fleet_on(broker.bootstrap_servers, tmp_path, is_embedded=is_embedded) as fleet:
        entries = [
            entry("ann", dead("inbox", "exhausted", last_error="503")), entry("bob", dead("inbox", "suppressed", blocked=True)),
            entry("cat", fine("inbox")), entry("dan", dead("inbox", "refused")), entry("eve", fine("inbox")),
        ]  # fmt: skip
        profiles = [(user, Profile(user_id=user, event_count=1).SerializeToString()) for user in PEOPLE]
        kafka = fleet.settings.kafka
        await asyncio.to_thread(write_table, kafka, "outbox", [(one.user_id, one.SerializeToString()) for one in entries], marks=False)
        await asyncio.to_thread(write_table, kafka, "profiles", profiles, marks=False)
        await fleet.start("a")
        yield fleet


async def tidings(fleet: Fleet, *arguments: str) -> Result:
    environment = {"TIDINGS_SETTINGS": str(fleet.settings_file), "TIDINGS_TOKEN": fleet.token}
    result = await asyncio.to_thread(CliRunner().invoke, cli, list(arguments), env=environment)
    assert result.exit_code == 0, result.output
    return result


async def received(fleet: Fleet, *users: str) -> None:
    async def is_so() -> bool:
        return set(await fleet.inbox.bodies()) == set(users)

    await until(is_so, SECONDS, f"just {', '.join(users)} at the inbox")


async def test_each_command_does_what_it_says_and_only_that(fleet: Fleet) -> None:
    assert await fleet.inbox.bodies() == {}, "nothing is due"
    await tidings(fleet, "deliveries", "retry", "--reason", "exhausted", "--yes")
    await received(fleet, "ann")
    await tidings(fleet, "resync", "--user", "cat", "--user", "nobody")
    await received(fleet, "ann", "cat")
    await tidings(fleet, "deliveries", "retry", "--user", "bob", "--yes")
    await received(fleet, "ann", "bob", "cat")
    await tidings(fleet, "deliveries", "drop", "--destination", "inbox", "--yes")

    async def nothing_is_given_up() -> bool:
        return not (await tidings(fleet, "deliveries", "list")).stdout

    await until(nothing_is_given_up, SECONDS, "no dead delivery")
    assert "inbox: confirmed" in (await tidings(fleet, "deliveries", "show", "bob")).stdout
    assert "dropped" in (await tidings(fleet, "deliveries", "show", "dan")).stdout
    await tidings(fleet, "resync", "--segment", 'user_id == "eve"', "--yes")
    await received(fleet, "ann", "bob", "cat", "eve")
    worker = fleet.workers[0]
    assert await worker.metric("tidings_delivery_commands_total", action="resync", outcome="unknown") == 1
    assert await worker.metric("tidings_delivery_commands_total", outcome="applied") == 5


async def test_commands_that_come_twice_and_noise_between_them_do_no_harm(fleet: Fleet) -> None:
    noise = [Record(b"ann", b"\xff" * 500_000), Record(b"zoe", b""), Record(b"ann", b"\x0a\x03bob")]
    at_ms = now_ms()
    commands = [Record(user.encode(), new_command("resync", user, "inbox", at_ms).SerializeToString()) for user in PEOPLE]
    names = fleet.names
    async with Publisher.of_delivery_commands(fleet.settings) as publisher:
        await publisher.publish_records([*commands, *noise, *commands])
        # Whoever was given up is tried by a resync too, but not who is blocked.
        await received(fleet, "ann", "cat", "dan", "eve")
        await publisher.publish_records(commands)

    async def is_dead_lettered() -> bool:
        listed = await tidings(fleet, "dead-letters", "list", "--topic", names.delivery_commands)
        return len(listed.stdout.splitlines()) == len(noise)

    await until(is_dead_lettered, SECONDS, "a dead letter for each")

    async def all_are_answered() -> bool:
        return await fleet.workers[0].metric("tidings_delivery_commands_total", action="resync") == 3 * len(PEOPLE)

    await until(all_are_answered, SECONDS, "every command answered")
    stats = await fleet.inbox.stats()
    assert (stats["repeated"], stats["regressions"]) == (0, 0), stats


async def test_a_command_that_a_killed_worker_had_not_carried_out_is_carried_out_by_the_next(fleet: Fleet) -> None:
    worker = fleet.workers[0]
    worker.kill()
    await tidings(fleet, "deliveries", "retry", "--user", "ann", "--user", "dan", "--yes")
    began = time.monotonic()
    await received(fleet, "ann", "dan")
    assert time.monotonic() - began < SECONDS


async def test_nothing_is_sent_to_a_paused_destination_until_it_is_resumed_and_a_restart_does_not_resume_it(fleet: Fleet) -> None:
    await tidings(fleet, "destinations", "pause", "inbox", "--reason", "their import is broken")

    async def is_paused() -> bool:
        told = await tidings(fleet, "destinations", "list", "--worker", fleet.workers[0].url)
        return "open (operator)" in told.stdout and "their import is broken" in told.stdout

    await until(is_paused, SECONDS, "a worker that knows of the pause")
    fleet.workers[0].kill()
    await tidings(fleet, "resync", "--user", "cat")
    await fleet.shared_among(fleet.workers[0])
    await until(is_paused, SECONDS, "a worker that knows of the pause still")

    async def is_asked_for() -> bool:
        return "resync:" in (await tidings(fleet, "deliveries", "show", "cat")).stdout

    await until(is_asked_for, SECONDS, "a resync that waits")
    assert await fleet.inbox.bodies() == {}
    await tidings(fleet, "destinations", "resume", "inbox")
    await received(fleet, "cat")
