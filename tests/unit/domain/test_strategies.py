"""Each strategy: what it proposes, in which order, why, within which bounds, and when it says nothing."""

from __future__ import annotations

from random import Random

import pytest

from app.domain.catalog import CatalogProduct
from app.domain.ranking import rank
from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies import STRATEGIES, Query
from app.domain.strategies.basket import MAX_ASKED, also_bought, buy_again, left_in_cart
from app.domain.strategies.for_you import for_you
from app.domain.strategies.looked_at import back_in_stock, price_dropped, recently_viewed
from app.domain.strategies.query import MAX_PROPOSED
from app.domain.strategies.shop import in_the_shop, new_arrivals
from app.domain.strategies.similar import MAX_CANDIDATES, similar
from app.domain.strategies.trending import MAX_CATEGORIES, MAX_LOOKS, trending, trending_in_category
from tests.unit.domain.shop_worlds import DAY_MS, MINUTE_MS, NOW_MS, DictCatalog, Taught, ask, models_of, person
from tests.unit.domain.test_rules_hold import catalog_of, shop, someone, taught
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind

PERSONAL = (
    "recently_viewed", "left_in_cart", "also_bought", "similar", "trending_in_category", "price_dropped", "back_in_stock", "buy_again",
)  # fmt: skip
HOUR_MS = 60 * MINUTE_MS


def ids(found: list[Recommendation]) -> list[str]:
    return [recommendation.product_id for recommendation in found]


def reason(found: list[Recommendation], product_id: str) -> Reason:
    return next(recommendation.reason for recommendation in found if recommendation.product_id == product_id)


# ---------------------------------------------------------------------- what holds for all


def random_query(seed: int) -> Query:
    random = Random(seed)
    rows = shop(random)
    products = [row["product_id"] for row in rows] + ["ghost"]
    source, models = taught(random, products), models_of(random.sample(products, random.randrange(len(products) + 1)))
    return ask(someone(random, products)[0], catalog_of(rows), source=source, models=models)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_smaller_limit_gives_the_beginning_of_what_a_greater_one_gives(name: str) -> None:
    found = 0
    for seed in range(60):
        query = random_query(seed)
        whole = STRATEGIES[name](query, MAX_PROPOSED)
        found += len(whole)
        for limit in (0, 1, 2, 3, 5, 8, 13, 21, 34):
            if limit or name != "for_you":
                assert STRATEGIES[name](query, limit) == whole[:limit]
    assert found


@pytest.mark.parametrize("name", STRATEGIES)
def test_products_are_proposed_once_with_scores_that_fall_and_a_reason(name: str) -> None:
    for seed in range(60):
        found = STRATEGIES[name](random_query(seed), MAX_PROPOSED)
        assert len(set(ids(found))) == len(found) <= MAX_PROPOSED
        scores = [recommendation.score for recommendation in found]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= 0.0 for score in scores)
        assert all(recommendation.reason.kind != ReasonKind.REASON_KIND_UNSPECIFIED for recommendation in found)


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_strategy_says_nothing_about_someone_unknown_or_who_denied_profiling(name: str) -> None:
    shop_ = [
        CatalogProduct("seen", price=5, prices=((0, 9), (NOW_MS - 1, 5)), categories=("A",), back_in_stock_at_ms=NOW_MS - 1),
        CatalogProduct("other", price=5, categories=("A",)),
    ]
    source = Taught(bought={"mine": (3, {"other": 2})})

    def known(denied: bool) -> Profile:
        looked = [("seen", NOW_MS - DAY_MS)]
        purchases = [("mine", NOW_MS - 20 * DAY_MS, NOW_MS - 10 * DAY_MS, 2)]
        return person(looked, cart=looked, purchases=purchases, denied=denied)

    def found(profile: Profile | None) -> list[Recommendation]:
        return STRATEGIES[name](ask(profile, shop_, source=source, models=models_of(["other"])), 10)

    assert found(known(denied=False))
    assert found(known(denied=True)) == []
    assert found(None) == []


# ---------------------------------------------------------------------- for you


