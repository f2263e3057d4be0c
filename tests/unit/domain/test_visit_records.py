"""Visits on their way: the same visits arrive that were meant, each at its item's partition, and no event is torn apart."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise
from random import Random

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.profile import Interaction
from app.domain.visit_records import COMPILED, OutgoingVisits, decode_visits, encode_questions, encode_visits, outgoing_visits
from app.domain.visits import KIND_WEIGHTS, Visit, visits_of
from tests.unit.domain.event_worlds import NOON_MS
from tidings.internal.v1.visits_pb2 import Visits
from tidings.state.v1.profile_pb2 import INTERACTION_KIND_PURCHASE, INTERACTION_KIND_VIEW

PARTITIONS = 3
PRODUCTS = st.sampled_from("abcdefgh")


def interaction(user_id: str, product_id: str, at_ms: int, session: list[str], earlier: list[str], bought: list[str] | None) -> Interaction:
    """A purchase if ``bought`` is given."""
    if bought is None:
        return Interaction(user_id, product_id, INTERACTION_KIND_VIEW, at_ms, session, earlier)
    before = tuple(other for other in bought if other != product_id)
    return Interaction(user_id, product_id, INTERACTION_KIND_PURCHASE, at_ms, session, earlier, before)


INTERACTIONS = st.builds(
    interaction,
    st.sampled_from(["ada", "bob"]),
    PRODUCTS,
    st.integers(NOON_MS, NOON_MS + 90 * 86_400_000),
    st.lists(PRODUCTS, max_size=6),
    st.lists(PRODUCTS, max_size=6),
    st.none() | st.lists(PRODUCTS, max_size=5, unique=True),
)
#: Of each event its interactions: none, one, or those of an order.
EVENTS = st.lists(st.lists(INTERACTIONS, max_size=3), max_size=12)


def home(product_id: str) -> int:
    return ord(product_id[-1]) % PARTITIONS


def sent(events: list[list[Interaction]], max_visits: int = 1000, make=outgoing_visits) -> list[tuple[int, bytes]]:
    outgoing = make(3, max_visits, home)
    for offset, interactions in enumerate(events):
        for interaction in interactions:
            outgoing.add(interaction, offset, 1000 + offset)
    return outgoing.take()


def meant(events: list[list[Interaction]], partition: int) -> list[Visit]:
    return [
        visit
        for offset, interactions in enumerate(events)
        for interaction in interactions
        for visit in visits_of(interaction, offset, 1000 + offset)
        if home(visit.product_id) == partition
    ]


@given(EVENTS, st.integers(1, 20))
def test_what_arrives_at_a_partition_is_every_visit_to_its_items_in_order(events, max_visits):
    records = sent(events, max_visits)
    for partition in range(PARTITIONS):
        arrived = [decode_visits(value) for place, value in records if place == partition]
        assert [visit for record in arrived for visit in record.visits()] == meant(events, partition)
        assert {record.source_partition for record in arrived} <= {3}


@given(EVENTS, st.integers(1, 20))
def test_a_record_ends_between_two_events_and_only_when_it_is_full(events, max_visits):
    records = sent(events, max_visits)
    for partition in range(PARTITIONS):
        offsets = [decode_visits(value).offsets for place, value in records if place == partition]
        for one, after in pairwise(offsets):
            assert one[-1] < after[0]
            assert len(one) >= max_visits
        for one in offsets:
            assert sum(offset != one[-1] for offset in one) < max_visits


def test_what_was_taken_is_not_sent_again():
    outgoing = outgoing_visits(0, 10, home)
    outgoing.add(Interaction("ada", "a", INTERACTION_KIND_VIEW, NOON_MS, [], []), 0, 0)
    assert len(outgoing.take()) == 1
    assert outgoing.take() == []


compiled = pytest.mark.skipif(COMPILED is None, reason="not compiled: no C compiler at installation, or not installed since")


@compiled
@settings(deadline=None)
@given(EVENTS, st.integers(1, 20))
def test_compiled_they_are_the_same_to_the_last_byte(events, max_visits):
    assert sent(events, max_visits) == sent(events, max_visits, OutgoingVisits)


@compiled
@pytest.mark.parametrize("seed", range(3))
def test_compiled_they_are_the_same_in_a_large_catalog_of_any_names(seed):
    random = Random(seed)
    names = [*(f"product-{n}" for n in range(1_000)), "é" * 64, "x" * 128, "", "🎁", "\0", *(chr(n) for n in range(0x20, 0x250))]

    def some(most: int) -> list[str]:
        return random.choices(names, k=random.randint(0, most))

    def one(offset: int) -> Interaction:
        bought = tuple(dict.fromkeys(some(5)))
        kind = random.choice(list(KIND_WEIGHTS))
        at_ms = random.choice([0, NOON_MS + random.randint(-(10**12), 10**12), 253402300799999])
        return Interaction(f"u{offset}é", random.choice(names), kind, at_ms, some(30), some(16), bought)

    events = [[one(offset) for _ in range(random.choice([0, 1, 1, 1, 1, 3, 100]))] for offset in range(300)]
    for max_visits in (1, 225, 10**6):
        compiled, plain = (sent_to(make, events, max_visits, partitions=40) for make in (outgoing_visits, OutgoingVisits))
        assert compiled == plain
        assert len(compiled) > 30


def sent_to(make, events: list[list[Interaction]], max_visits: int, partitions: int) -> list[tuple[int, bytes]]:
    """With offsets and times that take many bytes; taken in between."""
    outgoing = make(7_000, max_visits, lambda product_id: sum(product_id.encode()) % partitions)
    records = []
    for place, interactions in enumerate(events):
        for interaction in interactions:
            outgoing.add(interaction, (1 << 60) + place, (1 << 62) + place)
        if place == 150:
            records += outgoing.take()
    return records + outgoing.take()


@compiled
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None, 1, 1),
        (("ada", "p"), 1, 1),
        (Interaction("ada", "p", 1, NOON_MS, None, []), 1, 1),
        (Interaction("ada", "p", 9, NOON_MS, [], []), 1, 1),
        (Interaction("ada", "p", -1, NOON_MS, [], []), 1, 1),
        (Interaction("ada", "p", 1, 1 << 64, [], []), 1, 1),
        (Interaction("ada", "p", 1, NOON_MS, [b"q"], []), 1, 1),
        (Interaction("ada", "p", 1, NOON_MS, [], [None]), 1, 1),
        (Interaction("ada", "p", 3, NOON_MS, [], [], (5,)), 1, 1),
        (Interaction("ada", "\ud800", 1, NOON_MS, [], []), 1, 1),
        (Interaction("\ud800", "p", 1, NOON_MS, [], []), 1, 1),
        (Interaction("ada", "nowhere", 1, NOON_MS, [], []), 1, 1),
        (Interaction("ada", "p", 1, NOON_MS, [], []), "1", 1),
        (Interaction("ada", "p", 1, NOON_MS, [], []), 1, None),
    ],
)
def test_compiled_what_is_no_interaction_is_refused(arguments):
    with pytest.raises((TypeError, ValueError, KeyError, OverflowError)):
        outgoing_visits(0, 10, {"p": 1, "q": 2}.__getitem__).add(*arguments)


@compiled
def test_compiled_they_leave_nothing_behind():
    random = Random(5)
    products = [f"product-{n}" for n in range(600)]
    events = [[Interaction("ada", random.choice(products), 1, NOON_MS, random.choices(products, k=5), [])] for _ in range(300)]

    def blocks(rounds: int) -> int:
        for _ in range(rounds):
            sent(events, 50)
            with pytest.raises(KeyError):
                outgoing_visits(0, 10, {}.__getitem__).add(events[0][0], 1, 1)
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks(3)
    assert blocks(30) - before < 30, "a block for every batch would be 30"


@given(EVENTS)
def test_visits_written_one_by_one_are_read_as_they_were(events):
    visits = meant(events, 0)
    assert list(decode_visits(encode_visits(0, visits)).visits()) == visits


@given(EVENTS, st.integers(-1, 13))
def test_what_was_applied_before_is_left_out(events, offset):
    visits = meant(events, 0)
    since = decode_visits(encode_visits(0, visits)).since(offset)
    assert list(since.visits()) == [visit for visit in visits if visit.source_offset >= offset]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"source_offsets": [7, 8]}, "one length"),
        ({"item_places": [0, 0]}, "one length"),
        ({"occurred_at_ms": []}, "one length"),
        ({"weights": []}, "one length"),
        ({"weights": [0]}, "one length"),
        ({"neighbour_counts": [2]}, "one length"),
        ({"neighbour_counts": [0]}, "one length"),
        ({"neighbour_weights": [1, 2]}, "one length"),
        ({"neighbour_places": [1, 1]}, "one length"),
        ({"reply_to_user_ids": []}, "one length"),
        ({"caused_at_ms": [1, 2]}, "one length"),
        ({"item_places": [2]}, "not there"),
        ({"neighbour_places": [2]}, "not there"),
        ({"products": []}, "not there"),
        ({"purchases": [1]}, "not there"),
        ({"bought_visits": [0]}, "one length"),
        ({"bought_visits": [1], "bought_places": [0]}, "not there"),
        ({"bought_visits": [0], "bought_places": [2]}, "not there"),
    ],
)
def test_a_record_whose_lists_do_not_fit_together_is_not_read(broken, why):
    message = Visits.FromString(encode_visits(0, [Visit(0, "i", NOON_MS, 1, "ada", 5, ("n",), (5,))]))
    for name, values in broken.items():
        message.ClearField(name)
        getattr(message, name).extend(values)
    with pytest.raises(DecodeError, match=why):
        decode_visits(message.SerializeToString())


@given(st.lists(st.tuples(st.sampled_from(["ada", "bob"]), PRODUCTS, st.integers(0, 1 << 42)), max_size=9))
def test_questions_are_read_as_they_were_written_and_are_no_visits(questions):
    record = decode_visits(encode_questions(3, questions))
    assert (record.source_partition, record.questions) == (3, questions)
    assert list(record.since(7).visits()) == []


@pytest.mark.parametrize(
    ("broken", "why"),
    [({"asking_user_ids": []}, "one length"), ({"asked_caused_at_ms": [1, 2]}, "one length"), ({"asked_places": [1]}, "not there")],
)
def test_questions_whose_lists_do_not_fit_together_are_not_read(broken, why):
    message = Visits.FromString(encode_questions(0, [("ada", "p", 5)]))
    for name, values in broken.items():
        message.ClearField(name)
        getattr(message, name).extend(values)
    with pytest.raises(DecodeError, match=why):
        decode_visits(message.SerializeToString())


def test_a_record_whose_offsets_run_backwards_is_not_read():
    visits = [Visit(offset, "i", NOON_MS) for offset in (2, 1)]
    with pytest.raises(DecodeError, match="in order"):
        decode_visits(encode_visits(0, visits))


def test_a_record_as_it_was_written_before_products_had_places_is_not_read_as_an_empty_one():
    former = b"\x12\x01\x07\x1a\x01i\x22\x01\x05\x32\x01\x01\x3a\x01u\x42\x01\x05\x4a\x01\x00"
    with pytest.raises(DecodeError, match="one length"):
        decode_visits(former)
