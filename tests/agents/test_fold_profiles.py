"""The agent that folds events and neighbours, run on a dict and a list."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from app.domain import profile as bounds
from app.domain.cart import MAX_CART_LINES
from app.domain.fields import MAX_ATTRIBUTES
from app.domain.plain_fold import plain_fold
from app.domain.validation import (
    MAX_ANONYMOUS_ID_BYTES,
    MAX_EVENT_ID_BYTES,
    MAX_FIELD_NAME_BYTES,
    MAX_FIELD_TEXT_BYTES,
    MAX_MINOR_UNITS,
    MAX_PRODUCT_ID_BYTES,
    MAX_QUANTITY,
    MAX_USER_ID_BYTES,
)
from app.engine.commit import Unit
from app.engine.fence import MAX_BATCH_BYTES
from app.settings import WorkerSettings
from app.streams.fold_profiles import MAX_VISITS_IN_RECORD, SHARE_KEY
from app.streams.publisher import partition_of
from tests.agents import worlds
from tests.agents.worlds import (
    NAMES,
    NOW_MS,
    ProfilesBench,
    bad_record,
    consent,
    event_records,
    ordered,
    viewed,
)
from tidings.events.v1.event_pb2 import CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED, Event
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.state.v1.profile_pb2 import Profile

#: An order of 100 lines: a visit at each product, and one at each of 5 it came from.
LARGEST_EVENT_VISITS = 600
#: A whole envelope, and a field 1007 that this version does not know.
UNKNOWN_PAYLOAD = Event(event_id="e", user_id="anna", occurred_at_ms=NOW_MS).SerializeToString() + b"\xfa\x3e\x00"


async def test_the_profiles_and_the_share_are_those_of_the_plain_fold() -> None:
    bench = ProfilesBench(number=3)
    events = [viewed(f"u{n % 3}", f"p{n % 5}", n) for n in range(40)]

    bench.feed(event_records(*events[:17], partition=3))
    bench.feed(event_records(*events[17:], first_offset=17, partition=3))

    plain = plain_fold((3, offset, event) for offset, event in enumerate(events))
    assert {user: bench.profile(user) for user in plain.profiles} == plain.profiles
    assert bench.state.get(SHARE_KEY) == plain.shares[3]


async def test_visits_go_to_the_partition_of_their_item_and_name_the_partition_of_their_event() -> None:
    bench = ProfilesBench(partitions=4, number=2)
    bench.feed(event_records(viewed("anna", "shoe", 1), viewed("anna", "hat", 2), partition=2))

    assert bench.visits()
    for partition, source_partition, visits in bench.visits():
        assert source_partition == 2
        assert {partition_of(visit.product_id.encode(), 4) for visit in visits} == {partition}


async def test_a_visit_that_asks_for_an_answer_says_when_kafka_received_its_event() -> None:
    bench = ProfilesBench(partitions=1)
    [record] = event_records(viewed("anna", "shoe", 7))
    bench.feed([record])

    [(_, _, visits)] = bench.visits()
    assert [(v.reply_to_user_id, v.caused_at_ms) for v in visits] == [("anna", record.timestamp)]


async def test_replayed_records_change_nothing_and_make_their_users_dirty_again() -> None:
    bench = ProfilesBench()
    records = event_records(viewed("anna", "shoe", 1), viewed("ben", "hat", 2))
    bench.feed(records)
    before, outputs = dict(bench.state.bytes_by_key), dict(bench.outputs)
    bench.dirty.clear()

    unit = bench.feed([], replayed=records)

    assert bench.state.bytes_by_key == before
    assert bench.outputs == outputs
    assert unit.taken == 0
    assert bench.dirty == [(b"anna", records[0].timestamp), (b"ben", records[1].timestamp)]


async def test_a_clients_retry_causes_no_second_visit() -> None:
    bench = ProfilesBench(partitions=1)
    bench.feed(event_records(viewed("anna", "shoe", 1), viewed("anna", "shoe", 1)))

    assert sum(len(visits) for _, _, visits in bench.visits()) == 1
    assert bench.profile("anna").event_count == 1


async def test_visits_of_one_event_never_split_over_two_records() -> None:
    bench = ProfilesBench(partitions=2)
    orders = [ordered("anna", [f"p{n}-{line}" for line in range(100)], n) for n in range(8)]
    bench.feed(event_records(*orders))

    records = bench.visits()
    assert len(records) > 2, "the test is about records that were cut"
    for partition in (0, 1):
        offsets = [[visit.source_offset for visit in visits] for place, _, visits in records if place == partition]
        assert all(one == sorted(one) for one in offsets)
        for one, after in pairwise(offsets):
            assert one[-1] < after[0]
            assert MAX_VISITS_IN_RECORD <= len(one) < MAX_VISITS_IN_RECORD + LARGEST_EVENT_VISITS


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff\xff\xff noise", DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE),
        (viewed("anna", "shoe", 1).SerializeToString()[:-3], DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE),
        (UNKNOWN_PAYLOAD, DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD),
        (viewed("ben", "shoe", 1).SerializeToString(), DeadLetterReason.DEAD_LETTER_REASON_INVALID),
        (b"\x00" * 1_000_000, DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE),
        (b"", DeadLetterReason.DEAD_LETTER_REASON_INVALID),
    ],
    ids=["noise", "truncated", "unknown payload", "another's key", "a megabyte of zeros", "empty"],
)
async def test_what_is_no_valid_event_becomes_a_dead_letter_with_its_place_reason_and_bytes(value: bytes, reason: int) -> None:
    bench = ProfilesBench()
    bench.feed([bad_record(value, offset=41), *event_records(viewed("anna", "hat", 9), first_offset=42)])

    [letter] = bench.dead_letters()
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms) == (NAMES.events, 0, 41, NOW_MS)
    assert (letter.reason, letter.key, letter.value) == (reason, b"anna", value)
    assert letter.detail
    assert [key for _, key, _ in bench.emitted(NAMES.dead_letters)] == [f"{NAMES.events}/0/41".encode()]
    assert bench.profile("anna").event_count == 1, "the event after it is folded"


async def test_a_record_without_a_value_stops_nothing() -> None:
    bench = ProfilesBench()
    unit = bench.feed([bad_record(None)])

    assert unit.taken == 1
    assert len(bench.dead_letters()) == 1


async def test_of_a_record_that_no_dead_letter_can_hold_the_letter_says_where_it_stands() -> None:
    """A compressed record may be any length, and a letter that the broker refuses would stop the worker, and the next one."""
    bench = ProfilesBench()
    for n, size in enumerate((2_000_000, 20_000_000)):
        bench.feed([worlds.Record(NAMES.events, 0, n, NOW_MS, b"anna", b"\xff" * size)])
    small, large = bench.dead_letters()
    assert (len(small.value), small.key) == (2_000_000, b"anna")
    assert (large.value, large.key, large.offset) == (b"", b"", 1)
    assert "20,000,004 bytes" in large.detail
    assert large.ByteSize() < 10_000


async def test_an_event_without_a_key_is_a_dead_letter() -> None:
    """Wherever it stands, it stands there by chance."""
    bench = ProfilesBench()
    bench.feed([bad_record(viewed("anna", "shoe", 1).SerializeToString(), key=None)])

    assert [(letter.reason, letter.field) for letter in bench.dead_letters()] == [(DeadLetterReason.DEAD_LETTER_REASON_INVALID, "user_id")]
    assert bench.state.bytes_by_key == {}


async def test_an_event_in_another_partition_than_its_users_is_a_dead_letter() -> None:
    """A client with a partitioner of its own: folded here, nobody would find the profile."""
    elsewhere = (partition_of(b"anna", 4) + 1) % 4
    bench = ProfilesBench(number=elsewhere, home=partition_of)
    bench.feed(event_records(viewed("anna", "shoe", 1), partition=elsewhere))

    assert [(letter.reason, letter.field) for letter in bench.dead_letters()] == [(DeadLetterReason.DEAD_LETTER_REASON_INVALID, "user_id")]
    assert bench.state.bytes_by_key == {}


async def test_a_dead_letter_makes_nobody_dirty() -> None:
    bench = ProfilesBench()
    bench.feed([bad_record(b"\xff")])

    assert bench.dirty == []
    assert bench.state.bytes_by_key == {}


async def test_a_replayed_record_with_a_key_of_the_engines_makes_nobody_dirty() -> None:
    bench = ProfilesBench()
    bench.feed([], replayed=[bad_record(b"\xff", key=SHARE_KEY), bad_record(b"\xff", 1, key=None)])

    assert bench.dirty == []


@pytest.mark.parametrize("name", ["__share", "__offset", "__owner", "__mark/x"])
async def test_hidden_keys_cannot_be_reached_by_a_user_or_a_product(name: str) -> None:
    bench = ProfilesBench(partitions=1)
    bench.feed(event_records(viewed(name, "shoe", 1), viewed("anna", name, 2), viewed("anna", "hat", 3)))

    assert [letter.field for letter in bench.dead_letters()] == ["user_id", "product_viewed.product_id"]
    assert set(bench.state.bytes_by_key) == {b"anna", SHARE_KEY}
    assert {v.product_id for _, _, visits in bench.visits() for v in visits} == {"hat"}


async def test_events_of_a_person_who_denied_profiling_are_not_folded() -> None:
    bench = ProfilesBench(partitions=1)
    bench.feed(event_records(viewed("anna", "shoe", 1), consent("anna", CONSENT_STATE_DENIED, 2)))
    visits = len(bench.emitted(NAMES.visits))
    share = bench.state.bytes_by_key[SHARE_KEY]

    bench.feed(event_records(viewed("anna", "hat", 3), first_offset=2))

    assert list(bench.profile("anna").history.product_ids) == ["shoe"]
    assert len(bench.emitted(NAMES.visits)) == visits
    assert bench.state.bytes_by_key[SHARE_KEY] == share


async def test_consent_that_is_given_again_lets_events_be_folded_again() -> None:
    bench = ProfilesBench()
    bench.feed(
        event_records(
            consent("anna", CONSENT_STATE_DENIED, 1),
            viewed("anna", "shoe", 2),
            consent("anna", CONSENT_STATE_GRANTED, 3),
            viewed("anna", "hat", 4),
        )
    )

    assert list(bench.profile("anna").history.product_ids) == ["hat"]


async def test_withdrawing_consent_makes_the_person_dirty() -> None:
    bench = ProfilesBench()
    bench.feed(event_records(viewed("anna", "shoe", 1)))
    bench.dirty.clear()

    bench.feed(event_records(consent("anna", CONSENT_STATE_DENIED, 2), first_offset=1))

    assert [user for user, _ in bench.dirty] == [b"anna"]


async def test_every_record_is_counted_once_in_a_unit_that_is_cut() -> None:
    bench = ProfilesBench(partitions=1)
    records = event_records(*(viewed(f"u{n}", f"p{n}", n) for n in range(30)))
    taken, units = 0, 0
    while taken < len(records):
        unit: Unit[object] = Unit(bench.state, NAMES.events, records[taken:], (), limit_bytes=60)  # type: ignore[arg-type]
        bench._apply(unit)
        bench.state.end_unit()
        taken, units = taken + unit.taken, units + 1

    assert units > 5
    assert Counter(bench.profile(f"u{n}").event_count for n in range(30)) == {1: 30}


def test_the_largest_profile_fits_a_changelog_batch_beside_a_full_unit() -> None:
    assert WorkerSettings().batch_max_bytes + _largest_profile_bytes() < MAX_BATCH_BYTES


def _largest_profile_bytes() -> int:
    product = "p" * MAX_PRODUCT_ID_BYTES
    largest = Profile(user_id="u" * MAX_USER_ID_BYTES)
    largest.history.product_ids.extend([product] * bounds.MAX_HISTORY)
    largest.history.occurred_at_ms.extend([NOW_MS] * bounds.MAX_HISTORY)
    largest.history.kinds.extend([1] * bounds.MAX_HISTORY)
    largest.session.product_ids.extend([product] * bounds.MAX_SESSION_PRODUCTS)
    for _ in range(MAX_CART_LINES):
        line = largest.cart.add(product_id=product, quantity=MAX_QUANTITY, added_at_ms=NOW_MS)
        line.unit_price.minor_units, line.unit_price.currency_code = MAX_MINOR_UNITS, "EUR"
    for _ in range(MAX_ATTRIBUTES):
        text, event_id = "t" * MAX_FIELD_TEXT_BYTES, "e" * MAX_EVENT_ID_BYTES
        largest.attributes.add(name="n" * MAX_FIELD_NAME_BYTES, text=text, changed_at_ms=NOW_MS, event_id=event_id)
    largest.anonymous_ids.extend(["a" * MAX_ANONYMOUS_ID_BYTES] * bounds.MAX_ANONYMOUS_IDS)
    largest.recent_event_ids = b"8" * 8 * bounds.MAX_RECENT_EVENT_IDS
    return largest.ByteSize()
