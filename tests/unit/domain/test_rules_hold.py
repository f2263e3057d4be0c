"""No list, personal or fallback, shows what a rule, a filter or a cap forbids; and where anything may be shown, something is.

Random shops, people, rules and slots, 10^5 lists (TIDINGS_PROPERTY_CASES=1000000 for more), each judged by an oracle that reads the plain
rows that the shop was made of and knows nothing of the code it judges. Seeded, in plain loops: Hypothesis takes ten times as long.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from app.domain.catalog import NEVER_MS, CatalogProduct
from app.domain.rules import Rules
from app.domain.slots import Selection, Slot, recommend
from app.settings import RuleSettings, SlotSettings, StrategyName
from tests.unit.domain.shop_worlds import DAY_MS, MINUTE_MS, NOW_MS, DictCatalog, Taught, ask, models_of, person

CASES = int(os.environ.get("TIDINGS_PROPERTY_CASES", "100000"))
SEEDS = 10
#: Of these; the others are long.
QUICK_SEEDS = 2
PEOPLE, RULE_SETS, SLOTS = 8, 4, 8

Row = dict[str, Any]
STRATEGIES = list(StrategyName.__args__)
CATEGORIES = ["Shoes", "Shoes > Running", "Shoes > Running > Trail", "Shoes and more", "Bags", "Bags > Small"]
BRANDS = ["", "Acme", "Bolt", "Cove"]
REGIONS = [[], [], [], ["NL"], ["NL", "BE"], ["FR"]]
GHOSTS = ["ghost1", "ghost2", "ghost3"]


def _is_at_least(one: int | None, other: int | None) -> bool | None:
    """Two that are not known are alike, so the one is at least the other: the library says so. One alone cannot be compared."""
    if one is None or other is None:
        return True if one is other else None
    return one >= other


#: Conditions, and what they mean: True, False, or None where they cannot be told.
CONDITIONS: dict[str, Callable[[Row], bool | None]] = {
    'brand == "Acme"': lambda row: row["brand"] == "Acme",
    "price < 1000": lambda row: None if row["price"] is None else row["price"] < 1000,
    '"18+" in attributes.rating': lambda row: "18+" in row["attributes"].get("rating", []),
    '"Bags" in categories and brand != ""': lambda row: "Bags" in row["categories"] and row["brand"] != "",
    "price >= list_price": lambda row: _is_at_least(row["price"], row["list_price"]),
    'product_id =~ "p1.*"': lambda row: row["product_id"].startswith("p1"),
    "price == null": lambda row: row["price"] is None,
}


# ---------------------------------------------------------------------- worlds


def shop(random: Random) -> list[Row]:
    """Rows of a few products; sometimes none."""
    return [_row(random, f"p{number}") for number in range(random.choice([0, 1, 4, 10, 20, 20, 30]))]


def _row(random: Random, product_id: str) -> Row:
    moment = [0, NOW_MS - 90 * DAY_MS, NOW_MS - DAY_MS, NOW_MS, NOW_MS + 1, NOW_MS + DAY_MS, NEVER_MS]
    return {
        "product_id": product_id,
        "price": random.choice([None, 0, 500, 999, 1000, 2500, 5000]),
        "list_price": random.choice([None, None, 1000, 3000]),
        "currency": "EUR",
        "in_stock": random.random() < 0.8,
        "categories": random.sample(CATEGORIES, random.choice([0, 1, 1, 2])),
        "brand": random.choice(BRANDS),
        "attributes": {"regions": random.choice(REGIONS), "rating": random.choice([["all"], ["18+", "x"], []])},
        "published_at_ms": random.choice(moment[:3] * 4 + moment),
        "expires_at_ms": random.choice([0, 0, 0, 0, NOW_MS - 1, NOW_MS, NOW_MS + 1]),
        "listed_at_ms": NOW_MS - random.randrange(100) * DAY_MS,
        "prices": ((NOW_MS - 50 * DAY_MS, 2500), (NOW_MS - DAY_MS, 500)),
        "back_in_stock_at_ms": random.choice([0, 0, NOW_MS - DAY_MS]),
    }


def catalog_of(rows: list[Row]) -> DictCatalog:
    return DictCatalog(CatalogProduct(**{**row, "categories": tuple(row["categories"])}) for row in rows)


def someone(random: Random, ids: list[str]) -> tuple[Any, Row]:
    """A profile, and what of it the rules may ask."""
    if random.random() < 0.1:
        return None, {"bought": {}, "region": None}
    times = sorted(NOW_MS - random.randrange(60 * DAY_MS) for _ in range(random.choice([0, 3, 10])))
    purchases = {
        product_id: NOW_MS - random.choice([0, 3 * DAY_MS, 7 * DAY_MS, 7 * DAY_MS + 1, 40 * DAY_MS])
        for product_id in random.sample(ids, random.randrange(min(6, len(ids) + 1)))
    }
    attributes = random.choice([{}, {"country": "NL"}, {"country": "FR"}, {"country": 7.0}, {"city": "NL"}])
    profile = person(
        [(random.choice(ids), at_ms) for at_ms in times],
        session=[(random.choice(ids), NOW_MS - MINUTE_MS) for _ in range(random.choice([0, 0, 2]))],
        cart=[(product_id, NOW_MS - DAY_MS) for product_id in random.sample(ids, random.randrange(min(3, len(ids) + 1)))],
        purchases=[(p, at_ms - random.choice([0, 20 * DAY_MS]), at_ms, random.choice([1, 2, 3])) for p, at_ms in purchases.items()],
        attributes=attributes,
        denied=random.random() < 0.1,
    )
    country = attributes.get("country")
    return profile, {"bought": purchases, "region": country if isinstance(country, str) else None}


def taught(random: Random, ids: list[str]) -> Taught:
    def some() -> list[str]:
        return random.sample(ids, random.randrange(min(12, len(ids)) + 1))

    return Taught(
        neighbours={p: {n: random.random() for n in some()} for p in some()},
        bought={p: (9, {n: random.randrange(1, 9) for n in some()}) for p in some()},
    )


def some_rules(random: Random, ids: list[str]) -> Row:
    rules: Row = {}
    if random.random() < 0.3:
        rules["exclude_products"] = random.sample(ids, min(3, len(ids)))
    if random.random() < 0.3:
        rules["exclude_categories"] = random.sample(CATEGORIES, random.choice([1, 2]))
    if random.random() < 0.2:
        rules["exclude_when"] = {f"rule-{n}": text for n, text in enumerate(random.sample(list(CONDITIONS), random.choice([1, 2])))}
    if random.random() < 0.5:
        rules["bought_within_days"] = random.choice([1, 7, 30])
    if random.random() < 0.4:
        rules |= {"region_user_attribute": "country", "region_product_attribute": "regions"}
    if random.random() < 0.2:
        rules["price_floor"] = random.choice([1, 500, 1000])
    return rules


def a_slot(random: Random) -> Row:
    filters: Row = {}
    if random.random() < 0.4:
        filters = {
            "categories": random.choice([[], [], random.sample(CATEGORIES, 2)]),
            "exclude_categories": random.choice([[], [], random.sample(CATEGORIES, 1)]),
            "brands": random.choice([[], [], ["Acme", "Bolt"]]),
            "exclude_brands": random.choice([[], [], ["Bolt"]]),
            "price_from": random.choice([0, 0, 500]),
            "price_to": random.choice([0, 0, 1000]),
            "when": random.choice(["", "", *CONDITIONS]),
        }
    names = random.sample(STRATEGIES, random.choice([1, 1, 2, 4]))
    return {
        "name": "slot",
        "length": random.choice([1, 2, 5, 10, 25]),
        "mix": [{"strategy": name, "weight": random.choice([1, 1, 3]), "at_most": random.choice([0, 0, 2])} for name in names],
        "fallback": random.sample(STRATEGIES, random.choice([0, 0, 1, 3])),
        "filters": filters,
        "boosts": [{"when": random.choice(list(CONDITIONS)), "factor": random.choice([0.1, 3.0])}] if random.random() < 0.2 else [],
        "max_per_brand": random.choice([0, 0, 0, 1, 3]),
        "max_per_category": random.choice([0, 0, 0, 1, 2]),
        "category_level": random.choice(["top", "full"]),
        "uncatalogued": random.choice(["hide", "hide", "show"]),
    }


# ---------------------------------------------------------------------- the oracle


def may_be_shown(row: Row | None, product_id: str, shop_is_empty: bool, who: Row, rules: Row, slot: Row) -> bool:
    """Whether a person may see a product, in plain words."""
    if row is None:
        if not shop_is_empty and slot["uncatalogued"] == "hide":
            return False
        # Nothing is known of it: no price, no brand, no category, no attribute; it is in stock for all we know.
        row = {
            "product_id": product_id, "price": None, "list_price": None, "in_stock": True, "categories": [], "brand": "",
            "attributes": {}, "published_at_ms": 0, "expires_at_ms": 0,
        }  # fmt: skip
    price = row["price"]
    if not row["in_stock"]:
        return False
    if row["published_at_ms"] > NOW_MS:
        return False
    if row["expires_at_ms"] != 0 and row["expires_at_ms"] <= NOW_MS:
        return False
    if product_id in rules.get("exclude_products", []):
        return False
    if any(lies_in(has, excluded) for has in row["categories"] for excluded in rules.get("exclude_categories", [])):
        return False
    if any(CONDITIONS[text](row) is not False for text in rules.get("exclude_when", {}).values()):
        return False
    days = rules.get("bought_within_days", 0)
    if days and product_id in who["bought"] and NOW_MS - who["bought"][product_id] <= days * DAY_MS:
        return False
    sold_in = row["attributes"].get("regions", []) if "region_product_attribute" in rules else []
    if sold_in and who["region"] not in sold_in:
        return False
    floor = rules.get("price_floor", 0)
    if floor and (price is None or price < floor):
        return False
    filters = slot["filters"]
    if filters:
        if filters["categories"] and not any(lies_in(has, one) for has in row["categories"] for one in filters["categories"]):
            return False
        if any(lies_in(has, one) for has in row["categories"] for one in filters["exclude_categories"]):
            return False
        if filters["brands"] and row["brand"] not in filters["brands"]:
            return False
        if row["brand"] in filters["exclude_brands"]:
            return False
        if filters["price_from"] and (price is None or price < filters["price_from"]):
            return False
        if filters["price_to"] and (price is None or price > filters["price_to"]):
            return False
        if filters["when"] and CONDITIONS[filters["when"]](row) is not True:
            return False
    return True


def lies_in(category: str, parent: str) -> bool:
    levels, above = category.split(" > "), parent.split(" > ")
    return levels[: len(above)] == above


def judge(selection: Selection, rows: dict[str, Row], who: Row, rules: Row, slot: Row) -> str | None:
    """What is wrong with a list; None if nothing is."""
    shown = [recommendation.product_id for recommendation in selection.recommendations]
    if len(shown) > slot["length"]:
        return "longer than its slot"
    if len(set(shown)) < len(shown):
        return "a product twice"
    for product_id in shown:
        if not may_be_shown(rows.get(product_id), product_id, not rows, who, rules, slot):
            return f"shows {product_id}"
    brands = Counter(rows[p]["brand"] for p in shown if p in rows and rows[p]["brand"])
    if slot["max_per_brand"] and any(count > slot["max_per_brand"] for count in brands.values()):
        return "too many of a brand"
    levels = Counter(
        level
        for p in shown
        if p in rows
        for level in {c if slot["category_level"] == "full" else c.split(" > ")[0] for c in rows[p]["categories"]}
    )
    if slot["max_per_category"] and any(count > slot["max_per_category"] for count in levels.values()):
        return "too many of a category"
    allowed = {product_id for product_id in rows if may_be_shown(rows[product_id], product_id, False, who, rules, slot)}
    if allowed and not shown:
        return "empty although something may be shown"
    if not (slot["max_per_brand"] or slot["max_per_category"]) and len(shown) < slot["length"] and not allowed <= set(shown):
        return "short although more may be shown"
    for product_id, rule, _ in selection.removed:
        if product_id in shown:
            return f"{product_id} is shown and removed"
        if product_id in allowed and not rule.startswith("max_per_"):
            return f"{product_id} is removed by {rule} although it may be shown"
    return None


# ---------------------------------------------------------------------- the test


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [*range(QUICK_SEEDS), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(QUICK_SEEDS, SEEDS))])
def test_no_list_breaks_a_rule_and_none_is_empty_without_need(seed: int) -> None:
    random = Random(seed)
    judged = full = 0
    while judged < CASES // SEEDS:
        rows = shop(random)
        ids = [row["product_id"] for row in rows] + GHOSTS
        by_id = {row["product_id"]: row for row in rows}
        catalog, source = catalog_of(rows), taught(random, ids)
        models = models_of(random.sample(ids, random.randrange(len(ids) + 1)))
        people = [someone(random, ids) for _ in range(PEOPLE)]
        rule_sets = [(plain, Rules.of(RuleSettings(**plain))) for plain in (some_rules(random, ids) for _ in range(RULE_SETS))]
        slots = [(plain, Slot.of(SlotSettings(**plain))) for plain in (a_slot(random) for _ in range(SLOTS))]
        for profile, who in people:
            query = ask(profile, catalog, source=source, models=models)
            for plain_rules, rules in rule_sets:
                for plain_slot, slot in slots:
                    selection = recommend(query, slot, rules, explain=judged % 4 == 0)
                    wrong = judge(selection, by_id, who, plain_rules, plain_slot)
                    assert wrong is None, str((wrong, selection, who, plain_rules, plain_slot, rows))
                    judged += 1
                    full += len(selection.recommendations) == slot.length
    assert judged < 5_000 or judged // 10 < full < judged * 9 // 10, "the worlds have become too easy or too hard to say anything"


def test_the_oracle_objects_to_each_forbidden_product() -> None:
    """The judge itself can say no: a list that ignores the rules is found out."""
    random = Random(1)
    objections = Counter[str]()
    for _ in range(300):
        rows = [row for row in shop(random) if row]
        who = someone(random, [row["product_id"] for row in rows] + GHOSTS)[1]
        lawless = recommend(ask(None, catalog_of(rows)), Slot("slot", 50), Rules())
        slot = {**a_slot(random), "length": 50}
        wrong = judge(lawless, {row["product_id"]: row for row in rows}, who, some_rules(random, GHOSTS), slot)
        objections["none" if wrong is None else wrong.split(" ")[0]] += 1
    assert objections["shows"] > 50
    assert objections["too"] > 5
