"""The compiled work on held neighbours says what Python says, and leaves to Python whatever is unusual."""

from __future__ import annotations

import gc
import sys
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from app.domain.held_neighbours import MAX_NEIGHBOUR_LISTS, MAX_SECOND_HOP_LISTS
from app.domain.items import REPLY_NEIGHBOURS
from app.domain.neighbour_work import COMPILED, PLAIN, NeighbourWork, load
from app.domain.replies import Reply, encode_replies
from tests.fuzz.mutation import mutated, mutated_message
from tests.unit.domain.event_worlds import NOON_MS
from tests.unit.domain.ranking_worlds import LETTERS
from tidings.internal.v1.neighbours_pb2 import Neighbours
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours

compiled = pytest.mark.skipif(COMPILED is None, reason="it was not compiled: no C compiler at installation, or not installed since")


def a_name(random: Random) -> str:
    return f"{random.choice(LETTERS)}{random.choice(LETTERS)}{random.randrange(10)}"


def a_list(random: Random) -> bytes:
    count, bought = random.choice([0, 1, 5, REPLY_NEIGHBOURS - 1, REPLY_NEIGHBOURS]), random.choice([0, 0, 3])
    message = NeighbourList(
        product_id=random.choice(["", a_name(random), a_name(random)]), visit_count=random.choice([0, 1, 2, 3, 1 << 63]),
        neighbour_ids=[a_name(random) for _ in range(count)], scores=[random.random() for _ in range(count)], counts=range(count),
        purchase_count=bought, bought_ids=[a_name(random) for _ in range(bought)], bought_counts=[1 << 31] * bought,
    )  # fmt: skip
    value = message.SerializeToString()
    return value if message.visit_count else value + b"\x10\x00"  # as an item writes that nobody came to


def any_replies(random: Random, count: int) -> list[Reply]:
    lists = [a_list(random) for _ in range(1 + count // 2)]
    return [(random.choice(["ann", "bé"]), random.choice(lists), NOON_MS + n, random.random() < 0.4) for n in range(count)]


class World:
    """People's lists in a dict."""

    def __init__(self, work: NeighbourWork) -> None:
        self.work = work
        self.held: dict[bytes, Any] = {}

    def tell(self, value: bytes) -> Any:
        """All that can be seen of it."""
        work, seen = self.work, []
        try:
            replies = work.read_replies(value)
        except DecodeError as exc:
            return str(exc)
        for key, answer, caused_at_ms, is_to_question in replies:
            held = self.held.get(key)
            if held is None:
                held = self.held[key] = work.new()
            kept = work.keep_second_hop(held, answer) if is_to_question else work.keep(held, answer)
            seen.append((key, caused_at_ms, is_to_question, kept, work.to_ask(held, answer)))
        return seen

    def answers(self, products: list[str]) -> Any:
        of_each = [
            (held.neighbours(product), held.links(product), held.together(product), held.bought(product))
            for held in self.held.values()
            for product in products
        ]
        return [(held.damping, held.messages()) for held in self.held.values()], of_each

    def rewrite(self) -> dict[bytes, bytes]:
        written = {key: self.work.encode(held) for key, held in self.held.items()}
        self.held = {key: self.work.decode(value) for key, value in written.items()}
        return written


@compiled
@pytest.mark.parametrize("seed", range(10))
def test_replies_are_kept_asked_about_and_written_the_same(seed):
    random = Random(seed)
    plain, fast = World(PLAIN), World(COMPILED)
    products = ["", "\ud800", *(a_name(random) for _ in range(20))]
    for _ in range(60):
        value = encode_replies(any_replies(random, random.choice([1, 2, 50])))
        assert fast.tell(value) == plain.tell(value)
        assert fast.answers(products) == plain.answers(products)
        if random.random() < 0.5:
            assert fast.rewrite() == plain.rewrite()
    whole = [UserNeighbours.FromString(value) for value in plain.rewrite().values()]
    assert max(len(one.lists) for one in whole) == MAX_NEIGHBOUR_LISTS
    assert max(len(one.second_hop) for one in whole) == MAX_SECOND_HOP_LISTS


def known(value: bytes) -> UserNeighbours:
    """Without fields that are not known, which the compiled work drops from bytes that are none of ours."""
    message = UserNeighbours.FromString(value)
    message.DiscardUnknownFields()
    return message


def seen_of_held(work: NeighbourWork, value: bytes) -> Any:
    try:
        held = work.decode(value)
    except DecodeError as exc:
        return str(exc)
    written = work.encode(held)
    return repr(known(written)), work.encode(work.decode(written)) == written


def seen_of_replies(work: NeighbourWork, value: bytes) -> Any:
    world = World(work)
    said = world.tell(value)
    return said, {key: repr(known(written)) for key, written in world.rewrite().items()}


@compiled
@pytest.mark.parametrize("seed", range(3))
def test_damaged_lists_and_replies_are_refused_in_the_same_words_or_read_the_same(seed):
    random = Random(seed)
    replies = [encode_replies(any_replies(random, count)) for count in (1, 2, 5, 30)]
    world = World(PLAIN)
    for value in replies:
        world.tell(value)
    held = list(world.rewrite().values())
    for kind, corpus, look in ((Neighbours, replies, seen_of_replies), (UserNeighbours, held, seen_of_held)):
        for number in range(400):
            value = mutated_message(kind, random.choice(corpus), random) if number % 2 else mutated(corpus, random)
            assert look(COMPILED, value) == look(PLAIN, value), value


@compiled
def test_only_answers_are_kept():
    held = COMPILED.new()
    for wrong in (None, b"", "shoe", held):
        for work in (COMPILED.keep, COMPILED.keep_second_hop, COMPILED.to_ask):
            with pytest.raises(TypeError):
                work(held, wrong)
    for arguments in ((), (b"shoe", True), ("shoe",)):
        with pytest.raises(TypeError):
            held.find(*arguments)
    assert COMPILED.encode(held) == b""


@compiled
def test_lists_take_less_memory_than_a_table_counts_for_them():
    """With 300 bytes for its key, and the places of both in what keeps them."""
    for count in (0, 1, REPLY_NEIGHBOURS):
        for length in (1, 12, 128):
            lists = [
                NeighbourList(
                    product_id=f"{chr(97 + number)}" * length, visit_count=1, neighbour_ids=["n" * length] * count,
                    scores=[1.0] * count, counts=[1] * count,
                )
                for number in range(MAX_NEIGHBOUR_LISTS)
            ]  # fmt: skip
            value = UserNeighbours(lists=lists, second_hop=lists).SerializeToString()
            assert sys.getsizeof(COMPILED.decode(value)) + 300 < COMPILED.object_bytes + COMPILED.decoded_factor * len(value)


@compiled
def test_nothing_is_left_behind():
    random = Random(3)
    values = [encode_replies(any_replies(random, 30)) for _ in range(4)]

    def work() -> None:
        world = World(COMPILED)
        for value in values:
            for damaged in (value, value[:-1], value + b"\x08", value + b"\x12\x01\xff", b"\xff"):
                world.tell(damaged)
        world.answers(["a", "b"]), world.rewrite()
        for damaged in (b"\xff", *(COMPILED.encode(held) * 2 for held in world.held.values())):
            seen_of_held(COMPILED, damaged)

    counts = []
    for _ in range(4):
        for _ in range(5):
            work()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    assert counts[-1] - counts[1] < 5


def test_an_extension_that_does_not_fit_is_not_used():
    assert load("app.domain._nothing") is None
    assert load("json") is None
