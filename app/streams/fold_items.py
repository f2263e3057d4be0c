"""The agent that folds visits into the items and answers with the items' best neighbours.

A visit carries the offset of the event that caused it; an item partition keeps, for each events partition, how far it has applied them,
so a repeat (an events partition that was replayed) is dropped exactly.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from app import metrics
from app.domain.items import apply_visit, neighbour_list, new_item
from app.domain.replies import Reply, encode_replies
from app.domain.visits import decode_visits
from app.engine import Codec, Unit
from app.streams.dead_letters import emit_dead_letter, undecodable
from app.streams.topics import TopicNames
from tidings.state.v1.item_pb2 import Item

ITEMS = Codec[Item](Item.FromString, Item.SerializeToString, lambda key: new_item(key.decode()))
#: Replies in one record. It is applied as a whole, so what so many users hold of neighbours must fit a changelog batch beside a full unit
#: (tests/agents/test_keep_neighbours.py).
MAX_REPLIES_IN_RECORD = 150


class FoldItems:
    """``apply`` is the agent."""

    def __init__(self, names: TopicNames) -> None:
        self._names = names

    def apply(self, unit: Unit[Item]) -> None:
        state = unit.state
        applied = repeated = 0
        #: By events partition: who asked about what → when their event was received.
        asked: dict[int, dict[tuple[str, str], int]] = {}
        for record in unit.records():
            try:
                source_partition, visits = decode_visits(record.value)
            except (DecodeError, TypeError) as exc:  # TypeError: a record without a value
                emit_dead_letter(unit, self._names.dead_letters, record, undecodable(exc))
                continue
            if not visits:
                continue
            source = f"{self._names.events}/{source_partition}".encode()
            fresh_from = state.applied(source)
            askers = asked.setdefault(source_partition, {})
            for visit in visits:
                if visit.source_offset < fresh_from:
                    repeated += 1
                    continue
                apply_visit(state.obtain(visit.product_id.encode()), visit)
                applied += 1
                if visit.reply_to_user_id:
                    askers.setdefault((visit.reply_to_user_id, visit.product_id), visit.caused_at_ms)
            state.advance(source, visits[-1].source_offset + 1)
        self._answer(unit, asked)
        metrics.VISITS.labels("applied").inc(applied)
        metrics.VISITS.labels("duplicate").inc(repeated)

    def _answer(self, unit: Unit[Item], asked: dict[int, dict[tuple[str, str], int]]) -> None:
        """Each item's list as it is after the whole unit, once for all who asked."""
        lists: dict[str, bytes] = {}
        for partition, askers in asked.items():
            replies: list[Reply] = []
            for (user_id, product_id), caused_at_ms in askers.items():
                if (neighbours := lists.get(product_id)) is None:
                    item = unit.state.get(product_id.encode())
                    assert item is not None, "it was visited in this unit"
                    neighbours = lists[product_id] = neighbour_list(item).SerializeToString()
                replies.append((user_id, neighbours, caused_at_ms))
            for start in range(0, len(replies), MAX_REPLIES_IN_RECORD):
                unit.emit(self._names.neighbours, partition, None, encode_replies(replies[start : start + MAX_REPLIES_IN_RECORD]))
