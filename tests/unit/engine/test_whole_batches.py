"""What is read of a fetched partition: the same records as aiokafka would give, a batch of the log at a time."""

from __future__ import annotations

import gc
from itertools import chain
from typing import Any
from weakref import ref

import aiokafka
import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from app.engine.source import Unwrapped, WholeBatches

PLACE = aiokafka.TopicPartition("events", 3)
IS_CONTROL = 0x20


def a_batch(base_offset: int, offsets: list[int], *, codec: int = 0) -> bytearray:
    """As it is in a log."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset in offsets:
        builder.append(offset - base_offset, 1_700_000_000_000 + offset, b"key", None if offset % 3 == 0 else b"%d" % offset, [])
    batch = bytearray(builder.build())
    batch[:8] = base_offset.to_bytes(8, "big")
    return batch


def both(log: bytes, position: int) -> tuple[Any, Any]:
    ours = WholeBatches(MemoryRecords(log), position, True, "events/3")
    return ours, PartitionRecords(PLACE, MemoryRecords(log), [], position, None, None, True, 0)


@pytest.mark.parametrize("codec", [0, 1])
@pytest.mark.parametrize("position", [0, 1, 4, 5, 9, 10, 12])
def test_from_each_position_the_records_are_those_that_aiokafka_gives(position: int, codec: int) -> None:
    batches = [a_batch(base, offsets, codec=codec) for base, offsets in ((0, [0, 1, 2, 3, 4]), (5, [5, 8, 9]), (10, [10, 11, 12]))]
    ours, theirs = both(b"".join(batches[position // 5 :]), position)
    found = [(record.offset, record.timestamp, record.key, record.value) for record in chain.from_iterable(ours)]
    assert found == [(record.offset, record.timestamp, record.key, record.value) for record in theirs]
    assert found[0][0] >= position
    assert ours.next_fetch_offset == theirs.next_fetch_offset == 13


def test_a_batch_is_one_list_and_one_that_ends_before_the_position_is_none() -> None:
    ours, _ = both(bytes(a_batch(0, [0, 1, 2]) + a_batch(3, [3, 4]) + a_batch(5, [5])), 4)
    assert [[record.offset for record in batch] for batch in ours] == [[4], [5]]


def test_what_a_transaction_ended_with_is_no_record_and_is_passed() -> None:
    control = a_batch(2, [2])
    control[22] |= IS_CONTROL
    ours, theirs = both(bytes(a_batch(0, [0, 1]) + resealed(control)), 0)
    assert [record.offset for record in chain.from_iterable(ours)] == [record.offset for record in theirs] == [0, 1]
    assert ours.next_fetch_offset == theirs.next_fetch_offset == 3


def test_what_compaction_took_from_the_end_of_a_batch_is_passed() -> None:
    batch = a_batch(0, [0, 1])
    batch[23:27] = (7).to_bytes(4, "big")  # the offset of the last record that was in it
    ours, theirs = both(bytes(resealed(batch)), 0)
    assert [record.offset for record in chain.from_iterable(ours)] == [record.offset for record in theirs] == [0, 1]
    assert ours.next_fetch_offset == theirs.next_fetch_offset == 8


def test_what_was_fetched_is_freed_as_soon_as_it_is_read() -> None:
    fetched = Unwrapped()
    theirs = PartitionRecords(PLACE, MemoryRecords(bytes(a_batch(0, [0, 1]))), [], 0, None, None, True, 0)
    fetched[PLACE] = FetchResult(PLACE, assignment=None, partition_records=theirs, backoff=0)
    assert [[record.offset for record in batch] for batch in fetched[PLACE]._partition_records] == [[0, 1]]

    is_there = ref(theirs)
    gc.disable()
    try:
        del fetched[PLACE], theirs
        assert is_there() is None
    finally:
        gc.enable()


def test_a_damaged_batch_is_not_read() -> None:
    log = a_batch(0, [0, 1]) + a_batch(2, [2])
    log[-2] ^= 1
    ours, _ = both(bytes(log), 0)
    with pytest.raises(CorruptRecordException, match="events/3"):
        list(ours)
    assert ours.next_fetch_offset == 2


def resealed(batch: bytearray) -> bytearray:
    """With the checksum of what is in it now."""
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return batch
