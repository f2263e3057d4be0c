"""Rules and filters, one by one: each says no, at its very border, and says its name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.catalog import NEVER_MS, CatalogProduct
from app.domain.rules import Filters, Person, Rules, is_in_one_of
from app.domain.slots import Slot, may_be_shown
from app.settings import FilterSettings, RuleSettings
from tests.unit.domain.shop_worlds import DAY_MS, NOW_MS, DictCatalog, person

NOBODY = Person(frozenset(), None)


def rules_of(**fields: Any) -> Rules:
    return Rules.of(RuleSettings(**fields))


def rule_of(product: CatalogProduct, rules: Rules | None = None, who: Person = NOBODY) -> str | None:
    return (rules or rules_of()).removed_by(product, who, NOW_MS)


def filter_of(product: CatalogProduct, **fields: Any) -> str | None:
    filters = Filters.of(FilterSettings(**fields))
    assert filters is not None
    assert filters.admits(product) == filters.admits(product) == (filters.removed_by(product) is None)
    return filters.removed_by(product)


def test_sold_out_unpublished_and_expired_products_are_never_shown() -> None:
    assert rule_of(CatalogProduct("p")) is None
    assert rule_of(CatalogProduct("p", in_stock=False)) == "out_of_stock"
    assert rule_of(CatalogProduct("p", published_at_ms=NOW_MS)) is None
    assert rule_of(CatalogProduct("p", published_at_ms=NOW_MS + 1)) == "unpublished"
    assert rule_of(CatalogProduct("p", published_at_ms=NEVER_MS)) == "unpublished"
    assert rule_of(CatalogProduct("p", expires_at_ms=NOW_MS + 1)) is None
    assert rule_of(CatalogProduct("p", expires_at_ms=NOW_MS)) == "expired"


def test_products_are_excluded_by_id_and_by_category_with_its_levels() -> None:
    rules = rules_of(exclude_products=["bad"], exclude_categories=["Shoes > Running"])
    assert rule_of(CatalogProduct("bad"), rules) == "excluded_product"
    assert rule_of(CatalogProduct("p", categories=("Bags", "Shoes > Running")), rules) == "excluded_category"
    assert rule_of(CatalogProduct("p", categories=("Shoes > Running > Trail",)), rules) == "excluded_category"
    assert rule_of(CatalogProduct("p", categories=("Shoes", "Shoes > Runningboards", "Shoes > Walking")), rules) is None


def test_a_category_is_below_another_by_whole_levels_only() -> None:
    assert is_in_one_of(CatalogProduct("p", categories=("A > B",)), ("A",))
    assert not is_in_one_of(CatalogProduct("p", categories=("AB", "A>B", "B > A")), ("A",))
    assert not is_in_one_of(CatalogProduct("p"), ("A",))


def test_what_an_expression_holds_for_or_fails_for_is_excluded_under_its_name() -> None:
    rules = rules_of(exclude_when={"dear": "price > 1000", "acme": 'brand == "Acme"'})
    assert rule_of(CatalogProduct("p", price=1001), rules) == "exclude_when.dear"
    assert rule_of(CatalogProduct("p", price=1000, brand="Acme"), rules) == "exclude_when.acme"
    assert rule_of(CatalogProduct("p", price=1000, brand="Bolt"), rules) is None
    assert rule_of(CatalogProduct("p"), rules) == "exclude_when.dear", "no price to compare"


def test_the_price_floor_is_inclusive_and_a_product_without_a_price_is_below_it() -> None:
    rules = rules_of(price_floor=500)
    assert rule_of(CatalogProduct("p", price=500), rules) is None
    assert rule_of(CatalogProduct("p", price=499), rules) == "price_floor"
    assert rule_of(CatalogProduct("p"), rules) == "price_floor"
    assert rule_of(CatalogProduct("p"), rules_of()) is None


def test_what_was_bought_is_not_shown_for_so_many_days() -> None:
    rules = rules_of(bought_within_days=7)
    profile = person(
        purchases=[
            ("now", 0, NOW_MS, 1),
            ("in-time-to-come", 0, NOW_MS + 1, 1),
            ("seven", 0, NOW_MS - 7 * DAY_MS, 2),
            ("longer", 0, NOW_MS - 7 * DAY_MS - 1, 1),
        ]
    )
    who = rules.person(profile, NOW_MS)
    assert who.bought == {"now", "in-time-to-come", "seven"}
    assert rule_of(CatalogProduct("seven"), rules, who) == "bought"
    assert rule_of(CatalogProduct("longer"), rules, who) is None
    assert rules_of().person(profile, NOW_MS).bought == frozenset()


def test_a_product_sold_in_some_regions_is_shown_to_people_known_to_be_there() -> None:
    rules = rules_of(region_user_attribute="country", region_product_attribute="sold_in")
    restricted = CatalogProduct("p", attributes={"sold_in": ("NL", "BE")})

    def seen_by(**attributes: Any) -> str | None:
        return rule_of(restricted, rules, rules.person(person(attributes=attributes), NOW_MS))

    assert seen_by(country="BE") is None
    assert seen_by(country="FR") == "region"
    assert seen_by(country="be") == "region"
    assert seen_by(country=1.0) == "region"
    assert seen_by(city="NL") == "region"
    assert rule_of(restricted, rules, rules.person(None, NOW_MS)) == "region"
    assert rule_of(CatalogProduct("p", attributes={"sold_in": ()}), rules) is None
    assert rule_of(CatalogProduct("p"), rules) is None
    assert rule_of(restricted, rules_of()) is None


def test_a_cleared_region_is_no_region() -> None:
    rules = rules_of(region_user_attribute="country", region_product_attribute="sold_in")
    profile = person()
    profile.attributes.add(name="country")
    assert rules.person(profile, NOW_MS).region is None


def test_rules_hold_for_someone_who_denied_profiling() -> None:
    rules = rules_of(bought_within_days=7)
    assert rules.person(person(purchases=[("p", 0, NOW_MS, 1)], denied=True), NOW_MS).bought == {"p"}


def test_filters_say_no_each_by_its_name() -> None:
    product = CatalogProduct("p", categories=("Shoes > Running",), brand="Acme", price=500)
    assert filter_of(product, categories=["Shoes"], brands=["Acme", "Bolt"], price_from=500, price_to=500, when="price == 500") is None
    assert filter_of(product, categories=["Bags"]) == "filters.categories"
    assert filter_of(product, exclude_categories=["Shoes"]) == "filters.exclude_categories"
    assert filter_of(product, brands=["Bolt"]) == "filters.brands"
    assert filter_of(product, exclude_brands=["Acme"]) == "filters.exclude_brands"
    assert filter_of(product, price_from=501) == "filters.price_from"
    assert filter_of(product, price_to=499) == "filters.price_to"
    assert filter_of(product, when="price > 500") == "filters.when"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"categories": ["Shoes"]}, "filters.categories"),
        ({"brands": ["Acme"]}, "filters.brands"),
        ({"price_from": 1}, "filters.price_from"),
        ({"price_to": 1}, "filters.price_to"),
        ({"when": "price < 9"}, "filters.when"),
    ],
)
def test_a_product_of_which_nothing_is_known_passes_no_filter_that_asks_for_something(fields: dict[str, Any], name: str) -> None:
    assert filter_of(CatalogProduct("p"), **fields) == name


def test_a_product_of_which_nothing_is_known_passes_filters_that_exclude() -> None:
    assert filter_of(CatalogProduct("p"), exclude_categories=["Shoes"], exclude_brands=["Acme"]) is None


def test_filters_that_say_nothing_are_none() -> None:
    assert Filters.of(FilterSettings()) is None


@settings(deadline=None)
@given(
    st.builds(
        CatalogProduct,
        product_id=st.sampled_from(["a", "b"]),
        price=st.sampled_from([None, 0, 500, 501]),
        in_stock=st.booleans(),
        categories=st.sampled_from([(), ("A",), ("A > B", "C")]),
        attributes=st.sampled_from([{}, {"sold_in": ("NL",)}]),
        published_at_ms=st.sampled_from([0, NOW_MS, NOW_MS + 1]),
        expires_at_ms=st.sampled_from([0, NOW_MS, NOW_MS + 1]),
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "exclude_products": st.just(["a"]),
            "exclude_categories": st.sampled_from([["A"], ["C"]]),
            "bought_within_days": st.just(3),
            "price_floor": st.just(501),
        },
    ),
    st.booleans(),
)
def test_the_quick_verdict_is_the_named_one_the_first_time_and_again(product: CatalogProduct, fields: dict[str, Any], local: bool) -> None:
    rules = rules_of(**fields, **({"region_user_attribute": "r", "region_product_attribute": "sold_in"} if local else {}))
    who = rules.person(person(purchases=[("b", 0, NOW_MS, 1)]), NOW_MS)
    for _ in range(2):
        shown = may_be_shown(product.product_id, Slot("slot"), rules, who, DictCatalog([product]), NOW_MS)
        assert shown == (rules.removed_by(product, who, NOW_MS) is None)
