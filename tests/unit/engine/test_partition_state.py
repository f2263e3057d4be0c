"""A partition's state against a plain dict: whatever is cached, evicted, half written or read back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.commit import RUN_BYTES, RUN_RECORDS, Unit, apply_records, split_at
from app.engine.table import DECODED_FACTOR, MARK_PREFIX, MAX_WEAR, OBJECT_BYTES, WEAR_BYTES, Codec, PartitionState
from tests.unit.engine.worlds import HIDDEN, DictDatabase, Record, add, feed, state_over

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
values = st.sampled_from([b"1", b"2", b"30", b""])
streams = st.lists(st.tuples(keys, values), max_size=40)


def records_of(stream: list[tuple[bytes, bytes]]) -> list[Record]:
    return [Record(offset, key, value) for offset, (key, value) in enumerate(stream)]


def plain(stream: list[tuple[bytes, bytes]]) -> dict[bytes, list[int]]:
    table: dict[bytes, list[int]] = {}
    for key, value in stream:
        if value:
            table.setdefault(key, []).append(int(value))
        else:
            table.pop(key, None)
    return table


def seen(state: Any) -> dict[bytes, list[int]]:
    return {key: found.added for key in (b"a", b"b", b"c", b"d", b"e", b"f") if (found := state.get(key)) is not None}


@given(streams, st.lists(st.integers(1, 9), min_size=1), st.sampled_from([0, 4_000, 1 << 30]), st.data())
async def test_reads_are_those_of_a_dict_however_batches_caches_and_writes_interleave(
    stream: list[tuple[bytes, bytes]], sizes: list[int], cache_bytes: int, data: st.DataObject
) -> None:
    state, waiting, records, position = state_over(DictDatabase(), cache_bytes), [], records_of(stream), 0
    while position < len(records):
        size = sizes[position % len(sizes)]
        waiting += feed(state, records[position : position + size])
        position += size
        for _ in range(data.draw(st.integers(0, len(waiting)))):
            state.written(waiting.pop(0), changelog_offset=position)
        if data.draw(st.booleans()):
            state.forget()
            assert (kept(state), state.kept_bytes) == (0, 0)
        assert seen(state) == plain(stream[:position])


@given(streams, st.integers(0, 40), st.sampled_from([0, 4_000, 1 << 30]))
async def test_a_new_owner_that_starts_from_the_written_prefix_ends_with_the_same_bytes(
    stream: list[tuple[bytes, bytes]], cut: int, cache_bytes: int
) -> None:
    """The owner dies with units that were not written; the next one is given all records again."""
    records = records_of(stream)
    whole, parted = DictDatabase(), DictDatabase()
    state = state_over(whole)
    for changes in feed(state, records):
        state.written(changes, changelog_offset=1)

    first = state_over(parted, cache_bytes)
    for n, record in enumerate(records):
        for changes in feed(first, [record]):
            if n < cut:
                first.written(changes, changelog_offset=n)
    second = state_over(parted, cache_bytes)
    for n, changes in enumerate(feed(second, records)):
        second.written(changes, changelog_offset=100 + n)

    assert parted.values == whole.values


@given(streams)
async def test_records_that_the_mark_covers_are_given_as_replayed_and_change_nothing(stream: list[tuple[bytes, bytes]]) -> None:
    state, records = state_over(DictDatabase()), records_of(stream)
    feed(state, records)
    before, replayed = seen(state), []

    def look(unit: Unit[Any]) -> None:
        replayed.extend(unit.replayed)
        add(unit)

    list(apply_records(state, "source", records, look, lambda unit: None, 1 << 20))

    assert replayed == records
    assert seen(state) == before
    assert not state.changed


async def test_a_mark_never_goes_back() -> None:
    state = state_over(DictDatabase())
    state.advance(b"source", 7)
    state.advance(b"source", 3)

    assert state.applied(b"source") == 7
    assert state_over(DictDatabase()).applied(b"source") == 0


async def test_a_mark_is_in_the_same_batch_as_the_values_it_stands_for() -> None:
    state = state_over(DictDatabase())
    [changes] = feed(state, [Record(0, b"a", b"1"), Record(1, b"b", b"2")])

    assert changes == {b"a": b"1", b"b": b"2", HIDDEN: b"3", MARK_PREFIX + b"source": (2).to_bytes(8, "big")}


async def test_records_that_change_no_value_still_move_the_mark() -> None:
    state = state_over(DictDatabase())
    changes: list[dict[bytes, bytes | None]] = []

    def look(unit: Unit[Any]) -> None:
        list(unit.records())

    list(apply_records(state, "source", [Record(4, b"a", b"")], look, lambda _: changes.append(state.take_changes()), 9))

    assert changes == [{MARK_PREFIX + b"source": (5).to_bytes(8, "big")}]


async def test_a_deleted_key_is_gone_at_once_and_a_tombstone_is_written() -> None:
    database = DictDatabase()
    state = state_over(database)
    [changes] = feed(state, [Record(0, b"a", b"1")])
    state.written(changes, 0)

    unit: Unit[Any] = Unit(state)
    unit.state.delete(b"a")
    assert state.get(b"a") is None
    changes = state.take_changes()
    assert changes == {b"a": None}
    assert state.get(b"a") is None, "while it is on its way"
    state.written(changes, 1)
    assert state.get(b"a") is None
    assert b"a" not in database.values


async def test_a_key_deleted_and_made_again_in_one_unit_begins_afresh() -> None:
    state = state_over(DictDatabase())
    [changes] = feed(state, [Record(0, b"a", b"1")])
    state.written(changes, 0)
    [changes] = feed(state, [Record(1, b"a", b""), Record(2, b"a", b"5")])

    assert changes[b"a"] == b"5"
    assert state.get(b"a").added == [5]


async def test_dirty_objects_outlive_any_eviction() -> None:
    state = state_over(DictDatabase(), cache_bytes=0)
    counter = state.obtain(b"a")
    for n in range(100):
        state.get(b"%d" % n)
    counter.added.append(1)

    assert state.take_changes() == {b"a": b"1"}


def kept(state: Any) -> int:
    return len(state._young) + len(state._old)


async def test_what_is_kept_decoded_is_bounded() -> None:
    state = state_over(DictDatabase(), cache_bytes=60 * OBJECT_BYTES)
    for n in range(500):
        for changes in feed(state, [Record(n, b"%d" % n, b"1")]):
            state.written(changes, n)

    assert 5 < kept(state) <= 60 + 1
    assert len(state._sizes) <= 60 + 4


async def test_what_is_only_looked_at_is_bounded_as_well() -> None:
    """A resync asks for everybody's profile, and changes none."""
    database = DictDatabase()
    database.values = {b"%d" % n: b"1" for n in range(1_000)}
    state = state_over(database, cache_bytes=10 * OBJECT_BYTES)
    for n in range(1_000):
        state.get(b"%d" % n)

    assert 3 < kept(state) <= 10 + 1
    assert len(state._sizes) <= 10 + 1


