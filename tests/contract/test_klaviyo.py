"""What is Klaviyo's own: profiles in import jobs, how a job ends, and who is meant by an error."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.destinations import JobBased, destination_of
from app.destinations.klaviyo import MAX_LIST_BYTES, Klaviyo
from app.destinations.limits import Window
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    JobReading,
    PerPerson,
    Reading,
    Rejected,
    Retry,
    Running,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.requests import Part, Response
from app.settings import load_settings
from tests.contract.people import ann, enormous, many
from tidings.state.v1 import outbox_pb2

KLAVIYO = Klaviyo("klaviyo", "pk_0123456789abcdef", "2026-07-15")
BY_EMAIL = Klaviyo("klaviyo", "pk_0123456789abcdef", "2026-07-15", identify_by="email")
JOB = {"data": {"type": "profile-bulk-import-job", "id": "am9iLzE=", "attributes": {"status": "queued", "total_count": 3}}}


def _parts(count: int, klaviyo: Klaviyo = KLAVIYO) -> list[Part]:
    parts = [klaviyo.encode(person) for person in many(count)]
    return [part for part in parts if isinstance(part, Part)]


def _response(status: int, answer: Any, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps(answer), 0)


def _read(status: int, answer: Any, count: int = 3) -> Reading:
    return KLAVIYO.read(_parts(count), _response(status, answer))


def _read_poll(job: str, answer: Any, count: int = 3, status: int = 200, klaviyo: Klaviyo = KLAVIYO) -> JobReading:
    return klaviyo.read_poll(job, _parts(count, klaviyo), _response(status, answer))


def _job(status: str, failed: int = 0) -> dict[str, Any]:
    return {"data": {"type": "profile-bulk-import-job", "id": "j", "attributes": {"status": status, "failed_count": failed}}}


def _invalid(place: int, field: str = "email", code: str = "invalid") -> dict[str, Any]:
    pointer = f"/data/attributes/profiles/data/{place}/attributes/{field}"
    return {"id": "x", "status": 400, "code": code, "title": "Invalid input.", "detail": "Not valid.", "source": {"pointer": pointer}}


def _import_error(payload: dict[str, Any]) -> dict[str, Any]:
    said = {"code": "invalid", "title": "Invalid", "detail": "Bad profile", "source": {"pointer": "/data/attributes/email"}}
    return {"type": "import-error", "id": "e", "attributes": said | {"original_payload": payload}}


def test_it_is_job_based() -> None:
    assert isinstance(KLAVIYO, JobBased)


def test_a_profile_is_named_by_the_user_id_or_by_the_address_and_never_by_both() -> None:
    by_id, by_email = KLAVIYO.encode(ann()), BY_EMAIL.encode(ann())
    assert isinstance(by_id, Part)
    assert isinstance(by_email, Part)
    assert {name: value for name, value in orjson.loads(by_id.body)["attributes"].items() if name != "properties"} == {"external_id": "ann"}
    assert {name: value for name, value in orjson.loads(by_email.body)["attributes"].items() if name != "properties"} == {
        "email": "ann@example.com"
    }


def test_who_has_no_address_cannot_be_named_by_it() -> None:
    person = ann()
    del person.profile.attributes[:]
    rejected = BY_EMAIL.encode(person)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == outbox_pb2.DEAD_REASON_NO_IDENTITY


def test_nothing_in_a_profile_is_null_and_the_largest_one_keeps_to_100_kb() -> None:
    part = Klaviyo("k", "key", "2026-07-15", items=50).encode(enormous())
    assert isinstance(part, Part)
    assert b"null" not in part.body
    assert MAX_LIST_BYTES - 10_000 < len(part.body) < 100_000, "the room is used"


def test_a_202_names_the_job_that_everyone_is_in() -> None:
    assert _read(202, JOB) == PerPerson((Accepted("am9iLzE="),) * 3)


@pytest.mark.parametrize("answer", [{}, {"data": {"id": 7}}, {"data": {"id": ""}}, {"data": {"id": "x" * 201}}, []])
def test_a_202_that_names_no_job_is_no_success(answer: Any) -> None:
    assert _read(202, answer) == Unavailable("202: the answer names no job")


def test_one_profile_that_is_not_valid_is_rejected_and_the_others_come_again_at_once() -> None:
    reading = _read(400, {"errors": [_invalid(1)]})
    others = Retry("another profile in the request was refused")
    named = Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "invalid: Not valid.")
    assert reading == PerPerson((others, named, others))


def test_what_is_wrong_with_a_profile_is_its_reason() -> None:
    errors = [_invalid(0, "properties/recs"), _invalid(1, "email", "duplicate_profile"), _invalid(2, "external_id")]
    reading = _read(400, {"errors": errors})
    assert isinstance(reading, PerPerson)
    assert [outcome.reason for outcome in reading.outcomes if isinstance(outcome, Rejected)] == [
        outbox_pb2.DEAD_REASON_REFUSED, outbox_pb2.DEAD_REASON_CONFLICT, outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ]


@pytest.mark.parametrize(
    "pointer", ["/data/attributes", "/data/attributes/profiles/data/3/attributes", "/data/attributes/profiles/data/x", ""]
)
def test_a_400_that_points_at_nobody_in_the_request_is_split(pointer: str) -> None:
    error = {"code": "invalid", "detail": "bad", "source": {"pointer": pointer}}
    assert _read(400, {"errors": [error]}) == Split("400: bad")


def test_what_is_said_of_a_profile_tells_who_is_not_to_be_tried_again() -> None:
    suppressed = {"code": "invalid", "detail": "The profile is suppressed.", "source": {"pointer": "/data/attributes/email"}}
    unknown = {"code": "not_found", "detail": "No such profile.", "source": {"pointer": "/data/attributes/email"}}
    errors = [_import_error({"external_id": f"user-{i}"}) for i in (0, 1)]
    errors[0]["attributes"] |= suppressed
    errors[1]["attributes"] |= unknown
    assert _read_poll("j#errors:2", {"data": errors}) == PerPerson((
        Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, "invalid: The profile is suppressed.", blocks=True),
        Rejected(outbox_pb2.DEAD_REASON_UNKNOWN_PERSON, "not_found: No such profile."),
        Confirmed(),
    ))


def test_a_header_that_klaviyo_refuses_is_nobodys_fault() -> None:
    error = {"code": "invalid", "detail": "Revision is not supported.", "source": {"header": "revision"}}
    assert _read(400, {"errors": [error]}) == Down(DownCause.CONFIGURATION, "400: header revision: Revision is not supported.")


def test_a_profile_that_is_there_twice_is_a_conflict() -> None:
    error = {"code": "duplicate_profile", "detail": "A profile already exists.", "meta": {"duplicate_profile_id": "01G"}}
    assert _read(409, {"errors": [error]}, 1) == Split("409: A profile already exists.", outbox_pb2.DEAD_REASON_CONFLICT)


def test_what_the_other_statuses_mean() -> None:
    errors = {"errors": [{"detail": "no"}]}
    assert _read(401, errors) == Down(DownCause.AUTH, "401: no")
    assert _read(403, errors) == Down(DownCause.AUTH, "403: no")
    assert _read(413, errors) == Split("413: no", outbox_pb2.DEAD_REASON_TOO_LARGE)
    assert _read(500, errors) == Unavailable("500: no")
    assert KLAVIYO.read(_parts(3), _response(429, errors, retry_after="2")) == Throttled("429: no", 2_000)


# Jobs ------------------------------------------------------------------------------------------------------------------------


def test_a_job_is_asked_for_by_its_id_which_may_hold_a_slash() -> None:
    request = KLAVIYO.poll("am9/1=")
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://a.klaviyo.com/api/profile-bulk-import-jobs/am9%2F1%3D"
    assert request.headers["revision"] == "2026-07-15"


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_job_at_work_is_asked_again(status: str) -> None:
    assert _read_poll("j", _job(status)) == Running(5_000)


def test_a_job_without_failures_confirms_everyone() -> None:
    assert _read_poll("j", _job("complete")) == PerPerson((Confirmed(),) * 3)


def test_a_job_that_is_complete_with_fewer_people_than_it_had_confirms_nobody() -> None:
    answer = {"data": {"attributes": {"status": "complete", "failed_count": 0, "completed_count": 2, "total_count": 3}}}
    assert _read_poll("j", answer) == Split("the job is complete with 2 of 3 people, and none failed")


def test_a_cancelled_job_and_one_that_is_forgotten_did_nothing() -> None:
    assert _read_poll("j", _job("cancelled")) == PerPerson((Retry("the job is cancelled"),) * 3)
    gone = _read_poll("j", {"errors": []}, status=404)
    assert gone == PerPerson((Retry("404: Klaviyo does not know the job any more"),) * 3)


def test_a_job_with_failures_is_asked_for_its_errors() -> None:
    reading = _read_poll("j", _job("complete", failed=1))
    assert reading == Running(0, "j#errors:1")
    assert isinstance(reading, Running)
    assert KLAVIYO.poll(reading.job).url == "https://a.klaviyo.com/api/profile-bulk-import-jobs/j/import-errors?page%5Bsize%5D=100"


@pytest.mark.parametrize("payload", [{"external_id": "user-1"}, {"attributes": {"external_id": "user-1"}}])
def test_who_is_among_the_errors_is_rejected_and_all_others_confirmed(payload: dict[str, Any]) -> None:
    reading = _read_poll("j#errors:1", {"data": [_import_error(payload)], "links": {"next": None}})
    assert reading == PerPerson((Confirmed(), Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "invalid: Bad profile"), Confirmed()))


def test_an_error_names_by_the_address_who_was_named_by_it() -> None:
    reading = _read_poll("j#errors:1", {"data": [_import_error({"email": "User-2@Example.com"})]}, klaviyo=BY_EMAIL)
    assert isinstance(reading, PerPerson)
    assert [isinstance(outcome, Rejected) for outcome in reading.outcomes] == [False, False, True]


def test_an_error_of_somebody_whom_another_worker_has_confirms_all_of_ours() -> None:
    reading = _read_poll("j#errors:1", {"data": [_import_error({"external_id": "elsewhere"})]})
    assert reading == PerPerson((Confirmed(),) * 3)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [_import_error({})]},
        {"data": [_import_error({"external_id": "user-1"})], "links": {"next": "https://a.klaviyo.com/api/more"}},
        {"data": []},
        {"errors": []},
    ],
    ids=["no name", "more pages", "fewer than failed", "no data"],
)
def test_nobody_is_confirmed_while_it_is_not_known_who_failed(answer: Any) -> None:
    assert isinstance(_read_poll("j#errors:1", answer), Split)


def test_the_errors_of_one_persons_job_are_that_persons() -> None:
    reading = _read_poll("j#errors:1", {"data": [_import_error({})]}, count=1)
    assert reading == PerPerson((Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "invalid: Bad profile"),))
    assert isinstance(_read_poll("j#errors:1", {}, count=1), PerPerson)
    assert not isinstance(_read_poll("j#errors:1", {}, count=1).outcomes[0], Confirmed)  # type: ignore[union-attr]  # checked above


def test_a_question_that_is_refused_rejects_nobody() -> None:
    assert _read_poll("j", {"errors": [{"detail": "odd"}]}, status=400) == PerPerson((Retry("400: odd"),) * 3)
    assert _read_poll("j", {"errors": [{"detail": "odd"}]}, status=401) == Down(DownCause.AUTH, "401: odd")
    assert _read_poll("j", {"data": {}}) == Unavailable("200: the answer names no status of the job")


# Limits and settings ---------------------------------------------------------------------------------------------------------


def test_both_of_its_windows_are_fixed_and_its_headers_which_may_mean_either_are_not_read() -> None:
    assert KLAVIYO.limits.windows == (Window(10, 1, kind="fixed"), Window(150, 60, kind="fixed"))
    assert Klaviyo.quota(KLAVIYO, _response(202, JOB, ratelimit_remaining="0", ratelimit_reset="59")) is None


def test_settings_make_the_destination_and_narrow_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_KEY", "pk_0123456789abcdef")
    target = {"name": "klaviyo", "kind": "klaviyo", "api_key": "env:KLAVIYO_KEY"}
    settings = load_settings(overrides={"targets": [target, target | {"name": "k2", "max_people": 500, "max_requests_per_second": 0.5}]})
    whole, narrow = (destination_of(one) for one in settings.targets)
    assert whole == KLAVIYO
    assert whole.limits.people == 10_000
    assert narrow.limits.people == 500
    assert narrow.limits.windows == (*whole.limits.windows, Window(1, 2.0))
