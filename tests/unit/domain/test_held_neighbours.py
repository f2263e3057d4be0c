"""What the items answered to one person: the latest answer of each item, and not too many."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from app.domain.held_neighbours import MAX_NEIGHBOUR_LISTS, HeldNeighbours, decode_held_neighbours, encode_held_neighbours
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours


def answer(product_id: str, **scores: float) -> bytes:
    return NeighbourList(product_id=product_id, visit_count=1, neighbour_ids=list(scores), scores=list(scores.values())).SerializeToString()


def test_only_a_later_answer_of_an_item_replaces_the_one_held():
    held = HeldNeighbours()
    assert held.keep("p1", 5, answer("p1", p2=1.0))
    assert not held.keep("p1", 5, answer("p1", p3=1.0))
    assert not held.keep("p1", 4, answer("p1"))
    assert held.neighbours("p1") == (1.0, ["p2"], [1.0])
    assert held.keep("p1", 6, answer("p1", p3=0.5))
    assert held.neighbours("p1") == (1.0, ["p3"], [0.5])
    assert held.neighbours("p3") is None


def test_past_the_bound_the_list_answered_longest_ago_goes():
    held = HeldNeighbours()
    for number in range(MAX_NEIGHBOUR_LISTS):
        held.keep(f"p{number}", 1, answer(f"p{number}"))
    held.keep("p0", 2, answer("p0"))
    held.keep("new", 1, answer("new"))
    assert [message.product_id for message in held.messages()] == [*(f"p{n}" for n in range(2, MAX_NEIGHBOUR_LISTS)), "p0", "new"]


def test_what_is_stored_comes_back_in_its_order():
    held = HeldNeighbours()
    for product, count in (("b", 3), ("a", 1), ("c", 1 << 40), ("b", 4)):
        held.keep(product, count, answer(product, x=0.5))
    back = decode_held_neighbours(encode_held_neighbours(held))
    assert list(back.lists.items()) == list(held.lists.items())
    assert decode_held_neighbours(encode_held_neighbours(HeldNeighbours())).lists == {}


@pytest.mark.parametrize("value", [b"\xff", UserNeighbours(product_ids=["p1"], visit_counts=[1]).SerializeToString()])
def test_bytes_that_are_no_answers_are_refused(value: bytes):
    with pytest.raises(DecodeError):
        decode_held_neighbours(value)
