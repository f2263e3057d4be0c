"""What Mailchimp's answers mean, and that nothing sent there can touch a subscription."""

from __future__ import annotations

import base64
from hashlib import md5
from pathlib import Path

import orjson
import pytest

from app.destinations.mailchimp import LIMITS, MAX_TAG_CHARS, MAX_VALUE_BYTES, Mailchimp, MergeField
from app.destinations.outcomes import CONFIRMED, Down, DownCause, PerPerson, Rejected, Retry, Split, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Response
from app.domain.catalog import CatalogProduct
from app.settings import MailchimpSettings
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, enormous
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

mailchimp = EXAMPLES["mailchimp"]
assert isinstance(mailchimp, Mailchimp)
TEXT = {"REC1_ID": "mug", "REC1_TITLE": "Red mug"}


def problem(status: int, title: str, detail: str = "") -> Response:
    return answer(status, {"type": "https://mailchimp.com/…", "title": title, "status": status, "detail": detail, "instance": "10ce6c36"})


def answer(status: int, body: object = None, headers: dict[str, str] | None = None) -> Response:
    return Response(status, headers or {}, b"" if body is None else orjson.dumps(body), 0)


def parts_of(rendered: Rendered, destination: Mailchimp = mailchimp) -> list[Part]:
    part = destination.encode(rendered)
    assert isinstance(part, Part), part
    return [part]


def written(rendered: Rendered, destination: Mailchimp = mailchimp) -> dict[str, str]:
    fields: dict[str, str] = orjson.loads(parts_of(rendered, destination)[0].body)["merge_fields"]
    return fields


def shown(fields: dict[str, str]) -> Response:
    return answer(200, {"id": "257c", "email_address": "ann@example.com", "merge_fields": fields})


# What is sent -------------------------------------------------------------------------------------------------------------------


def test_a_member_is_patched_by_the_md5_of_the_address_in_lower_case_and_fields_are_all_that_is_said() -> None:
    one = ann()
    next(a for a in one.profile.attributes if a.name == "email").text = "Ann@Example.COM"
    request = mailchimp.request(parts_of(one))
    # PATCH makes no member, and without "status" it changes none's.
    assert request.method == "PATCH"
    digest = md5(b"ann@example.com").hexdigest()
    assert request.url == f"https://us6.api.mailchimp.com/3.0/lists/a1b2c3d4e5/members/{digest}?skip_merge_validation=true"
    assert orjson.loads(request.body).keys() == {"merge_fields"}
    assert request.secret_headers["authorization"] == "Basic " + base64.b64encode(b"tidings:0123456789abcdef-us6").decode()


def test_no_value_is_longer_than_a_field_and_none_ends_within_a_character() -> None:
    one = ann()
    one = Rendered(one.update, one.profile, DictCatalog([CatalogProduct("mug", title="€" * 200, url="https://shop.example/mug")]))
    fields = written(one)
    assert fields["REC1_TITLE"] == "€" * 85
    assert max(len(value.encode()) for value in fields.values()) <= MAX_VALUE_BYTES
    assert isinstance(mailchimp.encode(enormous()), Rejected)


@pytest.mark.parametrize("prefix", ["r", "rec", "ab1"])
def test_tags_are_as_long_as_a_tag_may_be_and_no_two_are_the_same(prefix: str) -> None:
    most = Mailchimp("mailchimp", "key", "list", "https://us6.api.mailchimp.com", items=9, field_prefix=prefix)
    tags = [one.name for one in most.fields()]
    assert len(set(tags)) == len(tags) == 9 * 5 + 1
    assert all(len(tag) <= MAX_TAG_CHARS and tag == tag.upper() and tag.isascii() for tag in tags)
    assert set(written(ann(), most)) == set(tags)


def test_fields_fit_into_an_audience_as_mailchimp_makes_it() -> None:
    # 30 fields, of which five are there from the beginning.
    assert len(mailchimp.fields()) <= 25


def test_one_of_ten_connections_is_left_to_others_over_the_whole_fleet() -> None:
    assert (LIMITS.concurrency, LIMITS.is_shared, LIMITS.people) == (9, True, 1)


# What comes back ----------------------------------------------------------------------------------------------------------------


def test_a_member_that_shows_our_fields_is_confirmed() -> None:
    assert mailchimp.read(parts_of(ann()), shown(written(ann()))) == CONFIRMED
    assert mailchimp.read(parts_of(ann()), shown({})) == CONFIRMED


def test_a_field_that_the_member_does_not_show_is_not_there_and_stops_the_destination() -> None:
    fields = {tag: value for tag, value in written(ann()).items() if tag != "REC1_TITLE"}
    assert mailchimp.read(parts_of(ann()), shown({"FNAME": ""} | fields)) == Down(
        DownCause.CONFIGURATION, "the audience has no merge field REC1_TITLE: tidings destinations setup mailchimp"
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'"done"', b"[1]", b'{"id":"x"}', b'{"merge_fields":"REC1_ID"}'])
def test_a_success_without_a_member_confirms_nothing(body: bytes) -> None:
    reading = mailchimp.read(parts_of(ann()), Response(200, {}, body, 0))
    assert reading == PerPerson((Retry("200 without a member"),))


