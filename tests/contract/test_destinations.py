"""What every destination keeps to, whatever it speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.destinations import KINDS, Confirmed, Destination, Rendered, Response, Retry, TargetDisabled, Throttled, destination_of
from app.destinations.webhook import MAX_BODY_BYTES, message_id, render_body
from app.domain.catalog import CatalogProduct
from app.settings import load_settings
from tests.contract.destinations import EXAMPLES
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

_GOLDEN = Path(__file__).parent / "golden"

pytestmark = pytest.mark.parametrize("destination", EXAMPLES.values(), ids=EXAMPLES.keys())


def _ann() -> Rendered:
    update = RecommendationUpdate(
        user_id="ann", version=7, ranked_at_ms=1_700_000_000_123, caused_at_ms=1_700_000_000_100, current_to_ms=1_700_000_000_000
    )
    for product_id, score, kind, because_of, times_seen in (
        ("mug", 0.9, ReasonKind.REASON_KIND_ALSO_VIEWED, "cup", 0),
        ("cup", 0.5, ReasonKind.REASON_KIND_SEEN_NOW, "", 3),
        ("pot", 0.25, ReasonKind.REASON_KIND_SEEN_BEFORE, "", 1),
        ("tea", 0.125, ReasonKind.REASON_KIND_TRENDING, "", 0),
    ):
        recommendation = update.recommendations.add(product_id=product_id, score=score)
        recommendation.reason.kind = kind
        recommendation.reason.because_of = because_of
        recommendation.reason.times_seen = times_seen
    profile = Profile(user_id="ann", last_event_at_ms=1_700_000_000_000)
    line = profile.cart.add(product_id="cup", quantity=2, added_at_ms=1_699_999_999_000)
    line.unit_price.minor_units, line.unit_price.currency_code = 1299, "EUR"
    profile.cart.add(product_id="pot", quantity=1, added_at_ms=1_699_999_999_500)
    profile.attributes.add(name="city", text="Graz")
    profile.attributes.add(name="gone")
    profile.attributes.add(name="points", number=12.5)
    profile.attributes.add(name="vip", flag=True)
    profile.consents.add(purpose="personalised_email", state=ConsentState.CONSENT_STATE_GRANTED)
    mug = CatalogProduct(
        "mug", title="Red mug", url="https://shop.example/mug", price=1299, list_price=1499, currency="EUR", categories=("Kitchen > Mugs",)
    )
    return Rendered(update, profile, DictCatalog([mug, CatalogProduct("cup", title="Blue cup")]))


def _enormous() -> Rendered:
    """As large as a person can be, with characters that JSON writes with six."""
    update = RecommendationUpdate(user_id="\x01" * 256, version=2**63)
    for i in range(50):
        recommendation = update.recommendations.add(product_id=f"{i:03d}" + "\x02" * 125, score=0.123456789012345)
        recommendation.reason.kind = ReasonKind.REASON_KIND_ALSO_VIEWED
        recommendation.reason.because_of = "\x03" * 128
    profile = Profile(user_id="u")
    for i in range(100):
        profile.cart.add(product_id="\x04" * 128, quantity=i)
        profile.attributes.add(name=f"{i:03d}" + "\x05" * 61, text="\x06" * 1024)
    for i in range(16):
        profile.consents.add(purpose=f"{i:02d}" + "\x07" * 62)
    wordy = [
        CatalogProduct(r.product_id, title="\x08" * 512, url="https://" + "u" * 2040, image_url="https://" + "i" * 2040)
        for r in update.recommendations
    ]
    return Rendered(update, profile, DictCatalog(wordy))


def test_it_is_a_frozen_dataclass_and_keeps_its_secret_out_of_its_repr(destination: Destination) -> None:
    assert dataclasses.is_dataclass(destination)
    field = next(iter(dataclasses.fields(destination)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(destination, field.name, "other")
    assert "0123456789abcdef" not in repr(destination)
    assert "0123456789abcdef" not in repr(destination.request(_ann()))


def test_a_request_depends_on_the_persons_state_alone(destination: Destination) -> None:
    assert destination.request(_ann()) == destination.request(_ann())


def test_the_request_is_the_golden_one(destination: Destination) -> None:
    kind = next(name for name, example in EXAMPLES.items() if example is destination)
    request = destination.request(_ann())
    shown = {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": orjson.loads(request.body)}
    assert shown == orjson.loads((_GOLDEN / f"{kind}.json").read_bytes())


def test_the_largest_person_there_can_be_fits_by_whole_items(destination: Destination) -> None:
    request = destination.request(_enormous())
    assert len(request.body) < MAX_BODY_BYTES
    orjson.loads(request.body)


def test_every_status_has_an_outcome_and_only_2xx_is_a_success(destination: Destination) -> None:
    for status in range(100, 600):
        outcome = destination.read(Response(status, {}, b"", 0))
        assert isinstance(outcome, Confirmed) == (200 <= status <= 299), status
        assert isinstance(outcome, TargetDisabled) == (status == 410), status
        assert isinstance(outcome, Throttled) == (status == 429), status


@given(body=st.binary(max_size=300), status=st.integers(100, 599), header=st.text(max_size=30))
def test_any_answer_is_read_and_its_reason_is_short_and_printable(destination: Destination, body: bytes, status: int, header: str) -> None:
    match destination.read(Response(status, {"retry-after": header}, body, 0)):
        case Retry(reason, _) | Throttled(reason, _) | TargetDisabled(reason):
            assert reason.isprintable()
            assert len(reason) < 200


def test_retry_after_is_honoured_on_failures_and_makes_a_503_a_throttle(destination: Destination) -> None:
    later = {"retry-after": "30"}
    assert destination.read(Response(503, later, b"", 0)) == Throttled("503", 30_000)
    assert destination.read(Response(429, later, b"", 0)) == Throttled("429", 30_000)
    assert destination.read(Response(500, later, b"", 0)) == Retry("500", 30_000)
    assert destination.read(Response(503, {}, b"", 0)) == Retry("503", 0)


def test_the_registry_and_the_examples_name_the_same_kinds(destination: Destination) -> None:
    assert KINDS.keys() == EXAMPLES.keys()


class TestWebhook:
    """What is the webhook's own."""

    def test_ids_differ_by_target_user_and_version_and_hold_no_dot(self, destination: Destination) -> None:
        ids = {message_id(*parts) for parts in (("a", "b", 1), ("a", "b", 2), ("a", "c", 1), ("d", "b", 1), ("ab", "", 1), ("", "ab", 1))}
        assert len(ids) == 6
        assert all(one.startswith("msg_") and one.isascii() and "." not in one for one in ids)
        assert message_id("a", "b", 1) == message_id("a", "b", 1)

    def test_a_cut_body_says_what_it_leaves_out(self, destination: Destination) -> None:
        body = orjson.loads(render_body(_enormous()))
        data = body["data"]
        kept = len(data["recommendations"])
        assert 0 < kept < 50
        assert data["omitted"]["recommendations"] == 50 - kept
        assert [r["product_id"][:3] for r in data["recommendations"]] == [f"{i:03d}" for i in range(kept)], "the best are kept"

    def test_recommendations_go_before_the_cart_and_the_cart_before_attributes(self, destination: Destination) -> None:
        ann = _ann()
        for i in range(100):
            ann.profile.attributes.add(name=f"a{i:03d}", text="x" * 400)
        data = orjson.loads(render_body(ann))["data"]
        assert len(data["recommendations"]) == 4
        assert len(data["profile"]["cart"]) == 2
        assert data["omitted"] == {"attributes": 103 - len(data["profile"]["attributes"])}
        assert len(render_body(ann)) > MAX_BODY_BYTES - 500, "the room is used"

    def test_settings_make_the_target(self, destination: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
        target = {"name": "inbox", "url": "https://shop.example/hook", "secret": "env:HOOK_SECRET"}
        settings = load_settings(overrides={"targets": [target]})
        assert destination_of(settings.targets[0]) == destination