async def test_large_objects_count_for_more_than_small_ones_also_those_that_grow_where_they_are() -> None:
    database = DictDatabase()
    database.values = {b"%d" % n: b"1," * 5_000 + b"1" for n in range(100)}
    state = state_over(database, cache_bytes=10 * (OBJECT_BYTES + DECODED_FACTOR * 10_001))
    for n in range(100):
        state.get(b"%d" % n)
    assert 3 < kept(state) <= 10 + 1

    growing = state_over(DictDatabase(), cache_bytes=100 * OBJECT_BYTES)
    offset = 0
    for size in (1, 1_000):
        for n in range(20):
            for changes in feed(growing, [Record(offset, b"%d" % n, b"1" * size)]):
                growing.written(changes, offset)
            offset += 1
        assert (kept(growing) >= 20) == (size == 1)


async def test_an_object_that_a_long_unit_changed_is_found_again_when_it_is_not_kept_any_more() -> None:
    state = state_over(DictDatabase(), cache_bytes=4 * OBJECT_BYTES)
    unit: Unit[Any] = Unit(state)
    for n in range(50):
        unit.state.obtain(b"%d" % n).added.append(1)
    state.forget()
    for n in range(50):
        unit.state.obtain(b"%d" % n).added.append(2)

    changes = state.take_changes()
    assert changes == {b"%d" % n: b"1,2" for n in range(50)}
    assert seen_all(state, 50) == [[1, 2]] * 50, "on their way"
    state.written(changes, 0)
    assert seen_all(state, 50) == [[1, 2]] * 50, "written"


