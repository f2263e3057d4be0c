"""The agent that keeps, for each user, what the items answered.

It stands apart from the fold of events: what the items answer is several times as large as a profile, and comes at other times.
"""

from __future__ import annotations

from collections import Counter

from google.protobuf.message import DecodeError

from app import metrics
from app.domain.held_neighbours import Answer, HeldNeighbours, decode_held_neighbours, encode_held_neighbours
from app.domain.replies import decode_replies
from app.engine import Codec, Unit
from app.streams.dead_letters import emit_dead_letter, undecodable
from app.streams.fold_profiles import MarkDirty
from app.streams.topics import TopicNames

NEIGHBOURS = Codec[HeldNeighbours](decode_held_neighbours, encode_held_neighbours, lambda _: HeldNeighbours(), wears=False)


class KeepNeighbours:
    """``apply`` is the agent; ``dirty`` is told of every user who may see another list now."""

    def __init__(self, names: TopicNames, dirty: MarkDirty) -> None:
        self._names = names
        self._dirty = dirty

    def apply(self, unit: Unit[HeldNeighbours]) -> None:
        for record in unit.replayed:
            try:
                replies = decode_replies(record.value)
            except (DecodeError, TypeError):
                continue  # on the dead-letter topic since its first time
            for user_id, _, caused_at_ms in replies:
                self._dirty(unit, user_id.encode(), caused_at_ms)
        outcomes: Counter[str] = Counter()
        for record in unit.records():
            try:
                replies = decode_replies(record.value)
                answers = {value: Answer.of(value) for value in {value for _, value, _ in replies}}
            except (DecodeError, TypeError) as exc:  # TypeError: a record without a value
                emit_dead_letter(unit, self._names.dead_letters, record, undecodable(exc))
                continue
            self._keep(unit, replies, answers, outcomes)
        for name, count in outcomes.items():
            metrics.NEIGHBOURS.labels(name).inc(count)

    def _keep(
        self, unit: Unit[HeldNeighbours], replies: list[tuple[str, bytes, int]], answers: dict[bytes, Answer], outcomes: Counter[str]
    ) -> None:
        obtain, dirty = unit.state.obtain, self._dirty
        applied = 0
        for user_id, value, caused_at_ms in replies:
            key = user_id.encode()
            if obtain(key).keep(answers[value]):
                dirty(unit, key, caused_at_ms)
                applied += 1
        outcomes["applied"] += applied
        outcomes["outdated"] += len(replies) - applied
