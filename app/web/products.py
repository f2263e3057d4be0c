"""Products: PUT, PATCH and DELETE /v1/products write to the products topic; GET answers from this worker's copy of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

from aiohttp import web

from app.domain.catalog import NEVER_MS, Catalog, CatalogProduct
from app.domain.json_product import FIELD_OF, product_change_from_json, product_from_json
from app.domain.json_values import Broken
from app.domain.product_values import read_id
from app.domain.shown_product import shown_money, shown_product
from app.domain.validation import MAX_PRODUCT_ID_BYTES, Violation, invalid, key_problem
from app.errors import BrokerError
from app.streams.product_records import deletion_of, record_of
from app.streams.publisher import Record
from app.web.intake import Intake, accepted
from app.web.json_body import Entries, EntryKind, read_entries
from app.web.owners import json_response
from app.web.problems import FieldError, Problem, Refusal, try_again
from app.web.representations import iso_time
from app.web.views import RecordLog
from tidings.products.v1.product_pb2 import Product

_PRODUCT = EntryKind("product", "products")
_PRODUCT_ID = EntryKind("product id", "product ids", "a product id or an array of product ids", (str, int))
_UNKNOWN_PRODUCT = Problem(404, "unknown-product", "the catalog of this worker lists no such product")

_ReadProduct = Callable[[object, int], Product | Violation]


class Products:
    """The handlers. All of a request's products are accepted, or none is published."""

    def __init__(self, log: RecordLog, catalog: Catalog, intake: Intake) -> None:
        self._log = log
        self._catalog = catalog
        self._intake = intake

    async def put(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request, product_from_json)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request, product_change_from_json)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        def read(body: bytes, content_type: str) -> Entries[Record] | Problem:
            return read_entries(body, content_type, _PRODUCT_ID, self._intake.max_entries, self._deletion)

        return await self._intake.take(request, read, self._publish)

    async def put_one(self, request: web.Request) -> web.StreamResponse:
        return await self._take_one(request, product_from_json)

    async def patch_one(self, request: web.Request) -> web.StreamResponse:
        return await self._take_one(request, product_change_from_json)

    async def delete_one(self, request: web.Request) -> web.StreamResponse:
        return await self._publish(Entries([deletion_of(_id_in_path(request), self._log.partitions)]))

    async def get_one(self, request: web.Request) -> web.StreamResponse:
        product = self._catalog.product(_id_in_path(request))
        return _UNKNOWN_PRODUCT.response() if product is None else json_response(product_json(product))

    # ------------------------------------------------------------------ bodies

    async def _take(self, request: web.Request, of_json: _ReadProduct) -> web.StreamResponse:
        now_ms = self._intake.now_ms()

        def read(body: bytes, content_type: str) -> Entries[Record] | Problem:
            return read_entries(body, content_type, _PRODUCT, self._intake.max_entries, lambda value: self._record(of_json(value, now_ms)))

        return await self._intake.take(request, read, self._publish)

    async def _take_one(self, request: web.Request, of_json: _ReadProduct) -> web.StreamResponse:
        product_id, now_ms = _id_in_path(request), self._intake.now_ms()

        def read_one(value: object) -> Record | Violation:
            return self._record(_with_id(value, product_id, lambda whole: of_json(whole, now_ms)))

        def read(body: bytes, content_type: str) -> Entries[Record] | Problem:
            found = read_entries(body, content_type, _PRODUCT, self._intake.max_entries, read_one)
            if isinstance(found, Entries) and len(found.entries) != 1:
                detail = f"this route takes one product, not {len(found.entries)}: send many to /v1/products"
                return Problem(400, "malformed-body", detail, [FieldError(None, "", detail)])
            return found

        return await self._intake.take(request, read, self._publish)

    def _record(self, product: Product | Violation) -> Record | Violation:
        return product if isinstance(product, Violation) else record_of(product, self._log.partitions)

    def _deletion(self, value: object) -> Record | Violation:
        try:
            product_id = read_id(value, "product_id")
        except Broken as broken:
            return broken.violation()
        problem = key_problem(product_id, MAX_PRODUCT_ID_BYTES)
        return invalid("product_id", problem) if problem else deletion_of(product_id, self._log.partitions)

    async def _publish(self, outcome: Entries[Record] | Problem) -> web.StreamResponse:
        match outcome:
            case Problem():
                return outcome.response()
            case Entries(entries=records):
                return await self._written(records)
            case _:
                assert_never(outcome)

    async def _written(self, records: Sequence[Record]) -> web.StreamResponse:
        try:
            return accepted(await self._log.publish_records(records))
        except BrokerError as exc:
            return try_again("kafka-unavailable", f"{exc} (the same request sent again does no harm)").response()


def product_json(product: CatalogProduct) -> dict[str, Any]:
    """``product`` is what PUT takes, money in minor units; beside it stands what was seen to happen to it."""
    return {
        "product": {
            "product_id": product.product_id,
            **shown_product(product),
            "in_stock": product.in_stock,
            "attributes": {name: list(values) for name, values in sorted(product.attributes.items())},
            "published": _published(product.published_at_ms),
            "expires_at": iso_time(product.expires_at_ms),
        },
        "listed_at": iso_time(product.listed_at_ms),
        "out_of_stock_since": iso_time(product.out_of_stock_since_ms),
        "back_in_stock_at": iso_time(product.back_in_stock_at_ms),
        "prices": [{"since": iso_time(since_ms), "price": shown_money(price, product.currency)} for since_ms, price in product.prices],
    }


def _published(at_ms: int) -> bool | str | None:
    return iso_time(at_ms) if 0 < at_ms < NEVER_MS else at_ms == 0


def _with_id(value: object, product_id: str, read: Callable[[object], Product | Violation]) -> Product | Violation:
    """The product of the path: its own id may be left away, or must be the same."""
    name = None
    if isinstance(value, dict):
        name = next((name for name in value if FIELD_OF.get(name) == "product_id" and value[name] is not None), None)
        if name is None:
            value = {**{key: held for key, held in value.items() if FIELD_OF.get(key) != "product_id"}, "product_id": product_id}
    product = read(value)
    if isinstance(product, Product) and product.product_id != product_id:
        return invalid(name or "product_id", "is not the one in the path: leave it away, or send the product to /v1/products")
    return product


def _id_in_path(request: web.Request) -> str:
    product_id = request.match_info["product_id"]
    try:
        problem = key_problem(product_id, MAX_PRODUCT_ID_BYTES)
        product_id.encode()
    except UnicodeEncodeError:
        problem = "is not UTF-8"
    if problem:
        detail = f"product_id {problem}"
        raise Refusal(Problem(400, "invalid-parameter", detail, [FieldError(None, "product_id", detail)]))
    return product_id
