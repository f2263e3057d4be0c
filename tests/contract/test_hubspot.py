"""What HubSpot's answers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.destinations.hubspot import LIMITS, HubSpot, Property, PropertyGroup
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, Rejected, Retry, Split, Throttled, Unavailable
from app.destinations.requests import Part, Response
from app.settings import HubSpotSettings
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, many
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

hubspot = EXAMPLES["hubspot"]
assert isinstance(hubspot, HubSpot)


def answer(status: int, body: object = None, headers: dict[str, str] | None = None) -> Response:
    return Response(status, headers or {}, b"" if body is None else orjson.dumps(body), 0)


def parts(count: int) -> list[Part]:
    """Of user-0, user-1, and so on."""
    return [part for rendered in many(count) if isinstance(part := hubspot.encode(rendered), Part)]


def result(trace: str | None) -> dict[str, Any]:
    return {"id": "51", "new": False, "properties": {}} | ({"objectWriteTraceId": trace} if trace else {})


def error(category: str, message: str, *traces: str) -> dict[str, Any]:
    return {"status": "error", "category": category, "message": message, "context": {"objectWriteTraceId": list(traces)} if traces else {}}


def batch(results: list[dict[str, Any]], errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"status": "COMPLETE", "results": results} | ({"numErrors": len(errors), "errors": errors} if errors else {})


REFUSED = Rejected(outbox_pb2.DEAD_REASON_REFUSED, "VALIDATION_ERROR: Property values were not valid")


# What is sent -------------------------------------------------------------------------------------------------------------------


def test_all_values_are_texts_and_the_list_is_there_as_json_too() -> None:
    one = orjson.loads(hubspot.request(parts(1)).body)["inputs"][0]
    assert one["idProperty"] == "email"
    assert (one["id"], one["objectWriteTraceId"]) == ("user-0@example.com", "user-0")
    assert all(isinstance(value, str) for value in one["properties"].values())
    assert [item["product_id"] for item in orjson.loads(one["properties"]["recs"])] == ["mug", "cup", "pot", "tea"]


def test_a_fifth_of_the_smallest_plan_is_left_to_others() -> None:
    assert [(window.amount, window.seconds, window.kind) for window in LIMITS.windows] == [(80, 10, "rolling"), (200_000, 86_400, "fixed")]
    assert LIMITS.people == 100


# What comes back ----------------------------------------------------------------------------------------------------------------


def test_whoever_has_a_result_is_confirmed_and_whoever_has_an_error_is_not_in_any_order() -> None:
    body = batch([result("user-2"), result("user-0")], [error("VALIDATION_ERROR", "Property values were not valid", "user-1")])
    assert hubspot.read(parts(3), answer(207, body)) == PerPerson((Confirmed(), REFUSED, Confirmed()))


def test_a_success_without_results_and_errors_wrote_nothing() -> None:
    for body in (batch([]), {}, [], None):
        reading = hubspot.read(parts(2), answer(200, body))
        assert isinstance(reading, PerPerson)
        assert all(isinstance(one, Retry) for one in reading.outcomes)


def test_whoever_has_neither_a_result_nor_an_error_is_tried_again() -> None:
    reading = hubspot.read(parts(2), answer(200, batch([result("user-1")])))
    assert isinstance(reading, PerPerson)
    assert isinstance(reading.outcomes[0], Retry)
    assert reading.outcomes[1] == Confirmed()


def test_results_without_trace_ids_confirm_only_if_they_are_as_many_as_they_should_be() -> None:
    refused = [error("VALIDATION_ERROR", "Property values were not valid", "user-1")]
    assert hubspot.read(parts(3), answer(207, batch([result(None)] * 2, refused))) == PerPerson((Confirmed(), REFUSED, Confirmed()))
    reading = hubspot.read(parts(3), answer(207, batch([result(None)], refused)))
    assert isinstance(reading, PerPerson)
    assert [type(one) for one in reading.outcomes] == [Retry, Rejected, Retry]


def test_an_error_that_names_nobody_splits_several_and_rejects_one() -> None:
    nameless = [error("VALIDATION_ERROR", "Property values were not valid")]
    assert isinstance(hubspot.read(parts(2), answer(207, batch([result("user-0")], nameless))), Split)
    assert hubspot.read(parts(1), answer(207, batch([], nameless))) == PerPerson((REFUSED,))


def test_nobody_pays_for_an_error_about_somebody_who_is_not_in_the_request() -> None:
    body = batch([result("user-0")], [error("VALIDATION_ERROR", "Property values were not valid", "someone")])
    assert hubspot.read(parts(1), answer(207, body)) == PerPerson((Confirmed(),))


@pytest.mark.parametrize(
    ("category", "message", "dead", "blocks"),
    [
        ("VALIDATION_ERROR", "Email address ann@@x is invalid", DeadReason.DEAD_REASON_INVALID_IDENTITY, False),
        ("CONFLICT", "Contact already exists. Existing ID: 51", DeadReason.DEAD_REASON_CONFLICT, False),
        ("OBJECT_NOT_FOUND", "Could not get some objects", DeadReason.DEAD_REASON_UNKNOWN_PERSON, False),
        ("VALIDATION_ERROR", "Contact was deleted under GDPR and cannot be created again", DeadReason.DEAD_REASON_SUPPRESSED, True),
        ("SOMETHING_NEW", "x" * 500, DeadReason.DEAD_REASON_REFUSED, False),
    ],
)
def test_an_errors_category_and_message_say_why(category: str, message: str, dead: DeadReason.ValueType, blocks: bool) -> None:
    reading = hubspot.read(parts(1), answer(207, batch([], [error(category, message, "user-0")])))
    assert isinstance(reading, PerPerson)
    (outcome,) = reading.outcomes
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.blocks) == (dead, blocks)
    assert "@" not in outcome.detail
    assert len(outcome.detail) < 200


def test_an_error_of_hubspots_own_is_tried_again() -> None:
    reading = hubspot.read(parts(1), answer(207, batch([], [error("INTERNAL_ERROR", "internal error", "user-0")])))
    assert reading == PerPerson((Retry("INTERNAL_ERROR: internal error"),))


@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "category": "VALIDATION_ERROR", "message": 'Property "rec_1_id" does not exist'},
        {"status": "error", "message": "Property values were not valid", "errors": [{"code": "PROPERTY_DOESNT_EXIST", "message": "no"}]},
        {"status": "error", "message": "wrong", "errors": [{"errors": [{"message": 'Property "rec_1_id" does not exist'}]}]},
    ],
)
@pytest.mark.parametrize("status", [400, 207])
def test_a_property_that_does_not_exist_stops_the_destination(body: dict[str, Any], status: int) -> None:
    reading = hubspot.read(parts(2), answer(status, body))
    assert isinstance(reading, Down)
    assert reading.cause == DownCause.CONFIGURATION
    assert reading.reason.endswith(": tidings destinations setup hubspot")


def test_advice_stands_behind_the_longest_reason_and_name() -> None:
    body = {"message": "Property " + "x" * 300 + " does not exist", "errors": [{"code": "PROPERTY_DOESNT_EXIST"}]}
    reading = HubSpot("n" * 40, "token").read(parts(1), answer(400, body))
    assert isinstance(reading, Down)
    assert reading.reason.endswith(f": tidings destinations setup {'n' * 40}")
    assert len(reading.reason) < 200


def test_a_400_is_split_unless_it_names_everybody() -> None:
    opaque = {"status": "error", "category": "VALIDATION_ERROR", "message": "Property values were not valid"}
    assert hubspot.read(parts(2), answer(400, opaque)) == Split("400: Property values were not valid")
    one_named = opaque | {"context": {"objectWriteTraceId": ["user-1"]}}
    assert hubspot.read(parts(2), answer(400, one_named)) == Split("400: Property values were not valid")
    assert hubspot.read(parts(2)[1:], answer(400, one_named)) == PerPerson((REFUSED,))


def test_a_conflict_is_split_and_rejects_as_one() -> None:
    assert hubspot.read(parts(2), answer(409)) == Split("409", outbox_pb2.DEAD_REASON_CONFLICT)


def test_a_lock_lasts_two_seconds() -> None:
    assert hubspot.read(parts(1), answer(423)) == Throttled("423", 2_000)
    assert hubspot.read(parts(1), answer(423, headers={"retry-after": "1"})) == Throttled("423", 2_000)


@pytest.mark.parametrize(("header", "after_ms"), [("86400", 86_400_000), ("60", 60_000), (None, 3_600_000)])
def test_a_move_to_another_data_center_lasts_as_long_as_it_says(header: str | None, after_ms: int) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert hubspot.read(parts(1), answer(477, {"message": "migrating"}, headers)) == Throttled("477: migrating", after_ms)


def test_what_is_used_up_for_ten_seconds_comes_again_sooner_than_what_is_used_up_for_the_day() -> None:
    rolling = {"message": "You have reached your ten_secondly_rolling limit.", "policyName": "TEN_SECONDLY_ROLLING"}
    daily = {"message": "You have reached your daily limit.", "policyName": "DAILY"}
    assert hubspot.read(parts(1), answer(429, rolling)) == Throttled("429: You have reached your ten_secondly_rolling limit.", 10_000)
    assert hubspot.read(parts(1), answer(429, daily)) == Throttled("429: You have reached your daily limit.", 3_600_000)


@pytest.mark.parametrize("status", [500, 502, 504, 521, 522, 523])
def test_failures_of_theirs_pass(status: int) -> None:
    assert hubspot.read(parts(1), answer(status)) == Unavailable(str(status))


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_wrong_or_may_not_do_this_stops_the_destination(status: int) -> None:
    assert hubspot.read(parts(1), answer(status)) == Down(DownCause.AUTH, str(status))


# Fields -------------------------------------------------------------------------------------------------------------------------


def test_the_group_comes_before_its_first_property_and_is_there_once_it_has_one() -> None:
    group, first, *rest = hubspot.fields()
    assert group == PropertyGroup("tidings")
    assert first == Property("recs", "recs (JSON)", "textarea")
    assert len(rest) == 5 * 5 + 2
    assert hubspot.missing_fields(answer(200, {"results": [{"name": "email", "groupName": "contactinformation"}]})) == [group, first, *rest]
    assert hubspot.missing_fields(answer(200, {"results": [{"name": "recs", "groupName": "tidings"}]})) == rest
    assert hubspot.missing_fields(answer(401)) == Down(DownCause.AUTH, "401")


def test_a_property_is_a_text_in_our_group() -> None:
    request = hubspot.create_field(Property("recs", "recs (JSON)", "textarea"))
    assert orjson.loads(request.body) == {
        "name": "recs", "label": "recs (JSON)", "groupName": "tidings", "type": "string", "fieldType": "textarea",
    }
    assert hubspot.create_field(PropertyGroup("tidings")).url == "https://api.hubapi.com/crm/v3/properties/contacts/groups"


def test_settings_become_the_destination(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pat-x")
    made = HubSpot.of(HubSpotSettings(kind="hubspot", name="hs", access_token=f"file:{tmp_path / 'token'}", items=1, field_prefix="pick"))
    part = made.encode(ann())
    assert isinstance(part, Part)
    assert "pick_1_id" in orjson.loads(part.body)["properties"]
    assert made.request([part]).secret_headers == {"authorization": "Bearer pat-x"}
