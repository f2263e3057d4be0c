"""The agent that folds visits and answers, run on a dict and a list."""

from __future__ import annotations

import random

import pytest

from app.domain.items import COUNT_BITS, MAX_BOUGHT, MAX_NEIGHBOURS, ItemState, encode_item, wire_ids
from app.domain.purchases import MAX_BOUGHT_LINKS
from app.domain.replies import decode_replies
from app.domain.validation import MAX_ORDER_LINES
from app.domain.visits import MAX_DISTANCE
from app.engine.fence import MAX_BATCH_BYTES
from app.settings import WorkerSettings
from app.streams.fold_items import MAX_REPLIES_IN_RECORD
from app.streams.fold_profiles import MAX_VISITS_IN_RECORD
from tests.agents.worlds import (
    NAMES,
    NOW_MS,
    ItemsBench,
    NeighboursBench,
    ProfilesBench,
    Record,
    bad_record,
    event_records,
    ordered,
    questions_record,
    viewed,
    visit,
    visits_record,
)
from tidings.internal.v1.neighbours_pb2 import Neighbours
from tidings.state.v1.neighbours_pb2 import NeighbourList


async def test_a_visit_is_applied_and_answered_to_the_partition_of_the_user() -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", 7, neighbour="hat", user="anna")], source_partition=3)])

    assert bench.item("shoe").visit_count == 1
    assert list(bench.item("shoe").weights()) == ["hat"]
    assert bench.replies() == [(3, "anna", "shoe")]


async def test_an_answer_carries_the_list_as_it_is_after_the_whole_unit_and_the_time_of_its_first_cause() -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", 7, "hat", "anna")]), visits_record(1, [visit("shoe", 9, "sock", "anna")])])

    [(_, _, value)] = bench.emitted(NAMES.neighbours)
    [(user, answer, caused_at_ms, _)] = decode_replies(value)
    neighbours = NeighbourList.FromString(answer)
    assert (user, neighbours.product_id, sorted(neighbours.neighbour_ids)) == ("anna", "shoe", ["hat", "sock"])
    assert neighbours.visit_count == 2
    assert caused_at_ms == NOW_MS + 7


async def test_a_list_stands_once_in_a_record_however_many_asked() -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", n, "hat", f"u{n}") for n in range(9)])])

    [(_, _, value)] = bench.emitted(NAMES.neighbours)
    assert len(Neighbours.FromString(value).lists) == 1
    assert len(bench.replies()) == 9


async def test_a_repeated_record_of_visits_is_dropped_exactly() -> None:
    bench = ItemsBench()
    record = visits_record(0, [visit("shoe", 7, "hat", "anna"), visit("sock", 8, "hat", "ben")])
    bench.feed([record])
    before, replies = dict(bench.state.bytes_by_key), bench.replies()

    bench.feed([record._replace(offset=1)])

    assert bench.state.bytes_by_key == before
    assert bench.replies() == replies


