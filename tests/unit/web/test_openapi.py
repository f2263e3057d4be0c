"""The OpenAPI document is valid, and agrees with the routes and with what they take."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.domain.catalog import CatalogProduct
from app.domain.json_event import EVENT_NAMES, FIELDS, event_from_json
from app.domain.json_product import FIELD_OF, product_change_from_json, product_from_json
from app.web.openapi import openapi_document
from app.web.openapi_products import PRODUCT_CHANGE_EXAMPLES, PRODUCT_EXAMPLES
from app.web.openapi_schemas import EVENT_EXAMPLES, SCHEMAS
from app.web.products import product_json
from app.web.server import build_web
from tidings.events.v1.event_pb2 import Event
from tidings.products.v1.product_pb2 import Product

from .worlds import NOW_MS, FakeLog, FakeProductLog, FakeViews, settings_with, view, world


def test_the_document_is_valid_openapi():
    validate(openapi_document())


def test_every_route_is_documented_and_nothing_else():
    app = build_web(FakeViews(), FakeLog(), settings_with(), products=FakeProductLog())
    served = {(route.method.lower(), route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    documented = {(method, path) for path, operations in openapi_document()["paths"].items() for method in operations}
    assert served == documented


async def test_the_document_and_the_index_are_served_without_a_token():
    async with world(token=None) as w:
        _, document, _ = await w.get("/openapi.json")
        _, index, _ = await w.get("/")
    assert document == openapi_document()
    assert {route["path"] for route in index["routes"]} == set(document["paths"])
    Draft202012Validator({**SCHEMAS["Index"]}).validate(index)


def test_there_is_an_example_of_every_payload_and_each_is_accepted():
    payloads = set()
    for example in EVENT_EXAMPLES.values():
        event = event_from_json(example, NOW_MS)
        assert isinstance(event, Event), event
        payloads.add(event.WhichOneof("payload"))
    assert payloads == set(EVENT_NAMES.values())


@pytest.mark.parametrize("name", EVENT_EXAMPLES)
def test_each_example_conforms_to_the_schema_of_an_event(name):
    Draft202012Validator({"$ref": "#/components/schemas/Event", "components": {"schemas": SCHEMAS}}).validate(EVENT_EXAMPLES[name])


def test_the_schema_of_an_event_has_every_field_that_is_taken_and_no_other():
    assert set(SCHEMAS["Event"]["properties"]) == FIELDS


@pytest.mark.parametrize("name", PRODUCT_EXAMPLES)
def test_each_example_of_a_product_is_accepted_and_conforms(name):
    assert isinstance(product_from_json(PRODUCT_EXAMPLES[name], NOW_MS), Product)
    Draft202012Validator({"$ref": "#/components/schemas/Product", "components": {"schemas": SCHEMAS}}).validate(PRODUCT_EXAMPLES[name])


@pytest.mark.parametrize("name", PRODUCT_CHANGE_EXAMPLES)
def test_each_example_of_a_change_is_accepted_and_conforms(name):
    change = PRODUCT_CHANGE_EXAMPLES[name]
    assert isinstance(product_change_from_json(change, NOW_MS), Product)
    Draft202012Validator({"$ref": "#/components/schemas/ProductChange", "components": {"schemas": SCHEMAS}}).validate(change)


def test_the_schema_of_a_product_has_every_name_that_is_taken_and_no_other():
    assert set(SCHEMAS["Product"]["properties"]) == set(FIELD_OF)


@pytest.mark.parametrize(
    "product",
    [
        CatalogProduct("bare"),
        CatalogProduct("full", "t", price=1, list_price=2, currency="EUR", attributes={"a": ("b",)}, prices=((NOW_MS, 1),)),
    ],
)
def test_what_is_answered_of_a_product_conforms(product):
    Draft202012Validator({"$ref": "#/components/schemas/ListedProduct", "components": {"schemas": SCHEMAS}}).validate(product_json(product))


async def test_the_answer_to_events_conforms():
    async with world() as w:
        _, accepted, _ = await w.post(view())
        _, problem, _ = await w.post(view(user_id=7))
    components = {"components": {"schemas": SCHEMAS}}
    Draft202012Validator({"$ref": "#/components/schemas/Accepted", **components}).validate(accepted)
    Draft202012Validator({"$ref": "#/components/schemas/Problem", **components}).validate(problem)
