"""`tidings explain` asks a worker, and says in words why, what was left out, and what is wrong when nothing comes."""

from __future__ import annotations

import asyncio
import json

from click.testing import CliRunner, Result

from app.cli import cli
from tests.unit.web.test_slots import a_shop, a_visitor, views
from tests.unit.web.worlds import INGEST, READ, world


async def explain(*arguments: str, token: str = READ) -> Result:
    """In a thread of its own, for the worker is in this one."""
    environment = {"TIDINGS_SETTINGS": None, "TIDINGS_TOKEN": token}
    return await asyncio.to_thread(CliRunner().invoke, cli, ["explain", *arguments], env=environment)


async def test_each_product_is_told_with_its_reason_and_each_that_was_left_out_with_its_rule() -> None:
    catalog = a_shop()
    async with world(views=views(catalog, profiles={"u1": a_visitor()}), catalog=catalog) as w:
        told = await explain("u1", "--slot", "again", "--worker", w.url)
        as_json = await explain("u1", "--slot", "again", "--worker", w.url, "--json")
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines() == [
        "1\tmug\tRed mug\tYou looked at this before.",
        "2\ttea\tTea\tNew in the shop.",
        "unlisted\t-\tuncatalogued\trecently_viewed",
        "kettle\tKettle\tout_of_stock\trecently_viewed",
    ]
    assert [one["rule"] for one in json.loads(as_json.stdout)["removed"]] == ["uncatalogued", "out_of_stock"]


async def test_someone_unknown_is_told_to_be_unknown() -> None:
    catalog = a_shop()
    async with world(views=views(catalog), catalog=catalog) as w:
        told = await explain("a/b", "--worker", w.url)
    assert told.exit_code == 0, told.output
    assert "No event of 'a/b' was applied" in told.stderr


async def test_a_worker_that_refuses_or_does_not_answer_is_told_in_one_message(free_port: int) -> None:
    async with world(views=views(a_shop())) as w:
        no_slot = await explain("u1", "--slot", "other", "--worker", w.url)
        no_scope = await explain("u1", "--worker", w.url, token=INGEST)
    nobody = await explain("u1", "--worker", f"http://127.0.0.1:{free_port}")
    no_url = await explain("u1", "--worker", "worker-1")
    for result, words in ((no_slot, "must be one of"), (no_scope, "TIDINGS_TOKEN"), (nobody, "--worker"), (no_url, "--worker")):
        assert result.exit_code == 1
        assert words in result.output
        assert "Traceback" not in result.output