@pytest.mark.parametrize("seed", range(20))
async def test_visits_repeated_with_other_batch_borders_are_dropped_exactly(seed: int) -> None:
    """What a new owner of an events partition does: it emits again from its mark, in batches of its own."""
    random_ = random.Random(seed)
    visits = [
        visit(f"p{random_.randrange(6)}", offset, f"n{random_.randrange(4)}", f"u{offset % 3}") for offset in range(40) for _ in range(2)
    ]
    once, repeated = ItemsBench(), ItemsBench()
    once.feed([visits_record(0, visits)])

    offset, done = 0, 0
    while done < len(visits):
        start = 2 * random_.randrange(done // 2 + 1)  # from anywhere before what was done: never a hole
        end = 2 * random_.randint(start // 2 + 1, len(visits) // 2)
        repeated.feed([visits_record(offset, visits[start:end])])
        offset, done = offset + 1, max(done, end)

    assert repeated.state.bytes_by_key == once.state.bytes_by_key
    assert repeated.state.marks == once.state.marks


async def test_each_events_partition_has_a_mark_of_its_own() -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", 50)], source_partition=0), visits_record(1, [visit("shoe", 3)], source_partition=1)])

    assert bench.item("shoe").visit_count == 2
    assert bench.state.marks == {f"{NAMES.events}/0".encode(): 51, f"{NAMES.events}/1".encode(): 4}


async def test_visits_of_two_partitions_give_the_same_item_in_any_interleaving() -> None:
    one = [visits_record(0, [visit("shoe", n, f"n{n % 5}")], source_partition=0) for n in range(20)]
    two = [visits_record(0, [visit("shoe", n, f"n{n % 3}")], source_partition=1) for n in range(20)]
    straight, mixed = ItemsBench(), ItemsBench()
    straight.feed([*one, *two])
    mixed.feed([record for pair in zip(two, one, strict=True) for record in pair])

    assert mixed.item("shoe") == straight.item("shoe")


async def test_undecodable_visits_become_a_dead_letter_and_the_next_record_is_applied() -> None:
    bench = ItemsBench()
    bench.feed([bad_record(b"\xff\xff", 4, key=None, topic=NAMES.visits), visits_record(5, [visit("shoe", 0)])])

    [letter] = bench.dead_letters()
    assert (letter.topic, letter.offset, letter.value) == (NAMES.visits, 4, b"\xff\xff")
    assert bench.item("shoe").visit_count == 1


async def test_a_record_without_a_value_or_without_visits_stops_nothing() -> None:
    bench = ItemsBench()
    unit = bench.feed([bad_record(None, 0, key=None, topic=NAMES.visits), visits_record(1, []), visits_record(2, [visit("shoe", 0)])])

    assert unit.taken == 3
    assert bench.item("shoe").visit_count == 1


async def test_answers_are_cut_into_records_and_each_user_is_answered_once() -> None:
    bench = ItemsBench()
    users = 2 * MAX_REPLIES_IN_RECORD + 1
    bench.feed([visits_record(0, [visit("shoe", n, user=f"u{n}") for n in range(users)])])

    sizes = [len(decode_replies(value)) for _, _, value in bench.emitted(NAMES.neighbours)]
    assert sizes == [MAX_REPLIES_IN_RECORD, MAX_REPLIES_IN_RECORD, 1]
    assert len(set(bench.replies())) == users


def test_the_items_of_the_largest_record_of_visits_fit_a_changelog_batch() -> None:
    """A record cannot be cut, so whatever its visits change must fit beside a full unit."""
    name = "{:0>128}".format
    largest = ItemState(name(0), visit_count=1 << 40, weight=1 << 60, window=12, last_visit_at_ms=NOW_MS, evicted_count=1 << 30)
    largest.neighbours = dict.fromkeys(wire_ids(name(n) for n in range(MAX_NEIGHBOURS)), (1 << 60 << COUNT_BITS) + (1 << 31))
    largest.purchase_count = largest.bought_evicted_count = 1 << 40
    largest.bought = dict.fromkeys(wire_ids(name(n) for n in range(MAX_BOUGHT)), 1 << 31)
    items = MAX_VISITS_IN_RECORD - 1 + MAX_ORDER_LINES + MAX_DISTANCE + MAX_BOUGHT_LINKS  # and one order of new products

    assert WorkerSettings().batch_max_bytes + items * len(encode_item(largest)) < MAX_BATCH_BYTES


async def test_what_was_bought_together_is_learned_answered_and_survives_a_repeat() -> None:
    profiles, items = ProfilesBench(partitions=1), ItemsBench()
    profiles.feed(event_records(ordered("anna", ["shoe", "hat"], 1), viewed("anna", "sock", 2), ordered("anna", ["sock"], 3)))
    records = [Record(NAMES.visits, 0, n, NOW_MS, None, value) for n, (_, _, value) in enumerate(profiles.emitted(NAMES.visits))]
    items.feed(records)
    before = dict(items.state.bytes_by_key)
    items.feed([record._replace(offset=10 + record.offset) for record in records])

    assert items.state.bytes_by_key == before
    assert {name: items.item(name).purchase_count for name in ("shoe", "hat", "sock")} == {"shoe": 1, "hat": 1, "sock": 1}
    assert items.item("shoe").bought == dict.fromkeys(wire_ids(["hat", "sock"]), 1)
    replies = [reply for _, _, value in items.emitted(NAMES.neighbours) for reply in decode_replies(value)]
    answers = [NeighbourList.FromString(answer) for _, answer, _, _ in replies]
    assert {answer.product_id: sorted(answer.bought_ids) for answer in answers}["sock"] == ["hat", "shoe"]


async def test_a_question_is_answered_changes_nothing_and_moves_no_mark() -> None:
    bench = ItemsBench()
    bench.feed([visits_record(0, [visit("shoe", 7, "hat", "anna")])])
    before, marks = dict(bench.state.bytes_by_key), dict(bench.state.marks)
    bench.outputs.clear()

    bench.feed([questions_record(1, ("ben", "shoe"), ("ben", "nobody's"), source_partition=2)])

    assert bench.state.bytes_by_key == before
    assert bench.state.marks == marks
    [(partition, _, value)] = bench.emitted(NAMES.neighbours)
    [(user, answer, _, is_to_question)] = decode_replies(value)
    assert (partition, user, NeighbourList.FromString(answer).product_id, is_to_question) == (2, "ben", "shoe", True)


async def test_what_events_cause_is_what_items_learn() -> None:
    """Events to items and back to their users, by the records alone."""
    profiles, items, held = ProfilesBench(partitions=1), ItemsBench(), NeighboursBench()
    profiles.feed(event_records(viewed("anna", "shoe", 1), viewed("anna", "hat", 2)))
    items.feed([Record(NAMES.visits, 0, n, NOW_MS, None, value) for n, (_, _, value) in enumerate(profiles.emitted(NAMES.visits))])
    held.feed([Record(NAMES.neighbours, 0, n, NOW_MS, None, value) for n, (_, _, value) in enumerate(items.emitted(NAMES.neighbours))])

    assert list(items.item("shoe").weights()) == ["hat"]
    assert {product: list(answer.neighbour_ids) for product, answer in held.lists("anna").items()} == {
        "shoe": ["hat"],
        "hat": ["shoe"],
    }
