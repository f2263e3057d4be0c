"""`tidings destinations list --worker` tells what a worker knows of the whole fleet; pages on destinations name commands that exist."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import click
from click.testing import CliRunner, Result

from app.cli import cli
from app.delivery.breaker import BreakerState, Cause
from tests.unit.web.test_deliveries import a_line
from tests.unit.web.worlds import INGEST, NOW_MS, READ, FakeViews, world

ROOT = Path(__file__).resolve().parents[3]


async def listed(*arguments: str, token: str = READ) -> Result:
    """In a thread of its own, for the worker is in this one."""
    environment = {"TIDINGS_SETTINGS": None, "TIDINGS_TOKEN": token}
    return await asyncio.to_thread(CliRunner().invoke, cli, ["destinations", "list", *arguments], env=environment)


async def test_each_destination_is_told_with_what_is_due_and_why_nothing_is_sent_and_which_worker_is_silent() -> None:
    refused = BreakerState("open", Cause.AUTH, "401: no such key", NOW_MS)
    views = FakeViews(lines=[a_line("crm", 4, refused, oldest_due_ms=9_000), a_line("inbox", 1)], others=["http://127.0.0.1:1"])
    async with world(views=views) as w:
        told = await listed("--worker", w.url)
        as_json = await listed("--worker", w.url, "--json")
    assert told.exit_code == 0, told.output
    crm, inbox = (line.split("\t") for line in told.stdout.splitlines())
    assert (crm[0], crm[2:5], crm[7:]) == ("crm", ["open (auth)", "4", "0"], ["9.0", "401: no such key"])
    assert (inbox[0], inbox[2:4]) == ("inbox", ["closed", "1"])
    assert "then resume" in told.stderr
    assert "http://127.0.0.1:1 did not answer" in told.stderr
    assert [one["name"] for one in json.loads(as_json.stdout)["destinations"]] == ["crm", "inbox"]


async def test_a_worker_that_refuses_or_is_not_there_is_told_in_one_message(free_port: int) -> None:
    async with world(views=FakeViews()) as w:
        no_scope = await listed("--worker", w.url, token=INGEST)
    nobody = await listed("--worker", f"http://127.0.0.1:{free_port}")
    for result, words in ((no_scope, "scope read"), (nobody, "--worker URL")):
        assert result.exit_code == 1
        assert words in result.output
        assert isinstance(result.exception, SystemExit)


def test_commands_named_in_the_pages_on_destinations_and_in_help_exist() -> None:
    texts = {page.name: page.read_text() for page in sorted((ROOT / "docs" / "destinations").glob("*.md"))}
    texts |= {command: CliRunner().invoke(cli, [command, "--help"]).output for command in ("deliveries", "destinations", "resync")}
    assert len(texts) > 3
    context = click.Context(cli)
    for name, text in texts.items():
        for called, word in re.findall(r"\btidings ([a-z][a-z-]+)(?: ([a-z]+))?", text):
            command = cli.get_command(context, called)
            assert command is not None, (name, called)
            if isinstance(command, click.Group) and word:
                assert word in command.commands, (name, called, word)
