"""The routes of products over real HTTP: what is written to the products topic, what is refused by row and field, what is answered."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.domain.catalog import NEVER_MS, CatalogProduct
from app.domain.json_product import product_from_json
from app.streams.publisher import Record, partition_of
from tidings.products.v1.product_pb2 import Product

from .worlds import ALL, INGEST, NOW_MS, READ, settings_with, world

SHOE = {"id": "shoe", "title": "Trail shoe", "price": "299.99 EUR", "category": "Shoes > Running"}


@dataclass
class DictCatalog:
    """A catalog that is a dict."""

    products: dict[str, CatalogProduct] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.products

    def product(self, product_id: str) -> CatalogProduct | None:
        return self.products.get(product_id)

    def newest(self, limit: int) -> Sequence[str]:
        return ()

    def in_category(self, category: str, limit: int) -> Sequence[str]:
        return ()


def written(records: list[Record]) -> list[Product]:
    return [Product.FromString(record.value or b"") for record in records]


async def test_one_product_an_array_and_lines_are_written_in_their_order():
    async with world() as w:
        assert (await w.send("PUT", "/v1/products", SHOE))[0] == 202
        assert (await w.send("PUT", "/v1/products", [{"id": "a"}, {"id": "b"}]))[0] == 202
        status, document = await w.send("PUT", "/v1/products", '{"id":"c"}\n{"id":"d"}\n', "application/x-ndjson")
    assert status == 202
    assert document["accepted"] == 2
    assert [p.product_id for p in written(w.products.records)] == ["shoe", "a", "b", "c", "d"]
    assert written(w.products.records)[0].price.minor_units == 29_999
    assert w.log.events == []


async def test_a_product_and_its_changes_go_to_the_partition_of_the_id_under_different_keys():
    async with world() as w:
        await w.send("PUT", "/v1/products", [{"id": f"p{n}"} for n in range(20)])
        await w.send("PATCH", "/v1/products", [{"id": f"p{n}", "price": n, "in_stock": False} for n in range(20)])
        await w.send("DELETE", "/v1/products", [f"p{n}" for n in range(20)])
    for n in range(20):
        whole, change, end = (w.products.records[n + 20 * kind] for kind in range(3))
        key = f"p{n}".encode()
        assert {whole.partition, change.partition, end.partition} == {partition_of(key, 8)}
        assert (whole.key, change.key, end.key) == (key, key + b"\x1fin_stock,price", key)
        assert end.value is None


async def test_the_id_in_the_path_may_be_left_away_in_the_body_but_not_differ():
    async with world() as w:
        assert (await w.send("PUT", "/v1/products/a%2Fb%20%C3%A9", {"title": "x"}))[0] == 202
        assert (await w.send("PUT", "/v1/products/shoe", {"id": None, "title": "x"}))[0] == 202
        assert (await w.send("PATCH", "/v1/products/shoe", {"id": "shoe", "price": 3}))[0] == 202
        status, document = await w.send("PUT", "/v1/products/shoe", {"id": "boot", "title": "x"})
    assert [p.product_id for p in written(w.products.records)] == ["a/b é", "shoe", "shoe"]
    assert status == 400
    assert document["errors"][0]["field"] == "id"
    assert "path" in document["detail"]


async def test_a_route_of_one_product_takes_no_more():
    async with world() as w:
        status, document = await w.send("PUT", "/v1/products/shoe", [{"id": "shoe"}, {"id": "shoe"}])
    assert status == 400
    assert "one product" in document["detail"]
    assert w.products.records == []


async def test_one_bad_product_and_none_is_written():
    async with world() as w:
        bad = [{**SHOE, "price": "12 apples"}, {**SHOE, "titel": "x"}, {"title": "no id"}]
        status, document = await w.send("PUT", "/v1/products", [SHOE, *bad])
    assert status == 400
    assert document["type"] == "urn:tidings:problem:invalid-products"
    assert [(e["index"], e["field"]) for e in document["errors"]] == [(1, "price"), (2, "titel"), (3, "product_id")]
    assert "did you mean title?" in document["errors"][1]["detail"]
    assert w.products.records == []


async def test_a_change_names_at_least_one_field_and_null_clears_it():
    async with world() as w:
        status, document = await w.send("PATCH", "/v1/products", {"id": "shoe"})
        assert (await w.send("PATCH", "/v1/products", {"id": "shoe", "expires_at": None}))[0] == 202
    assert status == 400
    assert "names no field" in document["detail"]
    (change,) = written(w.products.records)
    assert list(change.changed_fields) == ["expires_at_ms"]
    assert change.expires_at_ms == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "empty"),
        ("[]", "empty"),
        ("{}", "product id"),
        ('["__x"]', "__"),
        ('["a", null]', "not null"),
        ('["a", {"id": "b"}]', "not an object"),
        ('[""]', "required"),
        (json.dumps(["x" * 129]), "128"),
        ("[true]", "not true or false"),
        ('"a" "b"', "Extra data"),
    ],
)
async def test_what_is_no_list_of_ids_deletes_nothing(body: str, says: str):
    async with world() as w:
        status, document = await w.send("DELETE", "/v1/products", body)
    assert status == 400
    assert says in document["detail"]
    assert w.products.records == []


async def test_ids_come_as_one_an_array_or_lines_and_as_numbers_too():
    async with world() as w:
        for body, content_type in [('"a"', "application/json"), ('["b", 7]', "application/json"), ('"c"\n"d"', "application/x-ndjson")]:
            assert (await w.send("DELETE", "/v1/products", body, content_type))[0] == 202
        assert (await w.send("DELETE", "/v1/products/e"))[0] == 202
    assert [record.key for record in w.products.records] == [b"a", b"b", b"7", b"c", b"d", b"e"]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/products"), ("PATCH", "/v1/products"), ("DELETE", "/v1/products"), ("PUT", "/v1/products/shoe")]
)
async def test_a_megabyte_of_noise_is_refused(method: str, path: str, seed: int):
    noise = random.Random(seed).randbytes(1_000_000)
    async with world() as w:
        for body in (noise, noise.hex().encode()[:1_000_000], b'"' + noise.hex().encode()[:1_000_000] + b'"', b"[" * 100_000):
            assert (await w.send(method, path, body))[0] == 400
        assert w.products.records == []


async def test_limits_and_types_are_those_of_events():
    async with world(settings_with(max_events_per_request=2, max_body_bytes=10_000)) as w:
        too_many, document = await w.send("PUT", "/v1/products", [SHOE] * 3)
        too_large, _ = await w.send("PUT", "/v1/products", b" " * 10_001)
        wrong_type, _ = await w.send("PUT", "/v1/products", SHOE, "text/csv")
    assert (too_many, too_large, wrong_type) == (413, 413, 415)
    assert document["type"] == "urn:tidings:problem:too-many-products"


async def test_when_kafka_does_not_answer_the_client_is_told_to_try_again():
    async with world() as w:
        w.products.away = True
        for method, path, body in [("PUT", "/v1/products", SHOE), ("DELETE", "/v1/products", ["a"]), ("DELETE", "/v1/products/a", None)]:
            status, document = await w.send(method, path, body)
            assert status == 503
            assert "does no harm" in document["detail"]


async def test_writing_needs_the_scope_ingest_and_looking_up_needs_read():
    async with world(token=READ) as reader:
        assert (await reader.send("PUT", "/v1/products", SHOE))[0] == 403
        assert (await reader.send("DELETE", "/v1/products/shoe"))[0] == 403
        assert (await reader.get("/v1/products/shoe"))[0] == 404
    async with world(token=INGEST) as writer:
        assert (await writer.send("PUT", "/v1/products", SHOE))[0] == 202
        assert (await writer.get("/v1/products/shoe"))[0] == 403
    async with world(token=None) as nobody:
        for method in ("PUT", "PATCH", "DELETE"):
            assert (await nobody.send(method, "/v1/products", "[]"))[0] == 401
        assert nobody.products.records == []


async def test_an_id_that_no_product_has_is_refused_by_name():
    async with world(token=ALL) as w:
        for path in ("/v1/products/__x", "/v1/products/" + "x" * 129, "/v1/products/a%00b"):
            status, document, _ = await w.get(path)
            assert status == 400, path
            assert document["errors"][0]["field"] == "product_id"


async def test_what_is_answered_of_a_product_can_be_put_again():
    listed = CatalogProduct(
        product_id="a/b", title="Shoe", url="https://shop.example/a", price=29_999, list_price=34_900, currency="EUR", in_stock=False,
        categories=("Shoes > Running",), brand="Acme", attributes={"colour": ("red", "blue")}, published_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 1, listed_at_ms=NOW_MS, prices=((NOW_MS - 5, 31_000), (NOW_MS, 29_999)), out_of_stock_since_ms=NOW_MS,
    )  # fmt: skip
    async with world(catalog=DictCatalog({"a/b": listed})) as w:
        status, document, _ = await w.get("/v1/products/a%2Fb")
        unknown, problem, _ = await w.get("/v1/products/boot")
        assert (await w.send("PUT", "/v1/products", document["product"]))[0] == 202
    assert status == 200
    assert document["out_of_stock_since"] == "2024-04-28T10:26:40.000Z"
    assert [entry["price"]["minor_units"] for entry in document["prices"]] == [31_000, 29_999]
    assert (unknown, problem["type"]) == (404, "urn:tidings:problem:unknown-product")
    (product,) = written(w.products.records)
    assert (product.product_id, product.title, product.url, product.brand) == ("a/b", "Shoe", "https://shop.example/a", "Acme")
    assert (product.price.minor_units, product.price.currency_code, product.list_price.minor_units) == (29_999, "EUR", 34_900)
    assert (product.in_stock, list(product.categories)) == (False, ["Shoes > Running"])
    assert list(product.attributes["colour"].values) == ["red", "blue"]
    assert (product.published_at_ms, product.expires_at_ms) == (NOW_MS, NOW_MS + 1)


@pytest.mark.parametrize(("published_at_ms", "shown"), [(0, True), (NEVER_MS, False), (NOW_MS, "2024-04-28T10:26:40.000Z")])
async def test_when_a_product_is_shown_is_said_as_it_is_taken(published_at_ms: int, shown: Any):
    async with world(catalog=DictCatalog({"a": CatalogProduct("a", published_at_ms=published_at_ms)})) as w:
        _, document, _ = await w.get("/v1/products/a")
    assert document["product"]["published"] == shown
    again = product_from_json({"id": "a", "published": document["product"]["published"]}, NOW_MS)
    assert isinstance(again, Product)
    assert again.published_at_ms == published_at_ms
