"""People as destinations are asked to tell about them: one as most are, one as large as can be, and many."""

from __future__ import annotations

from app.destinations.requests import Rendered
from app.domain.catalog import CatalogProduct
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate


def ann() -> Rendered:
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
    profile.attributes.add(name="email", text="ann@example.com")
    profile.attributes.add(name="gone")
    profile.attributes.add(name="points", number=12.5)
    profile.attributes.add(name="vip", flag=True)
    profile.consents.add(purpose="personalised_email", state=ConsentState.CONSENT_STATE_GRANTED)
    mug = CatalogProduct(
        "mug", title="Red mug", url="https://shop.example/mug", price=1299, list_price=1499, currency="EUR", categories=("Kitchen > Mugs",)
    )
    return Rendered(update, profile, DictCatalog([mug, CatalogProduct("cup", title="Blue cup")]))


def enormous() -> Rendered:
    """As large as a person can be, with characters that JSON writes with six."""
    update = RecommendationUpdate(user_id="\x01" * 256, version=2**63)
    for i in range(50):
        recommendation = update.recommendations.add(product_id=f"{i:03d}" + "\x02" * 125, score=0.123456789012345)
        recommendation.reason.kind = ReasonKind.REASON_KIND_ALSO_VIEWED
        recommendation.reason.because_of = "\x03" * 128
    profile = Profile(user_id="u")
    for i in range(100):
        profile.cart.add(product_id="\x04" * 128, quantity=i)
        if i:
            profile.attributes.add(name=f"{i:03d}" + "\x05" * 61, text="\x06" * 1024)
    profile.attributes.add(name="email", text="u@example.com")
    for i in range(16):
        profile.consents.add(purpose=f"{i:02d}" + "\x07" * 62)
    wordy = [
        CatalogProduct(r.product_id, title="\x08" * 512, url="https://" + "u" * 2040, image_url="https://" + "i" * 2040)
        for r in update.recommendations
    ]
    return Rendered(update, profile, DictCatalog(wordy))


def many(count: int) -> list[Rendered]:
    """So many people who differ in name, address and version, and have ann's list."""
    people = []
    for i in range(count):
        one = ann()
        one.update.user_id = one.profile.user_id = f"user-{i}"
        one.update.version = i + 1
        for attribute in one.profile.attributes:
            if attribute.name == "email":
                attribute.text = f"user-{i}@example.com"
        people.append(one)
    return people
