"""The demo's e-mail is made of the fields that a platform holds, in whichever form it holds them."""

from __future__ import annotations

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from app.web.demo.platform_inbox import Item, PlatformInbox, address_of, items_in
from app.web.demo.platforms import PLATFORMS
from app.web.demo.server import DemoServer
from app.web.demo.shop import load_catalog

ARRAY = [{"product_id": "mug", "reason": "Because"}, {"product_id": "cup", "reason": ""}]


@pytest.mark.parametrize(
    "fields",
    [{"recs": ARRAY}, {"first_name": "Ann", "recs": orjson.dumps(ARRAY).decode(), "rec_1_id": "mug"},
     {"rec_2_id": "cup", "rec_1_id": "mug", "rec_1_title": "Red mug", "recs": ["mug", "cup"]},
     {"REC1_ID": "mug", "REC2_ID": "cup", "REC3_ID": ""}],
    ids=["array", "text", "slots", "tags"],
)
def test_the_list_is_read_from_every_form(fields: dict[str, object]) -> None:
    assert [item.product_id for item in items_in(fields)] == ["mug", "cup"]


def test_fields_without_a_list_hold_none() -> None:
    assert items_in({"first_name": "Ann", "recs": "[not json", "tags": ["x"], "user_id": "ann"}) == ()
    assert items_in({"recs": ARRAY})[0] == Item("mug", "Because")


@pytest.mark.parametrize("kind", PLATFORMS)
def test_whoever_is_signed_up_is_shown_once_there_is_a_list(kind: str) -> None:
    news: list[str] = []
    platform = PLATFORMS[kind]()
    inbox = PlatformInbox(platform, news.append)
    inbox.introduce("ada-1", "Ada")
    assert inbox.last("ada-1") is None
    person = platform.person("ada-1") or platform.person(address_of("ada-1"))
    assert person is not None
    platform.introduce(person.identifiers, {"rec_1_id": "mug", "recs_at": "2026-11-22T10:00:00Z", "recs_version": 3})
    held = inbox.last("ada-1")
    assert held is not None
    assert (held.version, held.items, held.writes) == (3, (Item("mug"),), 2)
    assert ("recs_version", "3") in held.shown_fields()
    assert news == ["ada-1", "ada-1"]


async def test_the_demo_says_which_platform_it_shows() -> None:
    server = DemoServer(secret="whsec_" + "A" * 32, catalog=load_catalog(), platform=PLATFORMS["klaviyo"]())
    async with TestClient(TestServer(server.app(), host="127.0.0.1")) as client:
        status = await (await client.get("/status")).json()
    assert status["platform"] == "Klaviyo"
