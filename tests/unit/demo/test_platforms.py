"""Each platform's stand-in takes what the vendor takes, and refuses what it refuses, in its own words; no socket."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from app.web.demo.platforms import PLATFORMS, Platform
from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.hubspot import HubSpot
from app.web.demo.platforms.limits import AtOnce, FixedWindow, RollingWindow
from app.web.demo.platforms.mailchimp import Mailchimp, hash_of
from app.web.demo.platforms.platform import MAX_JOBS, MAX_PEOPLE, MAX_WRITES, Answer, Call
from app.web.demo.platforms.sendgrid import SendGrid

NOTHING: Mapping[str, str] = {}


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


KEYS: dict[str, dict[str, str]] = {
    "sendgrid": {"authorization": "Bearer demo-key"},
    "mailchimp": {"authorization": _basic("any", "demo-key")},
    "hubspot": {"authorization": "Bearer demo-key"},
    "klaviyo": {"authorization": "Klaviyo-API-Key demo-key", "revision": "2026-07-15"},
    "braze": {"authorization": "Bearer demo-key"},
    "customerio": {"authorization": _basic("demo-site", "demo-key")},
    "iterable": {"api-key": "demo-key"},
}


def a_platform(kind: str) -> Platform:
    """With the fields that must exist, and a clock at ``platform.test_clock``."""
    platform = PLATFORMS[kind](clock=Clock())
    match platform:
        case SendGrid():
            platform.create_field("rec_1_id")
        case Mailchimp():
            platform.create_field("R1ID")
        case HubSpot():
            platform.create_field("rec_1_id")
    return platform


def ask(
    platform: Platform, method: str, path: str, document: Any = None,
    headers: Mapping[str, str] = NOTHING, query: Mapping[str, str] = NOTHING,
) -> Answer:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    all_headers = {"content-type": platform.content_type, **KEYS[platform.kind], **headers}
    return platform.answer(Call(method, path, query, all_headers, body))


def tell(platform: Platform, *names: str, value: Any = "mug") -> Answer:
    """Write one field of people by address, or by id where the vendor has ids, in one request."""
    kind = platform.kind
    addresses = [f"{name}@example.com" for name in names]
    match kind:
        case "sendgrid":
            contacts = [{"email": address, "custom_fields": {"e1_T": value}} for address in addresses]
            return ask(platform, "PUT", "/v3/marketing/contacts", {"contacts": contacts})
        case "mailchimp":
            members = [{"email_address": address, "merge_fields": {"R1ID": value}} for address in addresses]
            for address in addresses:
                if platform.person(address) is None and platform.trouble([address]) is None:
                    platform.introduce({"email": address})
            return ask(platform, "POST", "/3.0/lists/demo", {"members": members, "update_existing": True})
        case "hubspot":
            inputs = [
                {"id": address, "idProperty": "email", "objectWriteTraceId": name, "properties": {"rec_1_id": value}}
                for name, address in zip(names, addresses, strict=True)
            ]
            return ask(platform, "POST", "/crm/v3/objects/contacts/batch/upsert", {"inputs": inputs})
        case "klaviyo":
            return ask(platform, "POST", "/api/profile-bulk-import-jobs", klaviyo_job([
                {"type": "profile", "attributes": {"email": address, "properties": {"rec_1_id": value}}} for address in addresses
            ]))
        case "braze":
            return ask(platform, "POST", "/users/track", {"attributes": [{"external_id": a, "rec_1_id": value} for a in addresses]})
        case "customerio":
            return ask(platform, "POST", "/api/v2/batch", {"batch": [person(address, rec_1_id=value) for address in addresses]})
        case _:
            users = [{"userId": a, "preferUserId": True, "dataFields": {"rec_1_id": value}} for a in addresses]
            return ask(platform, "POST", "/api/users/bulkUpdate", {"users": users})


def klaviyo_job(profiles: Any) -> dict[str, Any]:
    return {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": profiles}}}}


def person(id_: str, **attributes: Any) -> dict[str, Any]:
    return {"type": "person", "action": "identify", "identifiers": {"id": id_}, "attributes": attributes}


def pass_seconds(platform: Platform, seconds: float) -> None:
    platform._clock.now += seconds  # type: ignore[attr-defined]  # the Clock above


def held(platform: Platform, name: str) -> Any:
    pass_seconds(platform, 1)
    fields = platform.fields_of(f"{name}@example.com")
    return fields.get("rec_1_id", fields.get("R1ID"))


@pytest.mark.parametrize("kind", PLATFORMS)
def test_what_is_written_is_kept_and_what_is_left_out_stays(kind: str) -> None:
    platform = a_platform(kind)
    platform.introduce({"userId" if kind == "iterable" else "email": "ann@example.com"}, {"first_name": "Ann"})
    assert tell(platform, "ann", "bob").status in (200, 201, 202)
    assert (held(platform, "ann"), held(platform, "bob")) == ("mug", "mug")
    assert tell(platform, "ann", value="cup").status in (200, 201, 202)
    assert (held(platform, "ann"), held(platform, "bob")) == ("cup", "mug")
    found = platform.person("ann@example.com")
    assert found is not None
    assert found.fields["first_name"] == "Ann"
    assert [w.fields.get("rec_1_id", w.fields.get("R1ID")) for w in found.writes] == [None, "mug", "cup"]
    assert not platform.consent_writes


@pytest.mark.parametrize("kind", PLATFORMS)
@pytest.mark.parametrize("header", ["", "Bearer wrong", _basic("any", "wrong"), "Basic ?", "Klaviyo-API-Key wrong"])
def test_a_wrong_key_is_refused_and_nothing_is_written(kind: str, header: str) -> None:
    platform = a_platform(kind)
    KEY = {"authorization": header, "api-key": header}
    answer = ask(platform, "POST", "/users/track", {"attributes": [{"external_id": "ann"}]}, headers=KEY)
    assert answer.status == 401
    assert not platform.people


@pytest.mark.parametrize("kind", PLATFORMS)
def test_an_expired_key_is_refused_until_it_is_renewed(kind: str) -> None:
    platform = a_platform(kind)
    platform.faults.is_key_expired = True
    assert tell(platform, "ann").status == 401
    platform.faults.is_key_expired = False
    assert tell(platform, "ann").status < 300


WRONG: dict[str, tuple[str, str, list[Any]]] = {
    "sendgrid": ("PUT", "/v3/marketing/contacts", [
        {}, {"contacts": []}, {"contacts": [{"first_name": "Ann"}]}, {"contacts": [{"email": "a@b.co", "custom_fields": {"e9_T": "x"}}]},
        {"contacts": [{"email": "a@b.co", "custom_fields": {"e1_T": ["x"]}}]},
        {"contacts": [{"email": "a@b.co", "custom_fields": {"e1_T": True}}]},
        {"contacts": [{"email": f"{i}@b.co"} for i in range(30_001)]},
    ]),
    "mailchimp": ("PUT", f"/3.0/lists/demo/members/{hash_of('a@b.co')}", [
        {}, {"email_address": "a@b.co"}, {"email_address": "other@b.co", "status_if_new": "transactional"},
        {"email_address": "a@b.co", "status_if_new": "transactional", "merge_fields": ["x"]},
        {"email_address": "a@b.co", "status_if_new": "transactional", "merge_fields": {"COUNT": "many"}},
    ]),
    "hubspot": ("POST", "/crm/v3/objects/contacts/batch/upsert", [
        {}, {"inputs": []}, {"inputs": [{"id": "a@b.co", "properties": {}}]},
        {"inputs": [{"id": "a@b.co", "idProperty": "email", "properties": {"rec_1_id": 1}}]},
        {"inputs": [{"id": "a@b.co", "idProperty": "email", "properties": {"unknown": "x"}}]},
        {"inputs": [{"id": "a@b.co", "idProperty": "email", "properties": {"rec_1_id": "x" * 65_537}}]},
        {"inputs": [{"id": f"{i}@b.co", "idProperty": "email", "properties": {}} for i in range(101)]},
    ]),
    "klaviyo": ("POST", "/api/profile-bulk-import-jobs", [
        {}, klaviyo_job([]), klaviyo_job([{"type": "profile", "attributes": {}}]), klaviyo_job([{"attributes": {"email": "a@b.co"}}]),
        klaviyo_job([{"type": "profile", "attributes": {"email": "a@b.co", "properties": {"x": "x" * 100_001}}}]),
        klaviyo_job([{"type": "profile", "attributes": {"email": f"{i}@b.co"}} for i in range(10_001)]),
    ]),
    "braze": ("POST", "/users/track", [
        {"users": []}, {"attributes": {}}, {"attributes": [{"external_id": str(i)} for i in range(76)]},
        {"attributes": [{"external_id": str(i)} for i in range(75)], "events": [{"name": "x"}]},
    ]),
    "customerio": ("POST", "/api/v2/batch", [{}, {"batch": []}, {"batch": ["x"]}]),
    "iterable": ("POST", "/api/users/bulkUpdate", [
        {}, {"users": []}, {"users": [{"dataFields": {}}]}, {"users": [{"userId": str(i)} for i in range(1_001)]},
    ]),
}


@pytest.mark.parametrize(("kind", "document"), [(kind, one) for kind, (_, _, all_) in WRONG.items() for one in all_])
def test_a_wrong_request_is_refused_as_a_whole(kind: str, document: Any) -> None:
    platform = a_platform(kind)
    if isinstance(platform, Mailchimp):
        platform.create_field("COUNT", type_="number")
    method, path, _ = WRONG[kind]
    assert ask(platform, method, path, document).status in (400, 413)
    pass_seconds(platform, 1)
    assert not platform.people


@pytest.mark.parametrize("kind", PLATFORMS)
def test_noise_is_refused(kind: str) -> None:
    platform = a_platform(kind)
    method, path, _ = WRONG[kind]
    for body in (b"", b"\x00" * 1000, b"[]", b"null", b'{"', b"x" * 1_000_000):
        pass_seconds(platform, 1)
        assert ask(platform, method, path, body).status in (400, 413)
    assert ask(platform, method, path, b"{}", headers={"content-type": "text/plain"}).status == 415
    assert ask(platform, "GET", "/nowhere").status == 404


@pytest.mark.parametrize("kind", PLATFORMS)
def test_a_body_above_the_limit_is_refused(kind: str) -> None:
    platform = a_platform(kind)
    if platform.max_body_bytes < 8_000_000:
        assert tell(platform, "ann", value="x" * platform.max_body_bytes).status == 413


@pytest.mark.parametrize("kind", PLATFORMS)
def test_any_json_in_any_place_is_answered(kind: str) -> None:
    """Whatever stands where something else was expected: an answer, no error of ours."""
    chance = random.Random(7)
    method, path, documents = WRONG[kind]
    platform = a_platform(kind)
    samples = [one for one in documents if len(orjson.dumps(one)) < 10_000]
    for _ in range(300):
        document = _garbled(chance.choice(samples), chance)
        assert 200 <= ask(platform, method, path, document).status < 500
    pass_seconds(platform, 1)
    assert platform.people is not None


def _garbled(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.15:
        return chance.choice([None, 1, 2.5, True, "", "x", [], {}, [None], {"x": None}, ["a@b.co"], {"email": {}}])
    if isinstance(value, dict):
        return {name: _garbled(v, chance) for name, v in value.items()}
    return [_garbled(v, chance) for v in value] if isinstance(value, list) else value


PARTIAL: dict[str, tuple[int, Callable[[Any], Any], Any]] = {
    "mailchimp": (200, lambda d: [e["email_address"] for e in d["errors"]], ["bad@example.com"]),
    "hubspot": (207, lambda d: d["errors"][0]["context"]["objectWriteTraceId"], ["bad"]),
    "braze": (201, lambda d: [(e["input_array"], e["index"]) for e in d["errors"]], [("attributes", 1)]),
    "customerio": (207, lambda d: [e["batch_index"] for e in d["errors"]], [1]),
    "iterable": (200, lambda d: d["failedUpdates"], {"invalidUserIds": ["bad@example.com"]}),
}


@pytest.mark.parametrize("kind", PARTIAL)
def test_one_who_is_invalid_is_named_and_the_others_are_written(kind: str) -> None:
    platform = a_platform(kind)
    platform.faults.people["bad@example.com"] = Trouble.INVALID
    answer = tell(platform, "ann", "bad", "eve")
    status, named, expected = PARTIAL[kind]
    assert (answer.status, named(answer.document)) == (status, expected)
    assert (held(platform, "ann"), held(platform, "bad"), held(platform, "eve")) == ("mug", None, "mug")


def test_klaviyo_refuses_the_whole_job_for_one_who_is_malformed_and_points_at_them() -> None:
    platform = a_platform("klaviyo")
    platform.faults.people["bad@example.com"] = Trouble.INVALID
    answer = tell(platform, "ann", "bad")
    assert answer.status == 400
    assert answer.document["errors"][0]["source"]["pointer"].startswith("/data/attributes/profiles/data/1/")
    assert held(platform, "ann") is None


def test_klaviyo_says_in_the_jobs_errors_whom_it_could_not_import() -> None:
    platform = a_platform("klaviyo")
    platform.faults.people["bad@example.com"] = Trouble.CONFLICT
    job = tell(platform, "ann", "bad").document["data"]["id"]
    path = f"/api/profile-bulk-import-jobs/{job}"
    assert ask(platform, "GET", path).document["data"]["attributes"]["status"] == "queued"
    pass_seconds(platform, 1)
    counts = ask(platform, "GET", path).document["data"]["attributes"]
    assert counts == {"status": "complete", "total_count": 2, "completed_count": 1, "failed_count": 1}
    [error] = ask(platform, "GET", f"{path}/import-errors").document["data"]
    assert (error["attributes"]["code"], error["attributes"]["original_payload"]["email"]) == ("duplicate_profile", "bad@example.com")


def test_klaviyo_wants_a_revision_and_clears_what_is_null() -> None:
    platform = a_platform("klaviyo")
    assert ask(platform, "POST", "/api/profile-import", {"data": {}}, headers={"revision": ""}).status == 400
    tell(platform, "ann")
    assert held(platform, "ann") == "mug"
    tell(platform, "ann", value=None)
    assert held(platform, "ann") is None


def test_sendgrid_says_later_that_a_contact_lacks_one_of_its_identifiers() -> None:
    platform = a_platform("sendgrid")
    platform.introduce({"email": "ann@example.com", "phone_number_id": "+43"})
    job = tell(platform, "ann", "bob").document["job_id"]
    path = f"/v3/marketing/contacts/imports/{job}"
    assert ask(platform, "GET", path).document["status"] == "pending"
    pass_seconds(platform, 1)
    document = ask(platform, "GET", path).document
    assert document["status"] == "errored"
    assert (document["results"]["errored_count"], document["results"]["created_count"]) == (1, 1)
    errors = ask(platform, "GET", f"{path}/errors", query={"signature": "of-the-vendor"}, headers={"authorization": ""})
    assert b"ann@example.com,,all existing identifiers must be present: phone_number_id" in errors.document


def test_sendgrid_makes_fields_and_calls_them_by_id() -> None:
    platform = a_platform("sendgrid")
    path = "/v3/marketing/field_definitions"
    assert ask(platform, "POST", path, {"name": "rec_price", "field_type": "Number"}).document["id"] == "e2_N"
    assert [f["id"] for f in ask(platform, "GET", path).document["custom_fields"]] == ["e1_T", "e2_N"]
    for wrong in ({"name": "REC_PRICE", "field_type": "Text"}, {"name": "1x", "field_type": "Text"}, {"name": "x", "field_type": "List"}):
        assert ask(platform, "POST", path, wrong).status == 400


def test_mailchimp_clips_at_255_bytes_also_in_the_middle_of_a_character_and_drops_what_has_no_field() -> None:
    platform = a_platform("mailchimp")
    path = f"/3.0/lists/demo/members/{hash_of('Ann@example.com')}"
    document = {"email_address": "Ann@example.com", "status_if_new": "transactional"}
    answer = ask(platform, "PUT", path, document | {"merge_fields": {"R1ID": "é" * 200, "OTHER": "x"}})
    assert answer.document["merge_fields"] == {"R1ID": "é" * 127 + "\ufffd"}


@pytest.mark.parametrize(
    ("trouble", "title"),
    [(Trouble.SUPPRESSED, "Member In Compliance State"), (Trouble.FORGOTTEN, "Forgotten Email Not Subscribed"),
     (Trouble.INVALID, "Invalid Resource")],
)
def test_mailchimp_says_in_the_title_why_it_does_not_take_somebody(trouble: Trouble, title: str) -> None:
    platform = a_platform("mailchimp")
    platform.faults.people["a@b.co"] = trouble
    path = f"/3.0/lists/demo/members/{hash_of('a@b.co')}"
    answer = ask(platform, "PUT", path, {"email_address": "a@b.co", "status_if_new": "transactional"})
    assert (answer.status, answer.document["title"]) == (400, title)


def test_mailchimp_wants_required_fields_unless_told_to_skip_the_validation() -> None:
    platform = a_platform("mailchimp")
    assert isinstance(platform, Mailchimp)
    platform.required.add("FNAME")
    path, document = f"/3.0/lists/demo/members/{hash_of('a@b.co')}", {"email_address": "a@b.co", "status_if_new": "transactional"}
    assert ask(platform, "PUT", path, document).status == 400
    assert ask(platform, "PUT", path, document, query={"skip_merge_validation": "true"}).status == 200


def test_a_change_of_a_subscription_is_noticed() -> None:
    for kind, tell_it in {
        "mailchimp": lambda p: ask(p, "PUT", f"/3.0/lists/demo/members/{hash_of('a@b.co')}",
                                   {"email_address": "a@b.co", "status_if_new": "subscribed"}),
        "braze": lambda p: ask(p, "POST", "/users/track", {"attributes": [{"external_id": "a", "email_subscribe": "subscribed"}]}),
        "iterable": lambda p: ask(p, "POST", "/api/users/bulkUpdate", {"users": [{"email": "a@b.co", "unsubscribedChannelIds": []}]}),
        "customerio": lambda p: ask(p, "POST", "/api/v2/batch", {"batch": [person("a", unsubscribed=False)]}),
    }.items():
        platform = a_platform(kind)
        tell_it(platform)
        assert len(platform.consent_writes) == 1, kind


@pytest.mark.parametrize("kind", ["mailchimp", "hubspot"])
def test_one_person_twice_in_a_batch_is_refused(kind: str) -> None:
    platform = a_platform(kind)
    answer = tell(platform, "ann", "ANN")
    assert answer.status == 400
    assert "uplicate" in str(answer.document)
    assert held(platform, "ann") is None


def test_hubspot_is_locked_migrates_and_says_nothing_of_those_it_drops() -> None:
    platform = a_platform("hubspot")
    platform.faults.locked, platform.faults.migrating_seconds = 1, 86_400
    assert tell(platform, "ann").status == 423
    answer = tell(platform, "ann")
    assert (answer.status, answer.headers) == (477, {"Retry-After": "86400"})
    platform.faults.migrating_seconds = None
    platform.faults.people["ann@example.com"] = Trouble.SILENT
    answer = tell(platform, "ann")
    assert (answer.status, answer.document["results"], "errors" in answer.document) == (200, [], False)


def test_hubspot_makes_properties_in_groups_that_exist() -> None:
    platform = a_platform("hubspot")
    new = {"name": "rec_2_id", "label": "x", "type": "string", "fieldType": "text", "groupName": "tidings"}
    assert ask(platform, "POST", "/crm/v3/properties/contacts", new).status == 400
    assert ask(platform, "POST", "/crm/v3/properties/contacts/groups", {"name": "tidings", "label": "Tidings"}).status == 201
    assert ask(platform, "POST", "/crm/v3/properties/contacts", new).status == 201
    assert ask(platform, "POST", "/crm/v3/properties/contacts", new).status == 409


def test_braze_drops_what_is_too_large_or_beside_a_nested_null_and_answers_that_it_took_it() -> None:
    platform = a_platform("braze")
    assert tell(platform, "ann", value=[{"id": "x" * 200}] * 600).status == 201
    assert held(platform, "ann") is None
    nested = [{"external_id": "ann@example.com", "rec_1_id": [{"id": "mug"}]}, {"external_id": "bob", "recs": [{"id": None}]}]
    answer = ask(platform, "POST", "/users/track", {"attributes": nested})
    assert (answer.status, answer.document) == (201, {"message": "success", "attributes_processed": 2})
    assert held(platform, "ann") is None


def test_braze_queues_in_maintenance_and_applies_in_order_afterwards() -> None:
    platform = a_platform("braze")
    platform.faults.is_in_maintenance = True
    assert tell(platform, "ann", value="mug").status == 202
    assert tell(platform, "ann", value="cup").status == 202
    assert held(platform, "ann") is None
    platform.faults.is_in_maintenance = False
    assert held(platform, "ann") == "cup"


def test_customerio_keeps_the_later_of_two_writes_by_their_timestamps() -> None:
    platform = a_platform("customerio")
    for at, value in ((20, "new"), (10, "old")):
        batch = [person("ann@example.com", rec_1_id=value) | {"_timestamp": at}]
        assert ask(platform, "POST", "/api/v2/batch", {"batch": batch}).status == 200
    assert held(platform, "ann") == "new"


def test_customerio_refuses_an_attribute_above_a_thousand_bytes_and_an_item_above_32_kilobytes() -> None:
    platform = a_platform("customerio")
    long, large, many = {"recs": "x" * 1_001}, {f"a{i}": "x" * 900 for i in range(40)}, {f"a{i}": 1 for i in range(301)}
    batch = [person("a", **long), person("b", **large), person("c", **many)]
    assert [e["batch_index"] for e in ask(platform, "POST", "/api/v2/batch", {"batch": batch}).document["errors"]] == [0, 1, 2]


def test_iterable_refuses_another_type_than_a_field_had_first() -> None:
    platform = a_platform("iterable")
    tell(platform, "ann", value="mug")
    answer = tell(platform, "ann", value=7)
    assert answer.document["failedUpdates"] == {"invalidDataUserIds": ["ann@example.com"]}


def test_iterable_leaves_out_fields_its_project_does_not_know_and_says_so() -> None:
    platform = a_platform("iterable")
    platform.faults.drops_unknown_fields = True
    assert tell(platform, "ann").document["filteredOutFields"] == ["rec_1_id"]
    assert held(platform, "ann") is None


THROTTLED: dict[str, tuple[str, ...]] = {
    "sendgrid": ("X-RateLimit-Remaining", "X-RateLimit-Reset"), "mailchimp": (), "hubspot": (), "klaviyo": ("Retry-After",),
    "braze": ("X-Ratelimit-Retry-After",), "customerio": (), "iterable": (),
}


@pytest.mark.parametrize("kind", PLATFORMS)
def test_what_is_above_a_limit_is_refused_with_the_vendors_headers_and_not_written(kind: str) -> None:
    platform = a_platform(kind)
    platform.hidden = FixedWindow(1, 2.0)
    assert tell(platform, "ann").status < 300
    answer = tell(platform, "bob")
    assert (answer.status, tuple(answer.headers)) == (429, THROTTLED[kind])
    assert held(platform, "bob") is None
    pass_seconds(platform, 2)
    assert tell(platform, "bob").status < 300
    assert platform.counts["throttled"] == 1


@pytest.mark.parametrize(
    ("kind", "requests"), [("sendgrid", 600), ("hubspot", 100), ("klaviyo", 10), ("braze", 3_000), ("customerio", 3_000), ("iterable", 5)]
)
def test_each_platform_has_the_limit_that_its_vendor_writes_of(kind: str, requests: int) -> None:
    platform = a_platform(kind)
    method, path, _ = WRONG[kind]
    statuses = [ask(platform, method, path, {}).status for _ in range(requests + 1)]
    assert statuses[-1] == 429
    assert 429 not in statuses[:-1]


def test_mailchimp_refuses_the_eleventh_connection() -> None:
    platform = a_platform("mailchimp")
    platform.in_flight = 10
    assert tell(platform, "ann").status == 200
    platform.in_flight = 11
    assert tell(platform, "ann").status == 429


@pytest.mark.parametrize("kind", PLATFORMS)
def test_a_reset_comes_after_the_write_or_before_it(kind: str) -> None:
    platform = a_platform(kind)
    platform.faults.resets_before_write, platform.faults.resets_after_write = 1, 1
    assert tell(platform, "ann").is_reset
    assert held(platform, "ann") is None
    assert tell(platform, "ann").is_reset
    assert held(platform, "ann") == "mug"
    assert not tell(platform, "ann").is_reset


@pytest.mark.parametrize("kind", PLATFORMS)
def test_what_the_contract_forbids_is_refused_and_remembered(kind: str) -> None:
    platform = a_platform(kind)
    platform.check = lambda method, path, headers, body: f"{method} {path.partition('?')[0]}: forbidden"
    assert tell(platform, "ann").status == 400
    assert len(platform.violations) == 1
    assert held(platform, "ann") is None


@pytest.mark.parametrize("kind", ["sendgrid", "klaviyo"])
def test_a_job_that_fails_writes_nobody_and_says_so(kind: str) -> None:
    platform = a_platform(kind)
    platform.faults.failing_jobs = 1
    document = tell(platform, "ann").document
    assert held(platform, "ann") is None
    match kind:
        case "sendgrid":
            assert ask(platform, "GET", f"/v3/marketing/contacts/imports/{document['job_id']}").document["status"] == "failed"
        case _:
            path = f"/api/profile-bulk-import-jobs/{document['data']['id']}"
            assert ask(platform, "GET", path).document["data"]["attributes"]["status"] == "cancelled"


@pytest.mark.parametrize("kind", PLATFORMS)
def test_people_writes_and_jobs_are_bounded(kind: str) -> None:
    platform = a_platform(kind)
    for number in range(MAX_PEOPLE + 1):
        platform.introduce({"email": f"{number}@example.com"})
    assert len(platform.people) == MAX_PEOPLE
    assert platform.person("0@example.com") is None
    for _ in range(MAX_WRITES + 1):
        last = platform.introduce({"email": f"{MAX_PEOPLE}@example.com"})
    assert len(last.writes) == MAX_WRITES
    first = platform.job(1, "queued", lambda job: None)
    for _ in range(MAX_JOBS):
        platform.job(1, "queued", lambda job: None)
    assert platform.job_of(first.id) is None


def test_a_fixed_window_counts_anew_at_full_multiples_and_a_rolling_one_looks_back() -> None:
    fixed, rolling = FixedWindow(2, 10.0), RollingWindow(2, 10.0)
    for at in (108.0, 109.0):
        for limiter in (fixed, rolling):
            assert limiter.wait_seconds(at) == 0.0
            limiter.take(at)
    assert (fixed.wait_seconds(109.5), rolling.wait_seconds(109.5)) == (0.5, 8.5)
    assert (fixed.wait_seconds(110.0), rolling.wait_seconds(110.0)) == (0.0, 8.0)
    assert (AtOnce(2, lambda: 2).wait_seconds(0), AtOnce(2, lambda: 3).wait_seconds(0)) == (0.0, 1.0)