def seen_all(state: Any, count: int) -> list[list[int]]:
    return [state.get(b"%d" % n).added for n in range(count)]


async def test_a_unit_ends_when_its_changes_grow_too_large_and_the_rest_comes_later() -> None:
    state = state_over(DictDatabase())
    records = [Record(n, b"%d" % n, b"1") for n in range(10)]
    batches = feed(state, records, limit_bytes=1000)  # a new key is taken for 256 bytes, the total's too

    assert len(batches) == 3
    assert [changes[MARK_PREFIX + b"source"][-1] for changes in batches] == [3, 7, 10]
    assert state.get(HIDDEN).added == [10]


async def test_a_unit_takes_one_record_at_least_however_small_the_limit() -> None:
    assert len(feed(state_over(DictDatabase()), [Record(n, b"a", b"1") for n in range(3)], limit_bytes=0)) == 3


async def test_the_size_of_a_value_that_is_known_counts_for_the_limit() -> None:
    state = state_over(DictDatabase())
    feed(state, [Record(n, b"a", b"1" * 50) for n in range(100)])

    batches = feed(state, [Record(100, b"a", b"1"), Record(101, b"b", b"1")], limit_bytes=4000)
    assert len(batches) == 2, "the first one is 5,000 bytes by itself"


async def test_a_step_that_takes_long_ends_and_the_rest_of_the_batch_comes_as_further_units() -> None:
    state, now, taken = state_over(DictDatabase()), [0.0], []

    def look(unit: Unit[Any]) -> None:
        for record in unit.records():
            taken.append((unit, record.offset))
            now[0] += 0.01

    records = [Record(n, b"a", b"1") for n in range(5)]
    units = list(apply_records(state, "source", records, look, lambda _: None, 1 << 20, step_seconds=0.015, clock=lambda: now[0]))

    assert [[offset for by, offset in taken if by is unit] for unit, _ in units] == [[0, 1], [2, 3], [4]]
    assert [is_last for _, is_last in units] == [False, False, True]
    assert state.applied(b"source") == 5


async def test_a_step_takes_a_record_however_long_it_takes_and_the_mark_moves_with_each() -> None:
    state, now, marks = state_over(DictDatabase()), [0.0], []

    def look(unit: Unit[Any]) -> None:
        for _ in unit.records():
            now[0] += 60.0

    records = [Record(n, b"a", b"1") for n in range(3)]
    for _ in apply_records(state, "source", records, look, lambda _: None, 1 << 20, step_seconds=0.015, clock=lambda: now[0]):
        marks.append(state.applied(b"source"))
    assert marks == [1, 2, 3], "a batch that is broken off between two steps goes on where it was"


async def test_what_objects_take_is_counted_with_what_they_grew_by_the_hidden_ones_too() -> None:
    state = state_over(DictDatabase())
    for key in (b"a", HIDDEN):
        before = state.kept_bytes
        state.obtain(key).added[:] = [10**40]
        size = len(state.take_changes()[key] or b"")
        assert size > 40
        assert state.kept_bytes == before + OBJECT_BYTES + DECODED_FACTOR * size + WEAR_BYTES


