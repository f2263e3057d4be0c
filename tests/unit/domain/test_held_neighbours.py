"""What the items answered to one person: the latest answer of each item, and not too many."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from app.domain.held_neighbours import MAX_NEIGHBOUR_LISTS, Answer, HeldNeighbours, decode_held_neighbours, encode_held_neighbours
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours


def answer(product_id: str, visit_count: int = 1, **scores: float) -> Answer:
    message = NeighbourList(product_id=product_id, visit_count=visit_count, neighbour_ids=list(scores), scores=list(scores.values()))
    return Answer.of(message.SerializeToString())


def test_only_a_later_answer_of_an_item_replaces_the_one_held():
    held = HeldNeighbours()
    assert held.keep(answer("p1", 5, p2=1.0))
    assert not held.keep(answer("p1", 5, p3=1.0))
    assert not held.keep(answer("p1", 4))
    assert held.neighbours("p1") == (1.0, ["p2"], [1.0])
    assert held.keep(answer("p1", 6, p3=0.5))
    assert held.neighbours("p1") == (1.0, ["p3"], [0.5])
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
    value = encode_held_neighbours(held)
    assert list(UserNeighbours.FromString(value).lists) == held.messages()
    assert list(decode_held_neighbours(value).answers.items()) == list(held.answers.items())
    assert decode_held_neighbours(encode_held_neighbours(HeldNeighbours())).answers == {}


def test_bytes_that_are_no_answers_are_refused():
    with pytest.raises(DecodeError):
        decode_held_neighbours(b"\xff")
