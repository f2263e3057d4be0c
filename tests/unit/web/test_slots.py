"""The list of a slot over HTTP: for anybody, by the rules of this moment, with what was removed if that is asked for."""

from __future__ import annotations

from app.domain.catalog import CatalogProduct
from app.domain.models import GlobalModels
from app.domain.profile import fold_event, new_profile
from app.domain.rules import Rules
from app.domain.slots import slots_of
from app.settings import Settings
from app.streams.recommender import Recommender
from tests.unit.domain.event_worlds import NOON_MS, viewed
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

from .test_reads import conforms
from .worlds import FakeViews, world

SETTINGS = Settings(slots=[{"name": "again", "length": 3, "mix": [{"strategy": "recently_viewed"}], "fallback": ["new_arrivals"]}])


def a_visitor() -> Profile:
    profile = new_profile("u1")
    for number, product_id in enumerate(("mug", "kettle", "unlisted")):
        fold_event(profile, viewed(product_id, f"e{number}", NOON_MS + number, "u1"))
    return profile


def a_shop() -> DictCatalog:
    listed = {
        "mug": CatalogProduct("mug", title="Red mug", price=1299, currency="EUR"),
        "kettle": CatalogProduct("kettle", title="Kettle", in_stock=False),
        "tea": CatalogProduct("tea", title="Tea", listed_at_ms=NOON_MS),
    }
    return DictCatalog(listed.values())


def views(catalog: DictCatalog, **fields: object) -> FakeViews:
    found = FakeViews(**fields)
    found.recommender = Recommender(lambda: GlobalModels.of([]), catalog, slots_of(SETTINGS), Rules())
    return found


async def test_a_slot_has_what_its_strategies_propose_and_the_rules_admit_with_what_the_catalog_says():
    catalog = a_shop()
    async with world(views=views(catalog, profiles={"u1": a_visitor()}), catalog=catalog) as w:
        status, document, _ = await w.get("/v1/users/u1/recommendations?slot=again")
    assert status == 200
    assert conforms(document, "Selection")
    assert (document["slot"], document["known"]) == ("again", True)
    assert [(r["product_id"], r["reason"]["kind"], r["title"]) for r in document["recommendations"]] == [
        ("mug", "seen_before", "Red mug"), ("tea", "new_arrival", "Tea"),
    ]
    assert document["recommendations"][0]["price"] == {"minor_units": 1299, "currency_code": "EUR"}
    assert "removed" not in document


async def test_explain_tells_what_was_removed_and_by_which_rule():
    catalog = a_shop()
    async with world(views=views(catalog, profiles={"u1": a_visitor()}), catalog=catalog) as w:
        _, document, _ = await w.get("/v1/users/u1/recommendations?slot=again&explain=true")
        _, published, _ = await w.get("/v1/users/u1/recommendations?explain=1")
    assert conforms(document, "Selection")
    assert [(r["product_id"], r["title"], r["rule"], r["strategy"]) for r in document["removed"]] == [
        ("unlisted", None, "uncatalogued", "recently_viewed"), ("kettle", "Kettle", "out_of_stock", "recently_viewed"),
    ]
    assert published["slot"] == "for_you"


async def test_someone_unknown_gets_the_fallback_of_a_slot():
    catalog = a_shop()
    async with world(views=views(catalog), catalog=catalog) as w:
        status, document, _ = await w.get("/v1/users/nobody/recommendations?slot=again")
    assert (status, document["known"], document["current_to"]) == (200, False, None)
    assert [r["product_id"] for r in document["recommendations"]] == ["tea", "mug"]


async def test_a_slot_that_is_not_in_the_settings_is_a_problem_that_names_those_that_are():
    async with world(views=views(a_shop())) as w:
        status, document, _ = await w.get("/v1/users/u1/recommendations?slot=other")
        wrong, flag, _ = await w.get("/v1/users/u1/recommendations?explain=maybe")
    assert (status, document["errors"][0]["field"]) == (400, "slot")
    assert "again, for_you" in document["detail"]
    assert (wrong, flag["errors"][0]["field"]) == (400, "explain")


def test_others_take_the_places_of_what_sold_out_since_a_list_was_published():
    catalog = a_shop()
    recommender = Recommender(lambda: GlobalModels.of([]), catalog, slots_of(SETTINGS), Rules())
    entry = OutboxEntry()
    for product_id in ("kettle", "mug"):
        entry.update.recommendations.add(product_id=product_id)
    as_of_now = recommender.as_of_now(entry.update, a_visitor(), lambda: None, NOON_MS)
    assert [r.product_id for r in as_of_now.recommendations] == ["mug", "tea"]
    assert len(entry.update.recommendations) == 2, "what is stored stays as it is"
    assert entry.update.recommendations[0].product_id == "kettle"
    assert recommender.as_of_now(as_of_now, None, lambda: None, NOON_MS) is as_of_now