def test_for_you_is_the_ranking() -> None:
    profile = person([("a", NOW_MS - DAY_MS)], session=[("b", NOW_MS - 1)])
    source, models = Taught(neighbours={"b": {"c": 1.0, "d": 0.5}}), models_of(["e", "f"])
    assert for_you(ask(profile, source=source, models=models), 20) == rank(profile, source, models, NOW_MS, 20)


# ---------------------------------------------------------------------- what the person looked at


def test_recently_viewed_is_the_history_without_repeats_the_last_first() -> None:
    profile = person(
        [("a", NOW_MS - 3 * DAY_MS), ("b", NOW_MS - 2 * DAY_MS), ("a", NOW_MS - DAY_MS)], session=[("c", NOW_MS - 2), ("b", NOW_MS - 1)]
    )
    found = recently_viewed(ask(profile), 10)
    assert ids(found) == ["b", "c", "a"]
    assert [recommendation.score for recommendation in found] == [1.0, 1 / 2, 1 / 3]
    assert reason(found, "b") == Reason(ReasonKind.REASON_KIND_SEEN_NOW, times_seen=2)
    assert reason(found, "a") == Reason(ReasonKind.REASON_KIND_SEEN_BEFORE, times_seen=2)


def test_half_an_hour_after_its_last_event_a_session_is_before() -> None:
    profile = person(session=[("a", NOW_MS - 31 * MINUTE_MS)])
    assert reason(recently_viewed(ask(profile), 1), "a").kind == ReasonKind.REASON_KIND_SEEN_BEFORE


def priced(product_id: str, *prices: tuple[int, int], currency: str = "EUR") -> CatalogProduct:
    """Prices as (days ago, price), oldest first."""
    return CatalogProduct(
        product_id, price=prices[-1][1], currency=currency, prices=tuple((NOW_MS - days * DAY_MS, price) for days, price in prices)
    )


def test_a_price_dropped_against_the_last_look_and_the_greatest_relative_drop_comes_first() -> None:
    catalog = [
        priced("half", (9, 1000), (1, 500)),
        priced("tenth", (9, 90_000), (1, 81_000)),
        priced("dearer", (9, 1000), (1, 1001)),
        priced("same", (9, 1000)),
        priced("looked-since", (9, 1000), (3, 500)),
        priced("unknown-then", (1, 500)),
        CatalogProduct("no-price", prices=((0, 5),)),
    ]
    looked = [(product.product_id, NOW_MS - 2 * DAY_MS) for product in catalog]
    found = price_dropped(ask(person(looked), catalog), 10)
    assert ids(found) == ["half", "tenth"]
    assert [recommendation.score for recommendation in found] == [0.5, 0.1]
    assert reason(found, "half") == Reason(ReasonKind.REASON_KIND_PRICE_DROPPED, price_before=(1000, "EUR"), price_now=(500, "EUR"))


def test_equal_drops_are_ordered_by_id() -> None:
    catalog = [priced(product_id, (9, 200), (1, 100)) for product_id in "cab"]
    looked = [(product_id, NOW_MS - 2 * DAY_MS) for product_id in "bca"]
    assert ids(price_dropped(ask(person(looked), catalog), 2)) == ["a", "b"]


def test_a_product_is_back_when_it_returned_after_the_last_look_and_within_thirty_days() -> None:
    def back(product_id: str, ms_ago: int, in_stock: bool = True) -> CatalogProduct:
        return CatalogProduct(product_id, in_stock=in_stock, back_in_stock_at_ms=NOW_MS - ms_ago, out_of_stock_since_ms=1)

    catalog = [
        back("yesterday", DAY_MS),
        back("last-week", 7 * DAY_MS),
        back("thirty-days", 30 * DAY_MS),
        back("too-long-ago", 30 * DAY_MS + 1),
        back("out-again", DAY_MS, in_stock=False),
        back("seen-since", DAY_MS),
        CatalogProduct("never-out"),
    ]
    looked = [(product.product_id, NOW_MS - 40 * DAY_MS) for product in catalog] + [("seen-since", NOW_MS - HOUR_MS)]
    found = back_in_stock(ask(person(looked), catalog), 10)
    assert ids(found) == ["yesterday", "last-week", "thirty-days"]
    assert reason(found, "yesterday") == Reason(ReasonKind.REASON_KIND_BACK_IN_STOCK)


