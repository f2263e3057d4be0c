"""The agent that folds events into the profiles.

One batch of events causes at most a few records for each items partition: the visits of all its events, in order of their offsets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, assert_never

from app import metrics
from app.domain.held_profile import COMPILED, HeldProfile, Outcome
from app.domain.profile import Applied, Denied, Duplicate
from app.domain.share import Share, decode_share, encode_share, fold_share, new_share
from app.domain.validation import Violation, decode_event
from app.domain.visit_records import outgoing_visits
from app.engine import Codec, Unit
from app.engine.store import HIDDEN_PREFIX
from app.engine.table import COMPACT_BYTES
from app.streams.dead_letters import emit_dead_letter
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason

#: Where a partition keeps its share of the global models, beside its profiles.
SHARE_KEY = b"__share"
#: Visits in one record, and those of one event more: a record ends between two events only, so that a repeat is told by its offset. It is
#: applied as a whole, so the items of the largest one must fit a changelog batch beside a full unit (tests/agents/test_fold_items.py).
MAX_VISITS_IN_RECORD = 225
#: Products whose partition is remembered; past it, the one that was met longest ago is forgotten.
MAX_KNOWN_PRODUCTS = 100_000

PROFILES = (
    Codec[HeldProfile](HeldProfile.decode, HeldProfile.encode, HeldProfile.new)
    if COMPILED is None
    # The bytes; and the messages of a few, who share them (MAX_MESSAGES).
    else Codec[HeldProfile](
        HeldProfile.decode, HeldProfile.encode, HeldProfile.new, wears=False, decoded_factor=1.0, object_bytes=COMPACT_BYTES
    )
)
SHARE = Codec[Share](decode_share, encode_share, lambda _: new_share(0), wears=False)

#: Anywhere else nobody would find the profile, and the person's events would come in no order.
ASTRAY = Violation(
    DeadLetterReason.DEAD_LETTER_REASON_INVALID,
    "user_id",
    "user_id belongs to another partition: produce with Kafka's default partitioner (murmur2 of the key)",
)

#: Called for each user whose list may change: the unit that caused it, user id, and when Kafka received the cause, in ms since 1970.
MarkDirty = Callable[[Unit[Any], bytes, int], None]


class FoldProfiles:
    """``apply`` is the agent; ``dirty`` is told of every user who may see another list now; ``home`` gives a user's partition."""

    def __init__(self, names: TopicNames, partitions: int, dirty: MarkDirty, home: Callable[[bytes, int], int] = partition_of) -> None:
        self._names = names
        self._partitions = partitions
        self._dirty = dirty
        self._home = home
        self._items_partition = lru_cache(MAX_KNOWN_PRODUCTS)(lambda product_id: partition_of(product_id.encode(), partitions))

    def apply(self, unit: Unit[HeldProfile]) -> None:
        for record in unit.replayed:
            if record.key and not record.key.startswith(HIDDEN_PREFIX):  # it may have become a dead letter
                self._dirty(unit, record.key, record.timestamp)
        state, dirty = unit.state, self._dirty
        outcomes = dict.fromkeys(("applied", "duplicate", "denied", "dead_lettered"), 0)
        received: dict[int, int] = {}
        visits = outgoing_visits(unit.partition, MAX_VISITS_IN_RECORD, self._items_partition)
        share: Share | None = None
        for record in unit.records():
            key, timestamp = record.key, record.timestamp
            value = record.value or b""
            known = None if key is None or key.startswith(HIDDEN_PREFIX) else state.get(key)
            profile = known or HeldProfile.new(key or b"")
            if known is None and self._home(key or b"", self._partitions) != unit.partition:
                event = decode_event(value, key or b"", timestamp)
                outcome: Outcome = event if isinstance(event, Violation) else ASTRAY
            else:
                outcome = profile.apply(value, key or b"", timestamp)
            if isinstance(outcome, Violation):
                emit_dead_letter(unit, self._names.dead_letters, record, outcome)
                outcomes["dead_lettered"] += 1
                continue
            part = state.obtain(key)
            if part is not profile:
                part.become(profile)
            match outcome:
                case Applied(interactions):
                    # The share learns at once; the items by their visits.
                    for interaction in interactions:
                        share = share or _share(unit)
                        fold_share(share, interaction)
                        visits.add(interaction, record.offset, timestamp)
                    outcomes["applied"] += 1
                case Duplicate():
                    outcomes["duplicate"] += 1
                case Denied():
                    outcomes["denied"] += 1
                case _:
                    assert_never(outcome)
            dirty(unit, key, timestamp)
            received[timestamp] = received.get(timestamp, 0) + 1
        for partition, value in visits.take():
            unit.emit(self._names.visits, partition, None, value)
        for name, count in outcomes.items():
            if count:
                metrics.EVENTS.labels(name).inc(count)
        unit.done.add_done_callback(partial(_written, received))


def _share(unit: Unit[HeldProfile]) -> Share:
    """The partition's share, as part of the unit."""
    share: Share = unit.state.obtain(SHARE_KEY)  # type: ignore[assignment]  # hidden keys have a codec of their own
    share.partition = unit.partition
    return share


def _written(received: dict[int, int], done: asyncio.Future[None]) -> None:
    if done.cancelled() or done.exception() is not None:
        return
    now_ms = time.time_ns() // 1_000_000
    for timestamp_ms, count in received.items():
        metrics.observe_many(metrics.EVENT_TO_PROFILE, (now_ms - timestamp_ms) / 1000.0, count)
