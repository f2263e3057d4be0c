"""What the items answered is kept for its user, the latest of each item, and makes the user dirty."""

from __future__ import annotations

from app.domain.held_neighbours import (
    MAX_NEIGHBOUR_LISTS,
    MAX_QUESTIONS,
    MAX_SECOND_HOP_LISTS,
    Answer,
    HeldNeighbours,
    encode_held_neighbours,
)
from app.domain.items import REPLY_BOUGHT, REPLY_NEIGHBOURS
from app.domain.replies import encode_replies
from app.domain.validation import MAX_PRODUCT_ID_BYTES
from app.domain.visit_records import decode_visits
from app.engine.fence import MAX_BATCH_BYTES
from app.settings import WorkerSettings
from app.streams.fold_items import MAX_REPLIES_IN_RECORD
from app.streams.publisher import partition_of
from tests.agents.worlds import NAMES, NOW_MS, NeighboursBench, Record, bad_record, neighbours_record
from tidings.state.v1.neighbours_pb2 import NeighbourList


async def test_an_answer_is_kept_and_makes_its_user_dirty_as_of_the_event_that_asked() -> None:
    bench = NeighboursBench()
    bench.feed([neighbours_record(0, ("anna", "shoe", 5), ("ben", "shoe", 5), ("anna", "hat", 2))])

    assert list(bench.lists("anna")) == ["shoe", "hat"]
    assert list(bench.lists("ben")) == ["shoe"]
    assert bench.dirty == [(b"anna", NOW_MS + 5), (b"ben", NOW_MS + 5), (b"anna", NOW_MS + 2)]


async def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    bench = NeighboursBench()
    bench.feed([neighbours_record(0, ("anna", "shoe", 5), ("anna", "hat", 2)), neighbours_record(1, ("anna", "shoe", 6))])

    assert {product: answer.visit_count for product, answer in bench.lists("anna").items()} == {"hat": 2, "shoe": 6}


async def test_an_older_answer_changes_nothing_and_makes_nobody_dirty() -> None:
    bench = NeighboursBench()
    bench.feed([neighbours_record(0, ("anna", "shoe", 5))])
    before = dict(bench.state.bytes_by_key)
    bench.dirty.clear()

    unit = bench.feed([neighbours_record(1, ("anna", "shoe", 5), ("anna", "shoe", 4))])

    assert bench.state.bytes_by_key == before
    assert bench.dirty == []
    assert unit.taken == 1


def linked(user: str, product: str, neighbours: int) -> tuple[str, bytes, int, bool]:
    ids = [f"{product}{number}" for number in range(neighbours)]
    answer = NeighbourList(product_id=product, visit_count=1, neighbour_ids=ids, scores=[1.0] * neighbours)
    return user, answer.SerializeToString(), NOW_MS, False


def asked(bench: NeighboursBench) -> set[tuple[int, str, str]]:
    """(items partition, user, product)"""
    records = [(partition, decode_visits(value)) for partition, _, value in bench.emitted(NAMES.visits)]
    return {(partition, user, product) for partition, record in records for user, product, _ in record.questions}


async def test_while_a_partition_is_behind_nobody_is_asked() -> None:
    bench = NeighboursBench()
    bench.is_behind = True
    bench.feed([Record(NAMES.neighbours, 0, 0, NOW_MS, None, encode_replies([linked("anna", "few", 3)]))])
    assert asked(bench) == set()
    assert bench.dirty == [(b"anna", NOW_MS)]
    bench.is_behind = False
    bench.feed([Record(NAMES.neighbours, 0, 1, NOW_MS, None, encode_replies([linked("anna", "rare", 1)]))])
    assert {product for _, _, product in asked(bench)} == {"rare0"}