def test_the_latest_touch_counts_whatever_the_order_of_arrival() -> None:
    catalog = [CatalogProduct("a", back_in_stock_at_ms=NOW_MS - DAY_MS)]
    late = person([("a", NOW_MS - HOUR_MS), ("a", NOW_MS - 9 * DAY_MS)])
    assert back_in_stock(ask(late, catalog), 10) == []


# ---------------------------------------------------------------------- cart and orders


def test_left_in_the_cart_is_the_cart_the_newest_line_first_ties_by_id() -> None:
    profile = person(cart=[("a", NOW_MS - 9), ("c", NOW_MS - 1), ("b", NOW_MS - 1)])
    found = left_in_cart(ask(profile), 10)
    assert ids(found) == ["b", "c", "a"]
    assert {recommendation.reason for recommendation in found} == {Reason(ReasonKind.REASON_KIND_LEFT_IN_CART)}


def test_also_bought_adds_up_parts_of_the_buyers_and_names_what_contributed_most() -> None:
    source = Taught(bought={"cart": (10, {"x": 5, "y": 1}), "had": (4, {"y": 4, "cart": 4}), "stranger": (1, {"z": 1})})
    profile = person(cart=[("cart", NOW_MS - 1)], purchases=[("had", NOW_MS - DAY_MS, NOW_MS - DAY_MS, 1)])
    found = also_bought(ask(profile, source=source), 10)
    assert ids(found) == ["y", "x"]
    assert [recommendation.score for recommendation in found] == pytest.approx([0.1 + 0.8, 0.5])
    assert reason(found, "y") == Reason(ReasonKind.REASON_KIND_ALSO_BOUGHT, "had", together=4, visits=4)
    assert reason(found, "x") == Reason(ReasonKind.REASON_KIND_ALSO_BOUGHT, "cart", together=5, visits=10)


def test_also_bought_asks_for_no_more_than_twelve_of_what_the_person_has() -> None:
    asked: list[str] = []

    class Asked(Taught):
        def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
            asked.append(product_id)
            return 0, [], []

    profile = person(purchases=[(f"p{n:03}", NOW_MS - n, NOW_MS - n, 1) for n in range(200)])
    also_bought(ask(profile, source=Asked()), 10)
    assert asked == [f"p{n:03}" for n in range(MAX_ASKED)]


