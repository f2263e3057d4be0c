"""Purchases of a person, by product: first, last and how often, whatever order they come in, and not too many."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.profile import fold_event, new_profile
from app.domain.purchases import MAX_PURCHASES, remember_purchase
from tests.unit.domain.event_worlds import NOON_MS, event, ordered
from tidings.events.v1.event_pb2 import OrderLine
from tidings.state.v1.profile_pb2 import Profile

Row = tuple[str, int, int, int]


def rows(profile: Profile) -> list[Row]:
    """(product, first, last, orders), in the order they stand in."""
    purchases = profile.purchases
    return list(zip(purchases.product_ids, purchases.first_at_ms, purchases.last_at_ms, purchases.counts, strict=True))


def after(*orders: tuple[str, int]) -> list[Row]:
    profile = new_profile("ada")
    for product_id, at_ms in orders:
        remember_purchase(profile, product_id, at_ms)
    return rows(profile)


def test_first_last_and_count_are_kept_and_the_one_bought_longest_ago_stands_first() -> None:
    assert after(("a", 10), ("b", 20), ("a", 30)) == [("b", 20, 20, 1), ("a", 10, 30, 2)]


def test_a_late_order_counts_and_moves_the_first_time_back() -> None:
    assert after(("a", 30), ("b", 20), ("a", 10), ("a", 25)) == [("b", 20, 20, 1), ("a", 10, 30, 3)]


def test_an_order_at_the_same_time_is_the_same_order() -> None:
    assert after(("a", 10), ("a", 10), ("a", 30), ("a", 30), ("a", 10)) == [("a", 10, 30, 2)]


def test_past_the_bound_the_product_bought_longest_ago_goes_even_if_it_came_last() -> None:
    known = [(f"p{n}", n) for n in range(1, MAX_PURCHASES + 1)]
    assert after(*known, ("late", 0)) == after(*known)
    assert [row[0] for row in after(*known, ("new", 999))] == [*(f"p{n}" for n in range(2, MAX_PURCHASES + 1)), "new"]


def test_the_fold_counts_an_order_once_whatever_its_lines_and_quantities() -> None:
    profile = new_profile("ada")
    lines = [OrderLine(product_id="a", quantity=7), OrderLine(product_id="b"), OrderLine(product_id="a")]
    fold_event(profile, event("e1", NOON_MS, order_placed={"order_id": "o", "lines": lines}))
    fold_event(profile, ordered(["a"], "e2", NOON_MS - 5))
    assert rows(profile) == [("a", NOON_MS - 5, NOON_MS, 2), ("b", NOON_MS, NOON_MS, 1)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 50)), unique=True, max_size=60), st.randoms(use_true_random=False))
def test_orders_at_different_times_come_to_the_same_in_any_order(orders: list[tuple[str, int]], random: object) -> None:
    shuffled = list(orders)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis' Random
    plain = []
    for product_id in {product_id for product_id, _ in orders}:
        times = [at_ms for product, at_ms in orders if product == product_id]
        plain.append((product_id, min(times), max(times), len(times)))
    assert sorted(after(*orders)) == sorted(after(*shuffled)) == sorted(plain)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300).map("p{}".format), st.integers(0, 1_000)), max_size=400))
def test_columns_stay_of_one_length_sorted_bounded_and_each_product_once(orders: list[tuple[str, int]]) -> None:
    found = after(*orders)
    assert len(found) <= MAX_PURCHASES
    assert [row[2] for row in found] == sorted(row[2] for row in found)
    assert len({row[0] for row in found}) == len(found)
    assert all(first <= last and count >= 1 and (first < last) == (count > 1) for _, first, last, count in found)
    assert not orders or found
