"""The OpenAPI document is valid, and agrees with the routes and with what they take."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.domain.json_event import EVENT_NAMES, FIELDS, event_from_json
from app.web.openapi import openapi_document
from app.web.openapi_schemas import EVENT_EXAMPLES, SCHEMAS
from app.web.server import build_web
from tidings.events.v1.event_pb2 import Event

from .worlds import NOW_MS, FakeLog, FakeViews, settings_with, view, world


def test_the_document_is_valid_openapi():
    validate(openapi_document())


def test_every_route_is_documented_and_nothing_else():
    app = build_web(FakeViews(), FakeLog(), settings_with())
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


async def test_the_answer_to_events_conforms():
    async with world() as w:
        _, accepted, _ = await w.post(view())
        _, problem, _ = await w.post(view(user_id=7))
    components = {"components": {"schemas": SCHEMAS}}
    Draft202012Validator({"$ref": "#/components/schemas/Accepted", **components}).validate(accepted)
    Draft202012Validator({"$ref": "#/components/schemas/Problem", **components}).validate(problem)
