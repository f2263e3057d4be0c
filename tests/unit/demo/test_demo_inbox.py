"""The inbox believes only what is signed, and keeps the latest list of each user within bounds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from standardwebhooks import Webhook

from app.web.demo.inbox import BadSignature, Inbox, Kept, Malformed, Outdated

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 32 bytes.").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret than that, by far").decode()


def update(user_id: str = "ada", version: int = 1, products: Sequence[str] = ()) -> bytes:
    listed = [{"product_id": product_id} for product_id in products]
    return orjson.dumps({"type": "recommendations.updated", "data": {"user_id": user_id, "version": version, "recommendations": listed}})


def signed(body: bytes, secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body.decode(errors="replace"))
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}


def test_a_signed_list_is_kept_and_read_back() -> None:
    inbox = Inbox(SECRET, now_ms=lambda: 1234)
    outcome = inbox.receive(signed(update()), update())
    assert outcome == Kept("ada", 1, "msg_1", 1234, update())
    assert inbox.last_body["ada"]["data"]["version"] == 1
    assert inbox.versions == {"ada": 1}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(dict, id="no headers"),
        pytest.param(lambda: signed(update(), OTHER_SECRET), id="another secret"),
        pytest.param(lambda: signed(update(version=2)), id="another body"),
        pytest.param(lambda: signed(update(), at=datetime.now(UTC) - timedelta(minutes=6)), id="too old"),
        pytest.param(lambda: signed(update(), at=datetime.now(UTC) + timedelta(minutes=6)), id="too new"),
        pytest.param(lambda: signed(update()) | {"Webhook-Signature": "v1,not base64"}, id="not base64"),
        pytest.param(lambda: signed(update()) | {"Webhook-Signature": "no comma"}, id="no comma"),
        pytest.param(lambda: signed(update()) | {"Webhook-Timestamp": "soon"}, id="no time"),
    ],
)
def test_what_is_not_signed_for_it_is_refused_and_counted(headers: Callable[[], dict[str, str]]) -> None:
    inbox = Inbox(SECRET)
    assert isinstance(inbox.receive(headers(), update()), BadSignature)
    assert inbox.bad_signatures == 1
    assert not inbox.last_body


def test_noise_is_refused() -> None:
    inbox = Inbox(SECRET)
    assert isinstance(inbox.receive(signed(update()), b"\xff\xfe\x00" * 1000), BadSignature)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"not json",
        b'{"type":"other","data":{"user_id":"ada","version":1}}',
        b'{"type":"recommendations.updated","data":{"user_id":7,"version":1}}',
        b'{"type":"recommendations.updated","data":{"user_id":"ada","version":true}}',
    ],
)
def test_a_signed_body_of_another_form_is_malformed(body: bytes) -> None:
    inbox = Inbox(SECRET)
    assert isinstance(inbox.receive(signed(body), body), Malformed)
    assert inbox.stats()["malformed"] == 1


def test_a_lower_version_is_a_regression_and_does_not_replace() -> None:
    inbox = Inbox(SECRET)
    for version in (3, 2):
        outcome = inbox.receive(signed(update(version=version)), update(version=version))
    assert outcome == Outdated("ada", 2, held_version=3)
    assert list(inbox.regressions) == [outcome]
    assert inbox.versions == {"ada": 3}


def test_a_repeat_of_the_same_version_is_no_regression() -> None:
    inbox = Inbox(SECRET)
    for _ in range(2):
        inbox.receive(signed(update()), update())
    assert (inbox.stats()["repeated"], inbox.stats()["regressions"]) == (1, 0)


def test_a_repeat_with_other_products_is_counted() -> None:
    inbox = Inbox(SECRET)
    for products, altered in ((["a", "b"], 0), (["a", "b"], 0), (["b", "a"], 1), ([], 2)):
        inbox.receive(signed(update(products=products)), update(products=products))
        assert inbox.stats()["altered"] == altered
    assert (inbox.stats()["repeated"], inbox.stats()["renamed"]) == (3, 0)


@pytest.mark.parametrize("listed", [None, 7, [7], [{}], "text"])
def test_whatever_is_signed_may_be_repeated(listed: object) -> None:
    inbox = Inbox(SECRET)
    body = orjson.dumps({"type": "recommendations.updated", "data": {"user_id": "ada", "version": 1, "recommendations": listed}})
    for _ in range(2):
        assert isinstance(inbox.receive(signed(body), body), Kept)
    assert (inbox.stats()["repeated"], inbox.stats()["altered"]) == (1, 0)


def test_the_user_silent_for_longest_is_forgotten_at_the_bound() -> None:
    inbox = Inbox(SECRET, max_users=2)
    for user_id in ("ada", "bo", "ada", "cy"):
        inbox.receive(signed(update(user_id)), update(user_id))
    assert set(inbox.last_body) == {"ada", "cy"}


def test_all_last_bodies_are_one_json_object_by_user() -> None:
    inbox = Inbox(SECRET)
    for user_id in ('a"b', "bo"):
        inbox.receive(signed(update(user_id)), update(user_id))
    assert orjson.loads(inbox.bodies_json()) == {user_id: orjson.loads(update(user_id)) for user_id in ('a"b', "bo")}


def test_the_page_is_told_of_kept_lists_only() -> None:
    told: list[Kept] = []
    inbox = Inbox(SECRET, on_kept=told.append)
    inbox.receive({}, update())
    inbox.receive(signed(update()), update())
    assert [kept.version for kept in told] == [1]
