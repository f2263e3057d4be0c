"""The demo's server lets only its own page in, and knows which click a list answers."""

from __future__ import annotations

import base64

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from app.domain.json_product import product_from_json
from app.web.demo.server import MAX_CLICKS, MAX_VISITORS, Click, Clicks, DemoServer, _only_for_us, _read
from app.web.demo.shop import load_catalog, product_json
from tidings.products.v1.product_pb2 import Product

CATALOG = load_catalog()
CLICK = {"event_id": "e-1234567", "user_id": "ada-1", "action": "view", "product_id": "oak-board"}


async def let_in(request: web.Request) -> web.StreamResponse:
    return web.Response(status=200)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "127.0.0.1:8090"}, 200),
        ("GET", {"Host": "localhost:8090"}, 200),
        ("GET", {"Host": "shop.example"}, 421),
        ("POST", {"Host": "127.0.0.1:8090", "Content-Type": "application/json"}, 200),
        ("POST", {"Host": "127.0.0.1:8090", "Content-Type": "application/json", "Origin": "http://127.0.0.1:8090"}, 200),
        ("POST", {"Host": "127.0.0.1:8090", "Content-Type": "application/json", "Origin": "http://shop.example"}, 403),
        ("POST", {"Host": "127.0.0.1:8090", "Content-Type": "text/plain"}, 415),
    ],
)
async def test_only_the_demo_page_and_the_worker_are_let_in(method: str, headers: dict[str, str], status: int) -> None:
    response = await _only_for_us(make_mocked_request(method, "/clicks", headers=headers), let_in)
    assert response.status == status


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"action": "steal"}, "action"),
        ({"product_id": "gold-bar"}, "product_id"),
        ({"user_id": "Ada Lovelace"}, "user_id"),
        ({"event_id": "short"}, "event_id"),
        ({"more": "x"}, "send"),
        ({"user_id": 7}, "strings"),
    ],
)
def test_a_click_that_is_none_is_named(change: dict[str, object], word: str) -> None:
    read = _read(orjson.dumps(CLICK | change), set(CLICK), CATALOG)
    assert isinstance(read, str)
    assert word in read


def test_a_click_is_read_as_it_is() -> None:
    assert _read(orjson.dumps(CLICK), set(CLICK), CATALOG) == CLICK
    assert isinstance(_read(b"[1", set(CLICK), CATALOG), str)


def test_the_shop_lists_every_product_of_the_page_as_the_worker_takes_it() -> None:
    read = [product_from_json(product, 1_714_219_200_000) for product in product_json(CATALOG)]
    assert [product.product_id for product in read if isinstance(product, Product)] == list(CATALOG.products)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"product_id": "gold-bar"}, "product_id"), ({"availability": "perhaps"}, "availability"), ({"more": "x"}, "send")],
)
async def test_a_change_of_stock_that_is_none_is_named(change: dict[str, str], word: str) -> None:
    server = DemoServer(secret="whsec_" + base64.b64encode(b"a secret of the tests, 32 bytes.").decode(), catalog=CATALOG)
    async with TestClient(TestServer(server.app(), host="127.0.0.1")) as client:
        answer = await client.post("/stock", json={"product_id": "oak-board", "availability": "in_stock"} | change)
        assert (answer.status, word in (await answer.json())["detail"]) == (400, True)


def test_a_list_answers_the_newest_click_that_it_contains() -> None:
    clicks = Clicks()
    for at_ms in (100, 200, 300):
        clicks.add("ada", Click(f"click-{at_ms}", at_ms))
    answered = clicks.answered_by("ada", current_to_ms=250)
    assert answered is not None
    assert answered.event_id == "click-200"
    assert clicks.answered_by("ada", current_to_ms=99) is None
    assert clicks.answered_by("bo", current_to_ms=250) is None


def test_clicks_and_visitors_are_bounded() -> None:
    clicks = Clicks()
    for number in range(MAX_VISITORS + 1):
        clicks.add(f"user-{number}", Click("click", 1))
    assert clicks.answered_by("user-0", 1) is None
    for number in range(MAX_CLICKS + 1):
        clicks.add("user-9", Click(f"click-{number}", number))
    assert clicks.answered_by("user-9", 0) is None


def test_neither_token_nor_secret_shows_in_what_a_person_may_print() -> None:
    secret = "whsec_" + base64.b64encode(b"a secret of the tests, 32 bytes.").decode()
    server = DemoServer(secret=secret, catalog=CATALOG)
    server.connect("http://127.0.0.1:1", "a-token-of-the-tests")
    assert "token-of" not in repr(server)
    assert secret not in repr(server)