def test_a_product_is_due_by_the_persons_own_interval_the_most_overdue_first() -> None:
    def every(days: int, product_id: str, last_days_ago: float, orders: int = 3) -> tuple[str, int, int, int]:
        last_ms = NOW_MS - int(last_days_ago * DAY_MS)
        return product_id, last_ms - (orders - 1) * days * DAY_MS, last_ms, orders

    profile = person(
        purchases=[
            every(28, "coffee", 28),
            every(10, "filters", 25),
            every(10, "from-here", 8),
            every(10, "until-here", 30),
            every(10, "not-yet", 7.9),
            every(10, "given-up", 30.1),
            ("once", NOW_MS - 5 * DAY_MS, NOW_MS - 5 * DAY_MS, 1),
            ("twice-a-day", NOW_MS - DAY_MS, NOW_MS - DAY_MS // 2, 2),
        ]
    )
    found = buy_again(ask(profile), 10)
    assert ids(found) == ["until-here", "filters", "coffee", "from-here"]
    assert [recommendation.score for recommendation in found] == pytest.approx([1.0, 2.5 / 3, 1 / 3, 0.8 / 3])
    assert reason(found, "coffee") == Reason(ReasonKind.REASON_KIND_BUY_AGAIN, times_seen=3, interval_days=28)


# ---------------------------------------------------------------------- similar


RUNNER = CatalogProduct(
    "runner", categories=("Shoes > Running",), brand="Acme", price=1000, currency="EUR", attributes={"colour": ("red",), "sole": ("soft",)}
)


def test_similar_prefers_what_shares_more_of_category_brand_attributes_and_price() -> None:
    def like(product_id: str, **fields: object) -> CatalogProduct:
        return CatalogProduct(product_id, **{"categories": ("Shoes > Running",), "currency": "EUR", **fields})  # type: ignore[arg-type]

    catalog = [
        RUNNER,
        like("twin", brand="Acme", price=1000, attributes={"colour": ("red",), "sole": ("soft",)}),
        like("dearer-twin", brand="Acme", price=2000, attributes={"colour": ("red",), "sole": ("soft",)}),
        like("other-colour", brand="Acme", price=1000, attributes={"colour": ("blue",), "sole": ("soft",)}),
        like("other-brand", price=1000),
        like("plain"),
    ]
    found = similar(ask(person([("runner", NOW_MS - 1)]), catalog), 10)
    assert ids(found) == ["twin", "dearer-twin", "other-colour", "other-brand", "plain"]
    assert reason(found, "plain") == Reason(ReasonKind.REASON_KIND_SIMILAR, "runner", category="Shoes > Running")


def test_what_was_visited_together_is_compared_too_and_counts_for_more() -> None:
    catalog = [
        RUNNER,
        CatalogProduct("lonely", categories=("Shoes > Running",)),
        CatalogProduct("neighbour", categories=("Shoes > Running",)),
        CatalogProduct("walker", categories=("Shoes > Walking",)),
        CatalogProduct("spoon", categories=("Kitchen",), price=1000, currency="EUR"),
    ]
    source = Taught(neighbours={"runner": {"walker": 0.1, "spoon": 9.0, "neighbour": 4.5}})
    found = similar(ask(person([("runner", NOW_MS - 1)]), catalog, source=source), 10)
    assert ids(found) == ["neighbour", "lonely", "walker"], "a spoon is not like a shoe, whoever looked at both"
    assert reason(found, "walker").category == "Shoes"


def test_similar_leaves_out_what_the_person_touched_and_goes_by_the_last_three() -> None:
    catalog = [CatalogProduct(f"{kind}{n}", categories=(kind,)) for kind in "abcd" for n in (1, 2)]
    looked = [(f"{kind}1", NOW_MS - 10 + place) for place, kind in enumerate("abcd")]
    found = similar(ask(person(looked), catalog), 10)
    assert ids(found) == ["d2", "c2", "b2"], "the last first, and a is the fourth"
    assert [recommendation.reason.because_of for recommendation in found] == ["d1", "c1", "b1"]


def test_similar_compares_a_bounded_number_of_products_with_each() -> None:
    catalog = DictCatalog(CatalogProduct(f"p{n:04}", categories=("A", "B")) for n in range(1_000))
    looked: list[str] = []

    class Counting(DictCatalog):
        def product(self, product_id: str) -> CatalogProduct | None:
            looked.append(product_id)
            return super().product(product_id)

    assert len(similar(ask(person([("p0000", NOW_MS)]), Counting(catalog.products.values())), MAX_PROPOSED)) > 50
    assert len(looked) <= MAX_CANDIDATES + 1


# ---------------------------------------------------------------------- trends


def test_trending_is_the_wider_list_of_trends() -> None:
    found = trending(ask(models=models_of({"a": 0.1, "b": 0.3, "c": 0.1})), 10)
    assert ids(found) == ["b", "a", "c"]
    assert found[0] == Recommendation("b", 0.3, Reason(ReasonKind.REASON_KIND_TRENDING))


def test_trending_in_category_looks_where_the_person_looked_last_and_most() -> None:
    catalog = [
        CatalogProduct("shoe", categories=("Shoes",)),
        CatalogProduct("shoe2", categories=("Shoes",)),
        CatalogProduct("bag", categories=("Bags",)),
        CatalogProduct("bag2", categories=("Bags",)),
        CatalogProduct("pan", categories=("Kitchen",)),
        CatalogProduct("both", categories=("Shoes", "Bags")),
    ]
    profile = person([("bag", NOW_MS - 3), ("shoe2", NOW_MS - 2), ("shoe", NOW_MS - 1)])
    models = models_of({"pan": 0.5, "bag2": 0.2, "shoe2": 0.2, "both": 0.15, "gone": 0.3})
    found = trending_in_category(ask(profile, catalog, models=models), 10)
    assert ids(found) == ["shoe2", "both", "bag2"]
    assert reason(found, "both") == Reason(ReasonKind.REASON_KIND_TRENDING_IN_CATEGORY, category="Shoes")
    assert reason(found, "bag2").category == "Bags"
    assert [recommendation.score for recommendation in found] == pytest.approx([1.8 * 0.2, 1.8 * 0.15, 0.64 * 0.2])


def test_no_more_than_five_categories_of_twelve_looks_are_looked_into() -> None:
    catalog = [CatalogProduct(f"p{n:02}", categories=(f"C{n:02}",)) for n in range(20)]
    profile = person([(f"p{n:02}", NOW_MS - 100 + n) for n in range(20)])
    found = trending_in_category(ask(profile, catalog, models=models_of([f"p{n:02}" for n in range(20)])), 20)
    assert set(ids(found)) == {f"p{n:02}" for n in range(20 - MAX_CATEGORIES, 20)}
    assert MAX_CATEGORIES < MAX_LOOKS


def test_the_trends_of_a_category_are_made_once_a_minute_for_models_and_catalog() -> None:
    catalog, models = DictCatalog([CatalogProduct("a", categories=("A",))]), models_of(["a", "b"])
    profile = person([("a", NOW_MS - 1)])
    assert ids(trending_in_category(ask(profile, catalog, models=models), 5)) == ["a"]
    catalog.products["b"] = CatalogProduct("b", categories=("A",))
    assert ids(trending_in_category(ask(profile, catalog, models=models), 5)) == ["a"]
    assert ids(trending_in_category(ask(profile, catalog, models=models, now_ms=NOW_MS + MINUTE_MS), 5)) == ["a", "b"]
    assert len(models.derived) == 1
    moved = DictCatalog([CatalogProduct("a", categories=("B",))])
    assert trending_in_category(ask(profile, moved, models=models), 5)[0].reason.category == "B", "another catalog is another grouping"


# ---------------------------------------------------------------------- the shop


def test_new_arrivals_were_published_by_now_and_within_sixty_days_the_newest_first() -> None:
    catalog = [
        CatalogProduct("today", published_at_ms=NOW_MS),
        CatalogProduct("in-a-second", published_at_ms=NOW_MS + 1_000),
        CatalogProduct("listed", listed_at_ms=NOW_MS - DAY_MS),
        CatalogProduct("published-long-ago", published_at_ms=NOW_MS - 61 * DAY_MS, listed_at_ms=NOW_MS),
        CatalogProduct("sixty", published_at_ms=NOW_MS - 60 * DAY_MS),
    ]
    found = new_arrivals(ask(None, catalog), 10)
    assert ids(found) == ["today", "listed", "sixty"]
    assert {recommendation.reason for recommendation in found} == {Reason(ReasonKind.REASON_KIND_NEW_ARRIVAL)}


def test_what_is_published_within_this_minute_hides_no_arrival_behind_it() -> None:
    soon = [CatalogProduct(f"soon{n:03}", published_at_ms=NOW_MS + 10) for n in range(150)]
    here = [CatalogProduct(f"here{n:03}", published_at_ms=NOW_MS - 1) for n in range(50)]
    assert len(new_arrivals(ask(None, soon + here), 50)) == 50


def test_in_the_shop_is_whatever_is_listed_the_newest_first() -> None:
    catalog = [CatalogProduct(product_id, listed_at_ms=at_ms) for product_id, at_ms in (("b", 5), ("a", 5), ("new", 9))]
    found = in_the_shop(ask(None, catalog), 2)
    assert ids(found) == ["new", "a"]
    assert found[0].reason == Reason(ReasonKind.REASON_KIND_IN_THE_SHOP)
