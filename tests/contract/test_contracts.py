"""Every request of a destination keeps to its platform's contract; and the contract refuses what it should, or it would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from app.destinations import Destination, HasFields, JobBased
from app.destinations.requests import Part, Rendered, Request
from tests.contract.contracts import contract_of
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, enormous, many

#: A webhook has no contract but its specification, which the reference library checks (test_webhook_over_http.py).
PLATFORMS = {kind: destination for kind, destination in EXAMPLES.items() if kind != "webhook"}
#: Jobs that are asked for in another way than their id alone: Klaviyo's errors.
JOBS = {"sendgrid": ["job-1"], "klaviyo": ["job-1", "job-1#errors:2"]}
#: Requests of ours that the contracts, subsets of the platforms' own documents, have no word on.
BEYOND = {
    "mailchimp": {("GET", "/3.0/lists/a1b2c3d4e5/merge-fields"), ("POST", "/3.0/lists/a1b2c3d4e5/merge-fields")},
    "hubspot": {("GET", "/crm/v3/properties/contacts"), ("POST", "/crm/v3/properties/contacts/groups")},
    "klaviyo": {("GET", "/api/profile-bulk-import-jobs/job-1/import-errors")},
}


def _first(path: str, change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """A change of the first member of the list at a path within the body."""

    def changed(body: dict[str, Any]) -> object:
        found: Any = body
        for name in path.split("."):
            found = found[name]
        return change(found[0])

    return changed


#: By kind and operation: what makes a request of ours one that the platform would refuse. Each must be refused.
WRONG: dict[tuple[str, str], list[Callable[[dict[str, Any]], object]]] = {
    ("sendgrid", "upsertContacts"): [
        lambda body: body.pop("contacts"),
        lambda body: body.update(lists=[]),
        _first("contacts", lambda one: one.pop("email")),
        _first("contacts", lambda one: one["custom_fields"].update(e1_T=True)),
        _first("contacts", lambda one: one["custom_fields"].update(e1_T=None)),
        _first("contacts", lambda one: one["custom_fields"].update(e1_T=["mug"])),
    ],
    ("sendgrid", "createField"): [
        lambda body: body.pop("field_type"),
        lambda body: body.update(name="1st"),
        lambda body: body.update(field_type="Json"),
    ],
    ("mailchimp", "updateListMember"): [
        lambda body: body["merge_fields"].update(REC1_ID="x" * 256),
        lambda body: body["merge_fields"].update(REC1_ID=None),
        lambda body: body.update(merge_fields={f"T{i}": "" for i in range(81)}),
    ],
    ("hubspot", "upsertContacts"): [
        lambda body: body.pop("inputs"),
        lambda body: body.update(inputs=body["inputs"] * 101),
        _first("inputs", lambda one: one.pop("id")),
        _first("inputs", lambda one: one["properties"].update(recs_version=7)),
        _first("inputs", lambda one: one["properties"].update(rec_1_id=None)),
        _first("inputs", lambda one: one["properties"].update(recs="x" * 65_537)),
    ],
    ("hubspot", "createProperty"): [lambda body: body.pop("groupName"), lambda body: body.update(type="text")],
    ("klaviyo", "bulkImport"): [
        lambda body: body.pop("data"),
        lambda body: body["data"].update(type="profile"),
        lambda body: body["data"]["attributes"]["profiles"].update(data=[]),
        _first("data.attributes.profiles.data", lambda one: one.pop("type")),
        _first("data.attributes.profiles.data", lambda one: one["attributes"].pop("external_id")),
        _first("data.attributes.profiles.data", lambda one: one["attributes"].update(properties=[])),
    ],
    ("braze", "track"): [
        lambda body: body.update(attributes=body["attributes"] * 76),
        lambda body: body.update(users=[]),
        _first("attributes", lambda one: one.pop("external_id")),
        _first("attributes", lambda one: one.update(external_id=7)),
    ],
    ("customerio", "batch"): [
        lambda body: body.pop("batch"),
        lambda body: body.update(batch=[]),
        _first("batch", lambda one: one.pop("identifiers")),
        _first("batch", lambda one: one.update(action="subscribe")),
        _first("batch", lambda one: one["identifiers"].update(id="x" * 151)),
        _first("batch", lambda one: one.update(attributes={f"a{i}": "" for i in range(301)})),
    ],
    ("iterable", "bulkUpdate"): [
        lambda body: body.pop("users"),
        lambda body: body.update(users=body["users"] * 1_001),
        _first("users", lambda one: one.pop("userId")),
        _first("users", lambda one: one.update(dataFields=[])),
    ],
}


def parts_of(destination: Destination, people: list[Rendered]) -> list[Part]:
    return [part for rendered in people if isinstance(part := destination.encode(rendered), Part)]


def requests_of(kind: str, destination: Destination) -> Iterator[Request]:
    """Each request that the destination can make: for one person, several, the most, the largest; about jobs; about fields."""
    limits = destination.limits
    for people in ([ann()], many(min(3, limits.people)), many(min(limits.people, 1_000)), [enormous()]):
        if parts := parts_of(destination, people):
            yield destination.request(parts)
    if isinstance(destination, JobBased):
        for job in JOBS[kind]:
            yield destination.poll(job)
    if isinstance(destination, HasFields):
        yield destination.fields_request()
        for field in destination.fields():
            yield destination.create_field(field)


def operations_of(kind: str) -> dict[str, Request]:
    """Operations of the contract that the destination uses, each with the first request that does."""
    contract, used = contract_of(kind), {}
    for request in requests_of(kind, PLATFORMS[kind]):
        if (operation := contract.operation_of(request)) is not None:
            used.setdefault(operation, request)
    return used


@pytest.mark.parametrize("kind", PLATFORMS)
def test_every_request_keeps_to_the_contract(kind: str) -> None:
    contract, beyond = contract_of(kind), set()
    for request in requests_of(kind, PLATFORMS[kind]):
        if contract.operation_of(request) is None:
            beyond.add((request.method, request.url.split("?")[0].split("/", 3)[3]))
            continue
        assert contract.breach_of(request) is None
    assert {(method, f"/{path}") for method, path in beyond} == BEYOND.get(kind, set())


@pytest.mark.parametrize("kind", PLATFORMS)
def test_each_operation_has_a_request_that_the_contract_must_refuse(kind: str) -> None:
    with_body = {operation for operation, request in operations_of(kind).items() if request.body}
    assert with_body == {operation for of, operation in WRONG if of == kind}


@pytest.mark.parametrize(("kind", "operation"), WRONG)
def test_what_the_platform_would_refuse_is_refused(kind: str, operation: str) -> None:
    request = operations_of(kind)[operation]
    for change in WRONG[kind, operation]:
        body = orjson.loads(request.body)
        change(body)
        assert orjson.dumps(body) != request.body
        assert contract_of(kind).breach_of(request._replace(body=orjson.dumps(body))), body


@pytest.mark.parametrize("kind", PLATFORMS)
def test_noise_another_media_type_no_credentials_and_another_path_are_refused(kind: str) -> None:
    contract = contract_of(kind)
    for request in operations_of(kind).values():
        assert contract.breach_of(request._replace(secret_headers={}))
        assert contract.breach_of(request._replace(url=request.url.split("?")[0] + "/nowhere"))
        assert contract.breach_of(request._replace(method="DELETE"))
        if request.body:
            assert contract.breach_of(request._replace(body=b"[]"))
            assert contract.breach_of(request._replace(body=b"\xff\x00{"))
            assert contract.breach_of(request._replace(body=b""))
            assert contract.breach_of(request._replace(headers={**request.headers, "content-type": "text/plain"}))


@pytest.mark.parametrize("kind", PLATFORMS)
def test_a_header_that_the_contract_asks_for_is_missed(kind: str) -> None:
    contract = contract_of(kind)
    for request in operations_of(kind).values():
        for header in contract.headers:
            without = {name: value for name, value in request.headers.items() if name != header}
            assert contract.breach_of(request._replace(headers=without))
    assert ("revision" in contract.headers) == (kind == "klaviyo")