async def test_objects_that_do_not_wear_are_kept_however_often_they_change() -> None:
    codec = Codec[bytearray](bytearray, bytes, lambda _: bytearray(1), wears=False)
    state = PartitionState(0, DictDatabase(), codec, {}, 1 << 30)  # type: ignore[arg-type]  # DictDatabase stands in
    first = state.obtain(b"a")
    for _ in range(2 * MAX_WEAR):
        assert state.obtain(b"a") is first
        assert state.take_changes() == {b"a": b"\0"}
    assert state.kept_bytes == OBJECT_BYTES + DECODED_FACTOR


async def test_what_a_unit_changed_and_the_clock_are_looked_at_for_some_records_together() -> None:
    looks, taken = [0.0], list[int]()

    def clock() -> float:
        looks.append(looks[-1])
        return 0.0

    unit: Unit[Any] = Unit(state_over(DictDatabase()), "source", [Record(n, b"a", b"1") for n in range(320)], (), 1 << 20, 1.0, clock)
    for record in unit.records():
        taken.append(record.offset)
        assert unit.taken == len(taken)
    assert taken == list(range(320))
    assert len(looks) <= 320 / RUN_RECORDS + 8


@pytest.mark.parametrize("size", [1, 30, 300, 20_000])
@pytest.mark.parametrize("half", ["bytes", "time"])
async def test_records_like_those_before_them_lead_beyond_a_bound_by_no_more_than_one(half: str, size: int) -> None:
    state, now = state_over(DictDatabase()), [0.0]
    limit, until = (100 * size, math.inf) if half == "bytes" else (1 << 40, 100.5)
    unit: Unit[Any] = Unit(state, "source", [Record(n, b"a", bytes(size)) for n in range(500)], (), limit, until, lambda: now[0])
    for _ in unit.records():
        now[0] += 1.0
    assert unit.taken == 101


async def test_large_records_are_taken_one_at_a_time() -> None:
    state = state_over(DictDatabase())
    unit: Unit[Any] = Unit(state, "source", [Record(n, b"a", bytes(RUN_BYTES)) for n in range(50)], (), 1 << 40)
    for _ in unit.records():
        assert state.dirty_bytes == unit.taken * RUN_BYTES


async def test_an_agent_that_takes_nothing_is_a_bug_and_said_to_be_one() -> None:
    with pytest.raises(AssertionError, match="at least one"):
        list(apply_records(state_over(DictDatabase()), "source", [Record(0, b"a", b"1")], lambda unit: None, lambda unit: None, 1))


async def test_items_and_read_show_what_is_written_and_nothing_of_the_engines() -> None:
    state = state_over(DictDatabase())
    [changes] = feed(state, [Record(0, b"a", b"1")])
    assert state.read(b"a") is None
    assert list(state.items()) == []

    state.written(changes, 0)
    assert state.read(b"a") == b"1"
    assert [(key, counter.added) for key, counter in state.items()] == [(b"a", [1])]


@given(st.lists(st.integers(0, 50), unique=True).map(sorted), st.integers(0, 51))
def test_split_at_finds_the_first_record_at_or_above_an_offset(offsets: list[int], offset: int) -> None:
    """Offsets may have holes: a compacted topic, control records."""
    place = split_at([Record(o, b"", b"") for o in offsets], offset)

    assert all(o < offset for o in offsets[:place])
    assert all(o >= offset for o in offsets[place:])


async def test_an_object_that_many_units_changed_is_decoded_afresh_with_the_same_content() -> None:
    """A Protobuf message keeps the memory of what was replaced in it: a hot user's would grow with every event."""
    state = state_over(DictDatabase())
    first, waiting = None, []
    for offset in range(MAX_WEAR + 1):
        waiting += feed(state, [Record(offset, b"a", b"1")])
        first = first or state.get(b"a")
    again = state.get(b"a")
    assert again is not None
    assert again is not first
    assert again.added == [1] * (MAX_WEAR + 1)
