"""What is the webhook's own: its ids, its body, how it reads an answer."""

from __future__ import annotations

import orjson
import pytest

from app.destinations import destination_of
from app.destinations.outcomes import CONFIRMED, Down, DownCause, PerPerson, Retry, Throttled, Unavailable
from app.destinations.requests import Rendered, Response
from app.destinations.webhook import MAX_BODY_BYTES, Reading, message_id
from app.settings import load_settings
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, enormous

WEBHOOK = EXAMPLES["webhook"]


def _body(rendered: Rendered) -> bytes:
    part = WEBHOOK.encode(rendered)
    return WEBHOOK.request([part]).body  # type: ignore[list-item]  # a webhook can say everything of anyone


def _read(status: int, **headers: str) -> Reading:
    part = WEBHOOK.encode(ann())
    return WEBHOOK.read([part], Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", 0))  # type: ignore[list-item]


def test_what_each_status_means() -> None:
    assert _read(204) == CONFIRMED
    assert _read(410) == Down(DownCause.GONE, "410 Gone: the target wants no more requests")
    assert _read(503, retry_after="30") == Throttled("503", 30_000)
    assert _read(429, retry_after="30") == Throttled("429", 30_000)
    assert _read(500, retry_after="30") == Unavailable("500", 30_000)
    assert _read(503) == Unavailable("503")
    assert _read(404) == PerPerson((Retry("404"),))


def test_ids_differ_by_target_user_and_version_and_hold_no_dot() -> None:
    ids = {message_id(*parts) for parts in (("a", "b", 1), ("a", "b", 2), ("a", "c", 1), ("d", "b", 1), ("ab", "", 1), ("", "ab", 1))}
    assert len(ids) == 6
    assert all(one.startswith("msg_") and one.isascii() and "." not in one for one in ids)
    assert message_id("a", "b", 1) == message_id("a", "b", 1)


def test_a_cut_body_says_what_it_leaves_out() -> None:
    body = orjson.loads(_body(enormous()))
    data = body["data"]
    kept = len(data["recommendations"])
    assert 0 < kept < 50
    assert data["omitted"]["recommendations"] == 50 - kept
    assert [r["product_id"][:3] for r in data["recommendations"]] == [f"{i:03d}" for i in range(kept)], "the best are kept"


def test_recommendations_go_before_the_cart_and_the_cart_before_attributes() -> None:
    person = ann()
    for i in range(100):
        person.profile.attributes.add(name=f"a{i:03d}", text="x" * 400)
    data = orjson.loads(_body(person))["data"]
    assert len(data["recommendations"]) == 4
    assert len(data["profile"]["cart"]) == 2
    assert data["omitted"] == {"attributes": 104 - len(data["profile"]["attributes"])}
    assert len(_body(person)) > MAX_BODY_BYTES - 500, "the room is used"


def test_settings_make_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    target = {"name": "inbox", "url": "https://shop.example/hook", "secret": "env:HOOK_SECRET"}
    settings = load_settings(overrides={"targets": [target]})
    assert destination_of(settings.targets[0]) == WEBHOOK
