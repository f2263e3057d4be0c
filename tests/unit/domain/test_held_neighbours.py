"""What the items answered to one person: the latest answer of each item, and not too many."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from app.domain.held_neighbours import (
    ENOUGH_NEIGHBOURS,
    MAX_NEIGHBOUR_LISTS,
    MAX_QUESTIONS,
    MAX_SECOND_HOP_LISTS,
    Answer,
    HeldNeighbours,
    decode_held_neighbours,
    encode_held_neighbours,
)
from app.domain.items import REPLY_NEIGHBOURS
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours


def message(product_id: str, visit_count: int = 1, **scores: float) -> NeighbourList:
    return NeighbourList(product_id=product_id, visit_count=visit_count, neighbour_ids=list(scores), scores=list(scores.values()))


def answer(product_id: str, visit_count: int = 1, **scores: float) -> Answer:
    return Answer.of(message(product_id, visit_count, **scores).SerializeToString())


def test_only_a_later_answer_of_an_item_replaces_the_one_held():
    held = HeldNeighbours()
    assert held.keep(answer("p1", 5, p2=1.0))
    assert not held.keep(answer("p1", 5, p3=1.0))
    assert not held.keep(answer("p1", 4))
    assert held.neighbours("p1") == (1.0, {"p2": 1.0})
    assert held.keep(answer("p1", 6, p3=0.5))
    assert held.neighbours("p1") == (1.0, {"p3": 0.5})
    assert held.neighbours("p3") is None


def test_past_the_bound_the_list_answered_longest_ago_goes():
    held = HeldNeighbours()
    for number in range(MAX_NEIGHBOUR_LISTS):
        held.keep(answer(f"p{number}"))
    held.keep(answer("p0", 2))
    held.keep(answer("new"))
    assert [message.product_id for message in held.messages()] == [*(f"p{n}" for n in range(2, MAX_NEIGHBOUR_LISTS)), "p0", "new"]


def test_what_is_stored_is_a_message_and_comes_back_in_its_order():
    held = HeldNeighbours()
    for product, count in (("b", 3), ("a", 1), ("c" * 200, 1 << 40), ("b", 4)):
        held.keep(answer(product, count, x=0.5, y=0.25))
        held.keep_second_hop(answer("far " + product, count, z=0.5))
    value = encode_held_neighbours(held)
    assert list(UserNeighbours.FromString(value).lists) == held.messages()
    assert [message.product_id for message in UserNeighbours.FromString(value).second_hop] == list(held.second_hop)
    stored = decode_held_neighbours(value)
    assert list(stored.answers.items()) == list(held.answers.items())
    assert list(stored.second_hop.items()) == list(held.second_hop.items())
    assert decode_held_neighbours(encode_held_neighbours(HeldNeighbours())).answers == {}


def test_while_the_last_answers_have_few_neighbours_the_best_of_the_newest_are_asked():
    held = HeldNeighbours()
    few = REPLY_NEIGHBOURS - 1
    scores = {f"n{number:02d}": 1.0 for number in range(few)}
    assert held.to_ask(message("known", full=1.0, **scores)) == [], "an answer that is full is of a product that many visited"
    for number in range(ENOUGH_NEIGHBOURS // few + 1):
        newest = f"p{number}"
        assert held.to_ask(message(newest, **scores)) == [f"n{number:02d}" for number in range(MAX_QUESTIONS)]
        held.keep(answer(newest, **scores))
    assert held.to_ask(message(newest, **scores)) == []
    for number in range(2):
        held.keep(answer(f"rare{number}", z=1.0))
    assert held.to_ask(message("rare1", z=1.0)) == ["z"], "of older answers so many count no more"


def test_what_is_held_is_not_asked_for_again():
    held = HeldNeighbours()
    held.keep(answer("a"))
    held.keep_second_hop(answer("b"))
    assert held.to_ask(message("p", a=3.0, b=2.0, c=1.0)) == ["c"]


def test_answers_of_the_second_hop_are_held_apart_and_push_out_only_each_other():
    held = HeldNeighbours()
    for number in range(MAX_NEIGHBOUR_LISTS):
        held.keep(answer(f"p{number}"))
    for number in range(MAX_SECOND_HOP_LISTS + 1):
        assert held.keep_second_hop(answer(f"n{number}", x=1.0))
    assert list(held.answers) == [f"p{number}" for number in range(MAX_NEIGHBOUR_LISTS)]
    assert list(held.second_hop) == [f"n{number}" for number in range(1, MAX_SECOND_HOP_LISTS + 1)]
    assert held.neighbours("n1") == (1.0, {"x": 1.0})
    assert not held.keep_second_hop(answer("n1"))


def test_a_neighbour_that_is_touched_moves_to_what_was_touched():
    held = HeldNeighbours()
    held.keep_second_hop(answer("n"))
    held.keep(answer("n"))
    assert (list(held.answers), list(held.second_hop)) == (["n"], [])
    assert not held.keep_second_hop(answer("n", 2))


def test_bytes_that_are_no_answers_are_refused():
    with pytest.raises(DecodeError):
        decode_held_neighbours(b"\xff")
