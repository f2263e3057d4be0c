"""What SendGrid's answers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    PerPerson,
    Rejected,
    Retry,
    Running,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.requests import Part, Response
from app.destinations.sendgrid import LIMITS, POLL_AFTER_MS, SendGrid
from app.settings import SendGridSettings
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, many
from tidings.state.v1 import outbox_pb2

NOW_MS = 1_795_341_600_000
sendgrid = EXAMPLES["sendgrid"]
assert isinstance(sendgrid, SendGrid)


def answer(status: int, body: object = None, headers: dict[str, str] | None = None) -> Response:
    return Response(status, headers or {}, b"" if body is None else orjson.dumps(body), NOW_MS)


def parts(count: int) -> list[Part]:
    return [part for rendered in many(count) if isinstance(part := sendgrid.encode(rendered), Part)]


def refused(field: str | None, message: str) -> dict[str, Any]:
    return {"field": field, "message": message}


def test_a_202_names_the_job_that_took_everybody() -> None:
    assert sendgrid.read(parts(2), answer(202, {"job_id": "3c2f"})) == PerPerson((Accepted("3c2f"),) * 2)


def test_a_202_without_a_job_confirms_nothing() -> None:
    assert sendgrid.read(parts(1), answer(202, {})) == PerPerson((Retry("202 without a job_id"),))


def test_a_field_that_the_account_does_not_have_stops_the_destination() -> None:
    body = {"errors": [refused("contacts[0].custom_fields", "invalid custom field ids supplied - e9_T")]}
    reading = sendgrid.read(parts(2), answer(400, body))
    assert reading == Down(
        DownCause.CONFIGURATION,
        "400: invalid custom field ids supplied - e9_T: see field_ids in the settings; tidings destinations setup sendgrid",
    )


def test_a_field_without_an_id_in_the_settings_is_written_by_its_name_so_that_sendgrid_refuses_it() -> None:
    part = SendGrid("sendgrid", "SG.x", {"rec_1_id": "e1_T"}).encode(ann())
    assert isinstance(part, Part)
    fields = orjson.loads(part.body)["custom_fields"]
    assert fields["e1_T"] == "mug"
    assert fields["rec_1_title"] == "Red mug"


def test_the_one_contact_that_is_refused_is_rejected_for_what_is_wrong_with_it() -> None:
    (outcome,) = outcomes(sendgrid.read(parts(1), answer(400, {"errors": [refused("contacts[0].email", "email is not valid")]})))
    assert outcome == Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "email is not valid")
    (outcome,) = outcomes(sendgrid.read(parts(1), answer(400, {"errors": [refused("contacts[0].custom_fields.e1_T", "too long")]})))
    assert outcome == Rejected(outbox_pb2.DEAD_REASON_REFUSED, "too long")


def outcomes(reading: object) -> tuple[object, ...]:
    assert isinstance(reading, PerPerson), reading
    return reading.outcomes


@pytest.mark.parametrize("field", [None, "contacts", "contacts[1].email", "contacts[9].email", "contacts[x]", "contacts[" + "9" * 5000])
def test_a_400_that_does_not_name_everybody_is_split_and_costs_nobody_an_attempt(field: str | None) -> None:
    assert sendgrid.read(parts(3), answer(400, {"errors": [refused(field, "email is not valid")]})) == Split("400: email is not valid")


def test_too_large_a_request_is_split() -> None:
    assert sendgrid.read(parts(2), answer(413)) == Split("413", outbox_pb2.DEAD_REASON_TOO_LARGE)


def test_wrong_credentials_stop_the_destination() -> None:
    body = {"errors": [{"message": "authorization required", "field": None}]}
    assert sendgrid.read(parts(1), answer(401, body)) == Down(DownCause.AUTH, "401: authorization required")


def test_a_throttled_answer_says_by_a_unix_time_when_to_come_again() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_MS // 1000 + 12)}
    assert sendgrid.read(parts(1), answer(429, headers=headers)) == Throttled("429", 12_000)


def test_the_reset_is_measured_by_the_clock_of_whoever_said_it() -> None:
    # SendGrid's clock is an hour behind ours: the same 12 seconds.
    headers = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": str(NOW_MS // 1000 - 3_588), "date": "Sun, 22 Nov 2026 09:00:00 GMT"}
    assert sendgrid.read(parts(1), answer(429, headers=headers)) == Throttled("429", 12_000)
    quota = sendgrid.quota(answer(202, headers=headers))
    assert quota is not None
    assert (quota.remaining, quota.resets_in_ms) == (3, 12_000)


@pytest.mark.parametrize(("reset", "after_ms"), [("1", None), ("", None), ("soon", None), ("9" * 5000, None), ("9" * 11, 3_600_000)])
def test_a_reset_that_has_passed_or_is_noise_says_nothing_and_a_far_one_is_cut(reset: str, after_ms: int | None) -> None:
    assert sendgrid.read(parts(1), answer(429, headers={"x-ratelimit-reset": reset})) == Throttled("429", after_ms)


def test_without_headers_there_is_no_quota() -> None:
    assert sendgrid.quota(answer(202)) is None
    assert sendgrid.quota(answer(202, headers={"x-ratelimit-remaining": "1"})) is None


# Jobs ---------------------------------------------------------------------------------------------------------------------------


def import_of(status: str, requested: int, errored: int = 0, **counts: int) -> Response:
    results = {"requested_count": requested, "errored_count": errored, "updated_count": requested - errored, "created_count": 0} | counts
    return answer(200, {"id": "j1", "status": status, "results": results})


def test_a_job_is_asked_for_by_a_name_that_cannot_leave_its_place() -> None:
    assert sendgrid.poll("3c2f").url == "https://api.sendgrid.com/v3/marketing/contacts/imports/3c2f"
    assert sendgrid.poll("a/../b?c").url.endswith("/imports/a%2F..%2Fb%3Fc")


def test_an_import_that_is_pending_is_asked_for_again() -> None:
    assert sendgrid.read_poll("j1", parts(2), answer(200, {"id": "j1", "status": "pending", "results": {"requested_count": 2}})) == (
        Running(POLL_AFTER_MS)
    )


def test_an_import_that_is_complete_confirms_everybody() -> None:
    assert sendgrid.read_poll("j1", parts(2), import_of("completed", 2)) == PerPerson((Confirmed(),) * 2)
    assert sendgrid.read_poll("j1", parts(2), answer(200, {"status": "completed"})) == PerPerson((Confirmed(),) * 2)


def test_an_import_that_refused_somebody_of_several_is_sent_again_by_halves() -> None:
    assert sendgrid.read_poll("j1", parts(3), import_of("errored", 3, 1)) == Split("the import refused 1 of 3 contacts")


@pytest.mark.parametrize("status", ["errored", "completed"])
def test_an_import_that_refused_its_one_contact_rejects_it(status: str) -> None:
    (outcome,) = outcomes(sendgrid.read_poll("j1", parts(1), import_of(status, 1, 1)))
    assert outcome == Rejected(outbox_pb2.DEAD_REASON_REFUSED, "the import refused 1 of 1 contacts")


def test_one_person_of_a_job_of_many_does_not_pay_for_the_others_after_a_take_over() -> None:
    assert sendgrid.read_poll("j1", parts(1), import_of("errored", 3, 1)) == Split("the import refused 1 of 1 contacts")


@pytest.mark.parametrize(("count", "errored"), [(1, 1), (2, 0), (2, 2)])
def test_an_import_that_failed_as_a_whole_is_tried_again_for_it_may_not_be_for_the_contacts(count: int, errored: int) -> None:
    reading = sendgrid.read_poll("j1", parts(count), import_of("failed", count, errored))
    assert reading == PerPerson((Retry("the import failed as a whole"),) * count)


def test_an_import_that_wrote_fewer_than_it_was_asked_for_confirms_nobody() -> None:
    assert isinstance(sendgrid.read_poll("j1", parts(3), import_of("completed", 3, updated_count=2)), Split)
    (outcome,) = outcomes(sendgrid.read_poll("j1", parts(1), import_of("completed", 1, updated_count=0)))
    assert outcome == Retry("the import was asked for 1 contacts, refused none, and wrote 0")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_question_that_is_refused_says_nothing_of_the_people(status: int) -> None:
    for one in outcomes(sendgrid.read_poll("j1", parts(2), answer(status))):
        assert isinstance(one, Retry)


def test_a_question_meets_the_same_limits_and_failures_as_a_request() -> None:
    assert sendgrid.read_poll("j1", parts(2), answer(401)) == Down(DownCause.AUTH, "401")
    assert sendgrid.read_poll("j1", parts(2), answer(502)) == Unavailable("502")
    headers = {"x-ratelimit-reset": str(NOW_MS // 1000 + 5)}
    assert sendgrid.read_poll("j1", parts(2), answer(429, headers=headers)) == Throttled("429", 5_000)


@pytest.mark.parametrize("body", [None, [], {"status": 7}, {"status": "paused"}, {"results": {"errored_count": "1"}}])
def test_an_answer_without_a_status_that_is_known_confirms_nothing(body: object) -> None:
    for one in outcomes(sendgrid.read_poll("j1", parts(2), answer(200, body))):
        assert isinstance(one, Retry)


# Fields -------------------------------------------------------------------------------------------------------------------------


def test_missing_fields_are_those_that_the_account_does_not_have_by_any_case() -> None:
    ours = sendgrid.fields()
    assert len(ours) == 3 * 5 + 2
    there = [{"id": f"e{i}_T", "name": one.name.upper(), "field_type": "Text"} for i, one in enumerate(ours[1:])]
    assert sendgrid.missing_fields(answer(200, {"custom_fields": there})) == [ours[0]]
    assert sendgrid.missing_fields(answer(403)) == Down(DownCause.AUTH, "403")
    assert isinstance(sendgrid.missing_fields(answer(200, None)), Down)


def test_the_hint_is_the_line_for_the_settings_file() -> None:
    there = [{"id": "e7_T", "name": "Rec_1_id"}, {"id": "e8_T", "name": "rec_1_title"}, {"id": "e9_T", "name": "shoe_size"}]
    assert sendgrid.settings_hint(answer(200, {"custom_fields": there})) == 'field_ids = { rec_1_id = "e7_T", rec_1_title = "e8_T" }'
    assert sendgrid.settings_hint(answer(500)) == ""


def test_settings_become_the_destination(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("SG.x")
    made = SendGrid.of(SendGridSettings(
        kind="sendgrid", name="sg", api_key=f"file:{tmp_path / 'key'}", base_url="https://api.eu.sendgrid.com/", items=2, max_people=10,
        field_ids={"rec_1_id": "e1_T"},
    ))
    assert made.request(parts(1)).url == "https://api.eu.sendgrid.com/v3/marketing/contacts"
    assert made.request(parts(1)).secret_headers == {"authorization": "Bearer SG.x"}
    assert (made.items, made.limits.people, made.field_ids) == (2, 10, {"rec_1_id": "e1_T"})
    assert LIMITS.people == 1_000