async def test_where_the_items_have_few_neighbours_the_best_are_asked_for_theirs_at_their_partitions_once() -> None:
    bench = NeighboursBench()
    bench.feed([Record(NAMES.neighbours, 0, 0, NOW_MS, None, encode_replies([linked("anna", "few", REPLY_NEIGHBOURS - 1)]))])
    assert asked(bench) == {(partition_of(f"few{n}".encode(), 4), "anna", f"few{n}") for n in range(MAX_QUESTIONS)}

    answers = [(user, value, at_ms, True) for user, value, at_ms, _ in (linked("anna", f"few{n}", 3) for n in range(MAX_QUESTIONS))]
    bench.outputs.clear()
    bench.dirty.clear()
    bench.feed([Record(NAMES.neighbours, 0, 1, NOW_MS, None, encode_replies(answers))])
    assert asked(bench) == set(), "what answers a question asks nothing further"
    assert list(bench.lists("anna")) == ["few"]
    assert bench.state.get(b"anna").neighbours("few0") == (1.0, dict.fromkeys(["few00", "few01", "few02"], 1.0))
    assert bench.dirty == [(b"anna", NOW_MS)] * MAX_QUESTIONS


async def test_where_the_items_have_many_neighbours_nothing_is_asked() -> None:
    bench = NeighboursBench()
    many = [linked("anna", f"p{n}", REPLY_NEIGHBOURS) for n in range(5)]
    bench.feed([Record(NAMES.neighbours, 0, 0, NOW_MS, None, encode_replies(many[:4]))])
    bench.outputs.clear()
    bench.feed([Record(NAMES.neighbours, 0, 1, NOW_MS, None, encode_replies(many[4:]))])
    assert asked(bench) == set()


async def test_replayed_answers_make_their_users_dirty_again_and_change_nothing() -> None:
    bench = NeighboursBench()
    record = neighbours_record(0, ("anna", "shoe", 5))
    bench.feed([record])
    before = dict(bench.state.bytes_by_key)
    bench.dirty.clear()

    bench.feed([], replayed=[record, bad_record(b"\xff", 1, topic=NAMES.neighbours), bad_record(None, 2, topic=NAMES.neighbours)])

    assert bench.dirty == [(b"anna", NOW_MS + 5)]
    assert bench.state.bytes_by_key == before


async def test_what_cannot_be_read_becomes_a_dead_letter_and_the_next_record_is_kept() -> None:
    bench = NeighboursBench()
    noise = [bad_record(value, offset, key=None, topic=NAMES.neighbours) for offset, value in enumerate([b"\xff\xff", None])]
    bench.feed([*noise, neighbours_record(2, ("anna", "shoe", 5))])

    assert [(letter.topic, letter.offset, letter.value) for letter in bench.dead_letters()] == [
        (NAMES.neighbours, 0, b"\xff\xff"), (NAMES.neighbours, 1, b""),
    ]  # fmt: skip
    assert list(bench.lists("anna")) == ["shoe"]


def test_a_unit_of_the_largest_record_fits_a_changelog_batch() -> None:
    """The largest value times the users of one record, beside a full unit: a record cannot be cut, so this must hold by its making."""
    product = "p" * MAX_PRODUCT_ID_BYTES
    largest = HeldNeighbours()
    for number in range(MAX_NEIGHBOUR_LISTS + MAX_SECOND_HOP_LISTS):
        answer = NeighbourList(
            product_id=f"{number:0{MAX_PRODUCT_ID_BYTES}}", visit_count=1 << 40, neighbour_ids=[product] * REPLY_NEIGHBOURS,
            scores=[1.0] * REPLY_NEIGHBOURS, counts=[1 << 31] * REPLY_NEIGHBOURS, purchase_count=1 << 40,
            bought_ids=[product] * REPLY_BOUGHT, bought_counts=[1 << 31] * REPLY_BOUGHT,
        )
        keep = largest.keep if number < MAX_NEIGHBOUR_LISTS else largest.keep_second_hop
        keep(Answer.of(answer.SerializeToString()))
    assert WorkerSettings().batch_max_bytes + MAX_REPLIES_IN_RECORD * len(encode_held_neighbours(largest)) < MAX_BATCH_BYTES
