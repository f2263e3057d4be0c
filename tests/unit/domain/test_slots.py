"""Slots: how a list is mixed, filtered, boosted, capped and filled up, and what is told of what was removed."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.catalog import CatalogProduct
from app.domain.ranking import rank
from app.domain.rules import Rules
from app.domain.slots import LAST_FALLBACKS, MAX_BOOSTED, MAX_REMOVED, MAX_UNDER_CAPS, Removed, Slot, may_be_shown, recommend, slots_of
from app.domain.strategies import STRATEGIES, Query
from app.domain.strategies.query import MAX_PROPOSED
from app.settings import RankingSettings, RuleSettings, Settings, SlotSettings
from tests.unit.domain.shop_worlds import DAY_MS, NOW_MS, DictCatalog, Taught, ask, models_of, person
from tests.unit.domain.test_rules_hold import catalog_of, shop, some_rules, someone, taught

NO_RULES = Rules()


def slot_of(*strategies: str | Mapping[str, Any], **fields: Any) -> Slot:
    mix = [{"strategy": part} if isinstance(part, str) else part for part in strategies or ("for_you",)]
    return Slot.of(SlotSettings.model_validate({"name": "slot", "mix": mix, **fields}))


def rules_of(**fields: Any) -> Rules:
    return Rules.of(RuleSettings(**fields))


def ids(query: Query, slot: Slot, rules: Rules = NO_RULES) -> list[str]:
    return [recommendation.product_id for recommendation in recommend(query, slot, rules).recommendations]


# ---------------------------------------------------------------------- without settings


def test_without_settings_there_is_one_slot_as_long_as_a_ranking() -> None:
    slots = slots_of(Settings(ranking=RankingSettings(list_length=7)))
    assert list(slots) == ["for_you"]
    assert slots["for_you"].length == 7
    assert slots["for_you"].chain == LAST_FALLBACKS
    named = slots_of(Settings(slots=[SlotSettings(name="cart", length=3), SlotSettings(name="for_you", length=9)]))
    assert {name: slot.length for name, slot in named.items()} == {"for_you": 9, "cart": 3}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 20, 50]))
def test_without_catalog_and_settings_the_list_is_the_ranking(seed: int, length: int) -> None:
    random = Random(seed)
    ids_ = [f"p{number}" for number in range(random.choice([3, 30, 120]))]
    profile = someone(random, ids_)[0] or person()
    source, models = taught(random, ids_), models_of(random.sample(ids_, random.randrange(len(ids_))))
    selection = recommend(ask(profile, source=source, models=models), Slot("for_you", length), NO_RULES)
    assert selection.recommendations == rank(profile, source, models, NOW_MS, length)
    assert not selection.removed


# ---------------------------------------------------------------------- the same as filtering all that there is


@settings(deadline=None)  # the first expression reads the library, which takes a second
@given(st.integers(0, 100_000))
def test_a_strategy_is_asked_until_the_list_is_that_of_filtering_all_it_proposes(seed: int) -> None:
    random = Random(seed)
    rows = shop(random)
    ids_ = [row["product_id"] for row in rows] + ["ghost"]
    query = ask(
        someone(random, ids_)[0], catalog_of(rows), source=taught(random, ids_), models=models_of(random.sample(ids_, len(ids_) // 2))
    )
    rules = rules_of(**some_rules(random, ids_))
    slot = slot_of(random.choice(list(STRATEGIES)), length=random.choice([1, 3, 10]), fallback=random.sample(list(STRATEGIES), 2))
    person_ = rules.person(query.profile, NOW_MS)
    expected: dict[str, Any] = {}
    for name in (slot.mix[0].strategy, *slot.chain):
        for proposed in STRATEGIES[name](query, MAX_PROPOSED):
            if may_be_shown(proposed.product_id, slot, rules, person_, query.catalog, NOW_MS):
                expected.setdefault(proposed.product_id, proposed)
    found = recommend(query, slot, rules).recommendations
    assert [(r.product_id, r.reason) for r in found] == [(r.product_id, r.reason) for r in expected.values()][: slot.length]


def test_nine_hundred_sold_out_products_do_not_hide_what_comes_after_them() -> None:
    products = [CatalogProduct(f"p{n:04}", in_stock=n >= 900) for n in range(1_000)]
    query = ask(None, products, models=models_of([product.product_id for product in products]))
    assert ids(query, slot_of("trending", length=5)) == [f"p0{n}" for n in range(900, 905)]


def test_an_empty_list_is_the_last_thing_a_shop_with_anything_to_sell_gives() -> None:
    products = [CatalogProduct(f"p{n:04}", in_stock=n == 4_000) for n in range(4_500)]
    assert ids(ask(None, products), slot_of()) == ["p4000"]


# ---------------------------------------------------------------------- mix


def looked(count: int) -> list[tuple[str, int]]:
    return [(f"seen{n}", NOW_MS - DAY_MS - n) for n in reversed(range(count))]


def mixed_query(seen: int = 9, trends: int = 9) -> Query:
    return ask(person(looked(seen)), models=models_of([f"trend{n}" for n in range(trends)]))


def test_strategies_take_turns_smoothly_by_their_weights() -> None:
    slot = slot_of({"strategy": "recently_viewed", "weight": 3}, {"strategy": "trending", "weight": 1}, length=8)
    assert ids(mixed_query(), slot) == ["seen0", "seen1", "trend0", "seen2", "seen3", "seen4", "trend1", "seen5"]


def test_at_most_bounds_a_strategy_and_the_others_go_on() -> None:
    slot = slot_of({"strategy": "recently_viewed", "at_most": 2}, "trending", length=6)
    assert ids(mixed_query(), slot) == ["seen0", "trend0", "seen1", "trend1", "trend2", "trend3"]


def test_one_strategy_with_at_most_leaves_the_rest_to_the_fallback() -> None:
    slot = slot_of({"strategy": "recently_viewed", "at_most": 2}, length=4)
    assert ids(mixed_query(), slot) == ["seen0", "seen1", "trend0", "trend1"]


def test_a_strategy_that_runs_dry_leaves_its_turns_to_the_others() -> None:
    slot = slot_of({"strategy": "recently_viewed", "weight": 5}, "trending", length=5)
    assert ids(mixed_query(seen=1), slot) == ["seen0", "trend0", "trend1", "trend2", "trend3"]


def test_a_product_comes_once_with_the_reason_of_the_strategy_that_came_first() -> None:
    query = ask(person([("both", NOW_MS - DAY_MS)]), models=models_of(["both", "other"]))
    found = recommend(query, slot_of("trending", "recently_viewed", length=5), NO_RULES).recommendations
    assert [(recommendation.product_id, recommendation.reason.kind) for recommendation in found] == [("both", 4), ("other", 4)]


# ---------------------------------------------------------------------- fallback


def test_the_fallback_fills_in_its_order_and_ends_in_the_shop() -> None:
    catalog = [
        CatalogProduct("cart", listed_at_ms=1),
        CatalogProduct("trend", listed_at_ms=2),
        CatalogProduct("new", listed_at_ms=NOW_MS - 5),
        CatalogProduct("old", listed_at_ms=3),
    ]
    query = ask(person(cart=[("cart", NOW_MS)]), catalog, models=models_of(["trend"]))
    slot = slot_of("price_dropped", fallback=["left_in_cart"], length=9)
    found = recommend(query, slot, NO_RULES).recommendations
    assert [(r.product_id, r.reason.kind) for r in found] == [("cart", 5), ("trend", 4), ("new", 9), ("old", 13)]


def test_the_fallback_obeys_rules_and_filters() -> None:
    catalog = [CatalogProduct("a", brand="Acme"), CatalogProduct("b", brand="Bolt"), CatalogProduct("c", brand="Acme", in_stock=False)]
    query = ask(person(purchases=[("a", 0, NOW_MS - DAY_MS, 1)]), catalog, models=models_of(["a", "b", "c"]))
    slot = slot_of("for_you", filters={"brands": ["Acme"]})
    assert ids(query, slot) == ["a"]
    assert ids(query, slot, rules_of(bought_within_days=2)) == []


def test_who_sorts_by_score_gets_the_list_as_it_stands() -> None:
    catalog = [CatalogProduct(product_id, listed_at_ms=NOW_MS) for product_id in ("seen0", "trend0", "new1", "new2")]
    query = ask(person(looked(1)), catalog, models=models_of({"trend0": 0.25}))
    found = recommend(query, slot_of("recently_viewed", "trending"), NO_RULES).recommendations
    assert [(r.product_id, r.score) for r in found] == [("seen0", 1.0), ("trend0", 0.25), ("new1", 0.25), ("new2", 0.25)]


# ---------------------------------------------------------------------- boosts


def test_a_boost_multiplies_scores_within_a_strategy() -> None:
    catalog = [CatalogProduct("a"), CatalogProduct("b", brand="Acme"), CatalogProduct("c", brand="Acme", price=5)]
    query = ask(None, catalog, models=models_of({"a": 0.4, "b": 0.3, "c": 0.1, "unknown": 0.2}))
    boosts = [{"when": 'brand == "Acme"', "factor": 1.5}, {"when": "price > 1", "factor": 4.0}]
    slot = slot_of("trending", boosts=boosts, uncatalogued="show", length=4)
    found = recommend(query, slot, NO_RULES).recommendations
    assert [(r.product_id, pytest.approx(r.score)) for r in found] == [("c", 0.6), ("b", 0.45), ("a", 0.4), ("unknown", 0.2)]


def test_what_a_boost_makes_equal_stays_in_the_order_of_the_strategy() -> None:
    catalog = [CatalogProduct("z"), CatalogProduct("a", brand="Acme")]
    query = ask(None, catalog, models=models_of({"z": 0.5, "a": 0.25}))
    assert ids(query, slot_of("trending", boosts=[{"when": 'brand == "Acme"', "factor": 2.0}])) == ["z", "a"]


def test_boosts_order_the_best_of_a_strategy_and_leave_what_comes_after_them() -> None:
    catalog = [CatalogProduct(f"p{n:03}", brand="Acme" if n in (MAX_BOOSTED - 1, MAX_BOOSTED) else "") for n in range(300)]
    trends = models_of({f"p{n:03}": 1.0 - n / 1_000 for n in range(300)})
    slot = slot_of("trending", boosts=[{"when": 'brand == "Acme"', "factor": 50.0}], length=50)
    assert ids(ask(None, catalog, models=trends), slot) == ["p199", *(f"p{n:03}" for n in range(49))]


# ---------------------------------------------------------------------- caps


def test_no_brand_and_no_first_level_of_a_category_comes_more_often_than_allowed() -> None:
    catalog = [
        CatalogProduct("a", brand="Acme", categories=("Shoes > Running",)),
        CatalogProduct("b", brand="Acme", categories=("Bags",)),
        CatalogProduct("c", brand="Acme", categories=("Hats",)),
        CatalogProduct("d", brand="Bolt", categories=("Shoes > Walking", "Hats")),
        CatalogProduct("e", categories=("Hats",)),
        CatalogProduct("f"),
        CatalogProduct("g"),
    ]
    query = ask(None, catalog, models=models_of(list("abcdefg")))
    assert ids(query, slot_of("trending", max_per_brand=2)) == ["a", "b", "d", "e", "f", "g"]
    assert ids(query, slot_of("trending", max_per_category=1)) == ["a", "b", "c", "f", "g"]
    assert ids(query, slot_of("trending", max_per_category=1, category_level="full")) == ["a", "b", "c", "f", "g"]
    assert ids(query, slot_of("trending", max_per_category=2, category_level="full")) == ["a", "b", "c", "d", "f", "g"]


def test_caps_that_cannot_be_met_do_not_have_the_whole_shop_looked_through() -> None:
    asked: list[str] = []

    class Counting(DictCatalog):
        def product(self, product_id: str) -> CatalogProduct | None:
            asked.append(product_id)
            return super().product(product_id)

    catalog = Counting(CatalogProduct(f"p{n:04}", brand="Acme", listed_at_ms=NOW_MS) for n in range(3_000))
    query = ask(None, catalog, models=models_of(list(catalog.products)))
    assert ids(query, slot_of(max_per_brand=2)) == ["p0000", "p0001"]
    assert len(asked) < 30 * MAX_UNDER_CAPS
    assert ids(query, slot_of(max_per_brand=2), rules_of(exclude_products=[f"p{n:04}" for n in range(2_500)])) == ["p2500", "p2501"]


# ---------------------------------------------------------------------- what is not in the catalog


def test_a_product_that_is_not_in_the_catalog_is_hidden_once_the_catalog_holds_any() -> None:
    models = models_of(["known", "unknown"])
    assert ids(ask(None, models=models), slot_of()) == ["known", "unknown"]
    catalog = [CatalogProduct("known")]
    assert ids(ask(None, catalog, models=models), slot_of()) == ["known"]
    assert ids(ask(None, catalog, models=models), slot_of(uncatalogued="show")) == ["known", "unknown"]


def test_rules_that_need_no_catalog_hold_without_one_and_those_that_do_are_closed() -> None:
    query = ask(person(purchases=[("bought", 0, NOW_MS, 1)]), models=models_of(["bought", "excluded", "free"]))
    assert ids(query, slot_of(), rules_of(bought_within_days=1, exclude_products=["excluded"])) == ["free"]
    assert ids(query, slot_of(), rules_of(exclude_categories=["Shoes"], exclude_when={"a": 'brand == "Acme"'})) == [
        "bought", "excluded", "free",
    ]  # fmt: skip
    assert ids(query, slot_of(), rules_of(price_floor=1)) == []
    assert ids(query, slot_of(), rules_of(exclude_when={"cheap": "price < 100"})) == []
    assert ids(query, slot_of(filters={"brands": ["Acme"]})) == []


# ---------------------------------------------------------------------- what was removed


def test_what_was_removed_is_told_with_strategy_and_rule_only_when_asked_for() -> None:
    catalog = [
        CatalogProduct("out", in_stock=False),
        CatalogProduct("soon", published_at_ms=NOW_MS + DAY_MS),
        CatalogProduct("over", expires_at_ms=NOW_MS),
        CatalogProduct("dull", brand="Bolt", price=5),
        CatalogProduct("one", brand="Acme", price=5),
        CatalogProduct("two", brand="Acme", price=5),
        CatalogProduct("adult", brand="Cove", price=5, attributes={"rating": ("18+",)}),
    ]
    profile = person([("out", NOW_MS - DAY_MS)])
    trends = models_of(["unknown", "soon", "over", "dull", "one", "two", "adult", "out"])
    query = ask(profile, catalog, models=trends)
    rules = rules_of(exclude_when={"adult": '"18+" in attributes.rating'})
    slot = slot_of("recently_viewed", "trending", filters={"exclude_brands": ["Bolt"]}, max_per_brand=1)
    selection = recommend(query, slot, rules, explain=True)
    assert [recommendation.product_id for recommendation in selection.recommendations] == ["one"]
    assert list(selection.removed) == [
        Removed("out", "out_of_stock", "recently_viewed"),
        Removed("unknown", "uncatalogued", "trending"),
        Removed("soon", "unpublished", "trending"),
        Removed("over", "expired", "trending"),
        Removed("dull", "filters.exclude_brands", "trending"),
        Removed("two", "max_per_brand", "trending"),
        Removed("adult", "exclude_when.adult", "trending"),
    ]
    plain = recommend(query, slot, rules)
    assert plain.recommendations == selection.recommendations
    assert not plain.removed


def test_what_was_removed_is_told_up_to_a_bound() -> None:
    products = [CatalogProduct(f"p{n:03}", in_stock=False) for n in range(300)]
    selection = recommend(ask(None, products), slot_of(), NO_RULES, explain=True)
    assert len(selection.removed) == MAX_REMOVED
    assert selection.recommendations == []


# ---------------------------------------------------------------------- changes are in force at once


def test_a_verdict_is_remembered_with_the_product_and_goes_with_it() -> None:
    rules, slot = rules_of(exclude_when={"acme": 'brand == "Acme"'}), slot_of()
    catalog = DictCatalog([CatalogProduct("a"), CatalogProduct("b", brand="Acme")])
    query = ask(None, catalog, models=models_of(["a", "b"]))
    assert ids(query, slot, rules) == ["a"]
    assert catalog.products["b"].verdicts == {rules: True}
    catalog.products["a"], catalog.products["b"] = CatalogProduct("a", in_stock=False), CatalogProduct("b", brand="Bolt")
    assert ids(query, slot, rules) == ["b"]
    assert ids(query, slot, rules_of(exclude_products=["b"])) == [], "other rules have a verdict of their own"


def test_published_and_expires_are_asked_of_the_moment_and_not_remembered() -> None:
    catalog = DictCatalog([CatalogProduct("a", published_at_ms=NOW_MS, expires_at_ms=NOW_MS + 10)])
    slot = slot_of()
    shown = [bool(ids(ask(None, catalog, models=models_of(["a"]), now_ms=NOW_MS + ms), slot)) for ms in (-1, 0, 9, 10)]
    assert shown == [False, True, True, False]


def test_neighbours_are_read_from_the_source_of_the_query() -> None:
    query = ask(person(session=[("a", NOW_MS)]), source=Taught(neighbours={"a": {"b": 1.0}}))
    assert set(ids(query, slot_of())) == {"a", "b"}