@pytest.mark.parametrize(
    ("status", "title", "detail", "dead", "blocks"),
    [
        (404, "Resource Not Found", "The requested resource could not be found.", DeadReason.DEAD_REASON_UNKNOWN_PERSON, False),
        (400, "Member In Compliance State", "ann@example.com is in a compliance state due to unsubscribe, bounce, or compliance review"
         " and cannot be subscribed.", DeadReason.DEAD_REASON_SUPPRESSED, True),
        (400, "Forgotten Email Not Subscribed", "ann@example.com was permanently deleted and cannot be re-imported.",
         DeadReason.DEAD_REASON_SUPPRESSED, True),
        (400, "Invalid Resource", "ann@example.com looks fake or invalid, please enter a real email address.",
         DeadReason.DEAD_REASON_INVALID_IDENTITY, False),
        (400, "Invalid Resource", "ann@example.com has signed up to a lot of lists very recently; we're not allowing more signups for now",
         DeadReason.DEAD_REASON_REFUSED, False),
        (400, "Invalid Resource", "Your merge fields were invalid.", DeadReason.DEAD_REASON_REFUSED, False),
        (400, "", "", DeadReason.DEAD_REASON_REFUSED, False),
    ],
)  # fmt: skip
def test_a_permanent_refusal_is_no_retry(status: int, title: str, detail: str, dead: DeadReason.ValueType, blocks: bool) -> None:
    reading = mailchimp.read(parts_of(ann()), problem(status, title, detail))
    assert isinstance(reading, PerPerson)
    (outcome,) = reading.outcomes
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.blocks) == (dead, blocks)
    assert "ann@" not in outcome.detail
    assert len(outcome.detail) < 200


def test_the_problems_own_words_are_kept() -> None:
    reading = mailchimp.read(parts_of(ann()), problem(400, "Invalid Resource", "Your merge fields were invalid."))
    assert reading == PerPerson((Rejected(outbox_pb2.DEAD_REASON_REFUSED, "400 Invalid Resource: Your merge fields were invalid."),))


def test_a_wrong_key_and_a_wrong_data_center_stop_the_destination_for_different_causes() -> None:
    wrong_key = mailchimp.read(parts_of(ann()), problem(401, "API Key Invalid", "Your API key may be invalid"))
    assert isinstance(wrong_key, Down)
    assert wrong_key.cause == DownCause.AUTH
    elsewhere = mailchimp.read(parts_of(ann()), problem(403, "Wrong Datacenter", "The API key is linked to a different datacenter"))
    assert isinstance(elsewhere, Down)
    assert elsewhere.cause == DownCause.CONFIGURATION


def test_too_many_connections_ask_for_fewer_requests() -> None:
    said = "You have exceeded the limit of 10 simultaneous connections."
    assert mailchimp.read(parts_of(ann()), problem(429, "Too Many Requests", said)) == Throttled(f"429: {said}", None)


def test_other_statuses_mean_what_they_mean_everywhere() -> None:
    assert mailchimp.read(parts_of(ann()), answer(500)) == Unavailable("500")
    assert isinstance(mailchimp.read(parts_of(ann()), answer(413)), Split)


# Fields -------------------------------------------------------------------------------------------------------------------------


def test_missing_fields_are_those_without_a_tag() -> None:
    there = [{"tag": one.name} for one in mailchimp.fields()[1:]] + [{"tag": "FNAME"}]
    assert mailchimp.missing_fields(answer(200, {"merge_fields": there})) == [MergeField("REC1_ID", "rec 1 id")]
    assert mailchimp.missing_fields(answer(401)) == Down(DownCause.AUTH, "401")
    no_list = mailchimp.missing_fields(answer(404))
    assert isinstance(no_list, Down)
    assert no_list.cause == DownCause.CONFIGURATION


def test_a_field_is_made_as_text_that_no_form_shows() -> None:
    request = mailchimp.create_field(MergeField("REC1_ID", "rec 1 id"))
    assert (request.method, request.url) == ("POST", "https://us6.api.mailchimp.com/3.0/lists/a1b2c3d4e5/merge-fields")
    assert orjson.loads(request.body) == {"tag": "REC1_ID", "name": "rec 1 id", "type": "text", "public": False}


def test_settings_become_the_destination(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-us6")
    said = {"kind": "mailchimp", "name": "mc", "api_key": f"file:{tmp_path / 'key'}", "list_id": "abc", "data_center": "us6"}
    made = Mailchimp.of(MailchimpSettings(**said, max_requests_per_second=3))
    assert made.request(parts_of(ann())).url.startswith("https://us6.api.mailchimp.com/3.0/lists/abc/members/")
    assert (made.items, len(made.limits.windows)) == (4, 1)
    with pytest.raises(ValueError, match="field_prefix"):
        MailchimpSettings(**said, field_prefix="recs")
