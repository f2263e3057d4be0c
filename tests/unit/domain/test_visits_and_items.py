"""What interactions mean for items: links by distance, sums that do not depend on order, tables that stay bounded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from app.domain.decay import HALF_LIFE_MS, UNIT, WINDOW_MS
from app.domain.items import (
    KEPT_BOUGHT,
    KEPT_NEIGHBOURS,
    MAX_BOUGHT,
    MAX_NEIGHBOURS,
    REPLY_BOUGHT,
    REPLY_NEIGHBOURS,
    ItemState,
    add_bought,
    add_visits,
    apply_visit,
    decode_item,
    encode_item,
    neighbour_list,
    new_item,
    product_of,
    wire_ids,
)
from app.domain.profile import Interaction
from app.domain.visit_records import decode_visits, encode_visits
from app.domain.visits import KIND_WEIGHTS, MAX_DISTANCE, Visit, visits_of
from tests.unit.domain.event_worlds import NOON_MS
from tidings.state.v1.item_pb2 import Item
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.profile_pb2 import InteractionKind

VIEW = InteractionKind.INTERACTION_KIND_VIEW
#: The start of a decay window, where one visit weighs exactly UNIT.
START_MS = (NOON_MS // WINDOW_MS) * WINDOW_MS


def came(product_id: str, session: list[str], earlier: list[str] | None = None, at_ms: int = START_MS) -> Interaction:
    return Interaction("ada", product_id, VIEW, at_ms, session, earlier or [])


def links(visit: Visit) -> dict[str, int]:
    return dict(zip(visit.neighbour_ids, visit.neighbour_weights, strict=True))


def visited(product_id: str, visits: Iterable[Visit]) -> ItemState:
    item = new_item(product_id)
    for visit in visits:
        apply_visit(item, visit)
    return item


def answered(item: ItemState, limit: int = REPLY_NEIGHBOURS) -> NeighbourList:
    return NeighbourList.FromString(neighbour_list(item, limit))


def test_every_kind_of_interaction_has_a_weight():
    assert set(KIND_WEIGHTS) == set(InteractionKind.values()) - {InteractionKind.INTERACTION_KIND_UNSPECIFIED}
    assert all(round(UNIT * weight) > 0 for weight in KIND_WEIGHTS.values())


def test_the_first_product_of_a_person_is_an_arrival_without_links():
    (arrival,) = visits_of(came("p1", []), 7)
    assert (arrival.source_offset, arrival.product_id, arrival.weight, arrival.reply_to_user_id) == (7, "p1", UNIT, "ada")
    assert links(arrival) == {}


def test_links_fade_with_distance_and_are_weaker_backward():
    arrival, *forward = visits_of(came("new", ["p3", "p2", "p1"]), 7)
    assert links(arrival) == {"p1": round(UNIT * 0.7), "p2": round(UNIT / 2 * 0.7), "p3": round(UNIT / 3 * 0.7)}
    assert [(visit.product_id, links(visit)) for visit in forward] == [
        ("p1", {"new": UNIT}),
        ("p2", {"new": UNIT // 2}),
        ("p3", {"new": round(UNIT / 3)}),
    ]
    assert all((visit.weight, visit.reply_to_user_id, visit.source_offset) == (0, "", 7) for visit in forward)


def test_products_of_earlier_sessions_fill_up_the_distance_at_less_worth():
    arrival, *_ = visits_of(came("new", ["p1"], ["e5", "e4", "e3", "e2", "e1"]), 0)
    expected = {"p1": 1.0, "e1": 0.3 / 2, "e2": 0.3 / 3, "e3": 0.3 / 4, "e4": 0.3 / 5}
    assert links(arrival) == {product: round(UNIT * worth * 0.7) for product, worth in expected.items()}


def test_links_reach_five_products_back():
    arrival, *forward = visits_of(came("new", [f"p{n}" for n in range(9)], ["e"]), 0)
    assert list(links(arrival)) == ["p8", "p7", "p6", "p5", "p4"]
    assert len(forward) == MAX_DISTANCE


def test_a_product_met_twice_gets_one_visit_with_both_links_and_none_links_to_itself():
    _, *forward = visits_of(came("new", ["p1", "new", "p1"]), 0)
    assert [(visit.product_id, links(visit)) for visit in forward] == [("p1", {"new": UNIT + round(UNIT / 3)})]


def test_a_visit_weighs_twice_as_much_a_half_life_later():
    later = visits_of(came("p", [], at_ms=START_MS + HALF_LIFE_MS), 0)[0]
    assert later.weight == 2 * UNIT


INTERACTIONS = st.builds(
    lambda kind, *rest: Interaction("ada", rest[0], kind, rest[3], rest[1], rest[2], () if kind == VIEW else tuple(rest[4])),
    st.sampled_from([VIEW, InteractionKind.INTERACTION_KIND_PURCHASE]),
    st.sampled_from("abcdef"),
    st.lists(st.sampled_from("abcdef"), max_size=6),
    st.lists(st.sampled_from("abcdef"), max_size=6),
    st.integers(NOON_MS, NOON_MS + 90 * 86_400_000),
    st.lists(st.sampled_from("abcdef"), max_size=5, unique=True),
)


@given(st.lists(INTERACTIONS, min_size=2, max_size=12), st.data())
def test_the_order_of_visits_does_not_matter_where_nothing_was_cut(interactions, data):
    visits = [
        visit for offset, interaction in enumerate(interactions) for visit in visits_of(interaction, offset) if visit.product_id == "a"
    ]
    shuffled = data.draw(st.permutations(visits))
    item = visited("a", visits)
    assert item.evicted_count == 0
    assert item == visited("a", shuffled)


@given(st.lists(INTERACTIONS, min_size=1, max_size=8), st.data())
def test_encoding_and_decoding_between_visits_changes_nothing(interactions, data):
    visits = [visit for offset, interaction in enumerate(interactions) for visit in visits_of(interaction, offset)]
    cut = data.draw(st.integers(0, len(visits)))
    stored = decode_item(encode_item(visited("a", visits[:cut])))
    for visit in visits[cut:]:
        apply_visit(stored, *decode_visits(encode_visits(0, [visit])).visits())
    assert encode_item(stored) == encode_item(visited("a", visits))


def bought(product_id: str, *before: str) -> Interaction:
    """Bought after these, by someone who looked at nothing."""
    return Interaction("ada", product_id, InteractionKind.INTERACTION_KIND_PURCHASE, START_MS, [], [], before)


def test_a_purchase_counts_at_the_product_and_links_it_both_ways_to_what_the_person_bought_last():
    arrival, *others = visits_of(bought("new", "a", "b"), 7)
    assert (arrival.is_purchase, arrival.bought_ids, arrival.weight) == (True, ("a", "b"), UNIT)
    assert [(visit.product_id, visit.bought_ids, visit.weight, visit.is_purchase) for visit in others] == [
        ("a", ("new",), 0, False), ("b", ("new",), 0, False),
    ]  # fmt: skip
    item = visited("new", [arrival])
    assert (item.purchase_count, item.visit_count) == (1, 1)
    assert item.bought == dict.fromkeys(wire_ids(["a", "b"]), 1)
    assert visited("a", others[:1]).bought == dict.fromkeys(wire_ids(["new"]), 1)
    assert visited("a", others[:1]).purchase_count == visited("a", others[:1]).visit_count == 0


def test_a_product_that_was_seen_before_and_bought_before_gets_one_visit_with_both():
    interaction = Interaction("ada", "new", InteractionKind.INTERACTION_KIND_PURCHASE, START_MS, ["a", "x"], [], ("a", "b"))
    _, *others = visits_of(interaction, 0)
    assert [(visit.product_id, visit.neighbour_ids, visit.bought_ids) for visit in others] == [
        ("x", ("new",), ()), ("a", ("new",), ("new",)), ("b", (), ("new",)),
    ]  # fmt: skip


def test_an_answer_says_what_was_bought_together_most_often_first_and_only_where_something_was_bought():
    visits = [visits_of(bought("i", *together), 0)[0] for together in (["b", "a"], ["c", "b"], ["b"])]
    answer = answered(visited("i", visits))
    assert (answer.purchase_count, list(answer.bought_ids), list(answer.bought_counts)) == (3, ["b", "a", "c"], [3, 1, 1])
    assert len(answered(visited("i", [visits_of(bought("i", f"p{n}"), 0)[0] for n in range(20)])).bought_ids) == REPLY_BOUGHT
    assert answered(visited("i", [linked("n", 1)])).purchase_count == 0


def test_what_was_bought_together_is_cut_to_the_best_15_when_it_passes_30():
    item = visited("i", [visits_of(bought("i", f"n{n % 30:02}"), 0)[0] for n in range(45)])
    assert (len(item.bought), item.bought_evicted_count) == (MAX_BOUGHT, 0)
    apply_visit(item, visits_of(bought("i", "one more"), 0)[0])
    assert sorted(item.bought) == wire_ids(f"n{n:02}" for n in range(KEPT_BOUGHT))
    assert item.bought_evicted_count == MAX_BOUGHT + 1 - KEPT_BOUGHT


def test_each_neighbour_has_the_number_of_its_links_and_an_answer_carries_it():
    item = visited("i", [linked("n", 5), linked("m", 1), linked("n", 3)])
    assert (item.weights(), item.counts()) == ({"n": 8, "m": 1}, {"n": 2, "m": 1})
    assert list(answered(item).counts) == [2, 1]
    for _ in range(300):
        apply_visit(item, linked("n", 1))
    assert list(answered(item).counts) == [302, 1]
    apply_visit(item, Visit(0, "i", 3 * WINDOW_MS))
    assert (item.weights()["n"], item.counts()["n"]) == (0, 302), "weights fade, counts do not"


def test_an_item_from_before_links_were_counted_is_read_with_none():
    stored = Item(product_id="i", neighbour_ids=["n"], neighbour_weights=[7]).SerializeToString()
    assert (decode_item(stored).weights(), decode_item(stored).counts()) == ({"n": 7}, {"n": 0})


def test_a_hot_item_seen_a_million_times_stays_within_its_bounds():
    item = new_item("hot")
    ids = wire_ids(f"product-{number:06}" for number in range(997))
    rounds, size = 1_000, 1_000
    times, weights, counts = [START_MS + HALF_LIFE_MS] * size, [2 * UNIT] * size, [1] * size
    for number in range(rounds):
        add_visits([item] * size, times, weights, counts, iter([(ids[(number + n * n) % 997], 2 * UNIT) for n in range(size)]))
        add_bought(item, ids[number % 997])
    item.purchase_count = rounds
    assert (item.visit_count, item.weight) == (10**6, 10**6 * 2 * UNIT)
    assert len(item.neighbours) <= MAX_NEIGHBOURS
    assert len(item.bought) <= MAX_BOUGHT
    assert max(item.weights().values()) < 1 << 64
    assert len(encode_item(item)) < 4_000
    assert len(neighbour_list(item)) < 1_000
    assert decode_item(encode_item(item)) == item


@pytest.mark.parametrize(
    "broken",
    [{"neighbour_ids": ["x"]}, {"neighbour_weights": [1]}, {"neighbour_counts": [1]}, {"bought_ids": ["x"]}, {"bought_counts": [1]}],
)
def test_an_item_whose_lists_do_not_fit_together_is_not_read(broken):
    with pytest.raises(DecodeError, match="one length"):
        decode_item(Item(product_id="i", **broken).SerializeToString())


@given(st.text(max_size=300))
def test_a_wire_id_is_what_protobuf_writes(product_id):
    [wire] = wire_ids([product_id])
    assert Item(product_id=product_id).SerializeToString() in (b"", b"\x0a" + wire)
    assert product_of(wire) == product_id


def linked(neighbour_id: str, weight: int) -> Visit:
    return Visit(0, "i", WINDOW_MS, neighbour_ids=(neighbour_id,), neighbour_weights=(weight,))


def test_neighbours_are_cut_to_the_best_50_when_they_pass_100_and_ties_stand_by_id():
    visits = [linked(f"n{number:03}", 5 if number < 80 else 9) for number in reversed(range(MAX_NEIGHBOURS))]
    item = visited("i", visits)
    assert (len(item.neighbours), item.evicted_count) == (MAX_NEIGHBOURS, 0)
    apply_visit(item, linked("one more", 1))
    expected = [f"n{number:03}" for number in (*range(30), *range(80, 100))]
    assert sorted(item.weights()) == expected
    assert (len(expected), item.evicted_count) == (KEPT_NEIGHBOURS, 51)
    assert item.weights()["n080"] == 9


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), max_size=300))
def test_an_item_is_stored_as_protobuf_itself_would_write_it_and_bounded_whatever_comes(rows):
    item = visited("i", [linked(f"n{number}", weight) for number, weight in rows])
    stored = Item.FromString(encode_item(item))
    assert dict(zip(stored.neighbour_ids, stored.neighbour_weights, strict=True)) == item.weights()
    assert dict(zip(stored.neighbour_ids, stored.neighbour_counts, strict=True)) == item.counts()
    assert len(stored.neighbour_ids) == len(item.neighbours) <= MAX_NEIGHBOURS
    assert decode_item(stored.SerializeToString()) == item


def test_a_later_window_shifts_weights_down_and_a_late_visit_is_shifted_on_arrival():
    early = Visit(0, "i", WINDOW_MS, weight=3 << 16, neighbour_ids=("n",), neighbour_weights=(5 << 16,))
    later = Visit(0, "i", 2 * WINDOW_MS, weight=100, neighbour_ids=("n",), neighbour_weights=(10,))
    for visits in ([early, later], [later, early]):
        item = visited("i", visits)
        assert (item.window, item.weight, item.weights(), item.visit_count) == (2, 103, {"n": 15}, 2)
        assert item.last_visit_at_ms == 2 * WINDOW_MS


def test_windows_far_apart_leave_nothing_but_the_count_of_the_older_visit():
    item = visited("i", [Visit(0, "i", WINDOW_MS, weight=1 << 36), Visit(0, "i", 9 * WINDOW_MS, weight=7)])
    assert (item.visit_count, item.weight) == (2, 7)


def test_an_answer_has_the_best_neighbours_first_and_ties_stand_by_id():
    visits = [linked(name, weight) for name, weight in (("b", 5 * UNIT), ("c", 9 * UNIT), ("a", 5 * UNIT), ("d", 1 * UNIT))]
    answer = answered(visited("i", visits), limit=3)
    assert list(answer.neighbour_ids) == ["c", "a", "b"]
    assert list(answer.scores) == [9.0, 5.0, 5.0]
    assert answer.visit_count == 0


def test_an_answer_has_20_neighbours_unless_asked_for_more():
    item = visited("i", [linked(f"n{number}", 1) for number in range(30)])
    assert len(answered(item).neighbour_ids) == REPLY_NEIGHBOURS
    assert len(answered(item, limit=100).neighbour_ids) == 30


def test_the_links_of_a_frequent_item_count_less():
    rare = visited("i", visits_of(came("i", ["n"]), 0)[:1])
    frequent = visited("i", [*visits_of(came("i", ["n"]), 0)[:1], *(visits_of(came("i", []), n)[0] for n in range(1, 8))])
    assert answered(rare).scores[0] == pytest.approx(0.7 / 2**0.7)
    assert answered(frequent).scores[0] == pytest.approx(0.7 / 9**0.7)


def test_scores_fade_by_the_items_own_clock():
    old = visits_of(came("i", ["n"]), 0)[0]
    item = visited("i", [old, Visit(0, "i", START_MS + HALF_LIFE_MS)])
    assert answered(item).scores[0] == pytest.approx(0.35 / 1.5**0.7)


def test_the_answer_of_an_item_nobody_visited_is_empty():
    assert list(answered(new_item("i")).neighbour_ids) == []
