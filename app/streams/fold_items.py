"""The agent that folds visits into the items and answers with the items' best neighbours.

A visit carries the offset of the event that caused it; an item partition keeps, for each events partition, how far it has applied them,
so a repeat (an events partition that was replayed) is dropped exactly. A question changes nothing, carries no offset, and is answered
whenever it comes.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from app import metrics
from app.domain.item_work import ITEM_WORK, Askers, ItemWork
from app.domain.replies import Reply, encode_replies
from app.engine import Codec, Unit
from app.streams.dead_letters import emit_dead_letter, undecodable
from app.streams.topics import TopicNames


def items_codec(work: ItemWork) -> Codec[Any]:
    return Codec(
        work.decode, work.encode, work.new, wears=False, decoded_factor=work.decoded_factor, object_bytes=work.object_bytes
    )


ITEMS = items_codec(ITEM_WORK)
#: Replies in one record. It is applied as a whole, so what so many users hold of neighbours must fit a changelog batch beside a full unit
#: (tests/agents/test_keep_neighbours.py).
MAX_REPLIES_IN_RECORD = 50


class FoldItems:
    """``apply`` is the agent. ``partitions`` are those of the events: nobody could be answered on another. ``work``: that of the table."""

    def __init__(self, names: TopicNames, partitions: int = 2**31, work: ItemWork = ITEM_WORK) -> None:
        self._names = names
        self._partitions = partitions
        self._work = work

    def apply(self, unit: Unit[Any]) -> None:
        state, read_visits = unit.state, self._work.read_visits
        applied = repeated = questions = 0
        #: By events partition: who asked about what, by a visit or by a question → when their event was received.
        asked: dict[int, tuple[Askers, Askers]] = {}
        for record in unit.records():
            try:
                visits = read_visits(record.value)
                if (partition := visits.source_partition) >= self._partitions:
                    raise DecodeError("a tidings.internal.v1.Visits comes from a partition that is not there")
            except (DecodeError, TypeError) as exc:  # TypeError: a record without a value
                emit_dead_letter(unit, self._names.dead_letters, record, undecodable(exc))
                continue
            visitors, questioners = asked.setdefault(partition, ({}, {}))
            questions += visits.ask(questioners)
            source = f"{self._names.events}/{partition}".encode()
            repeated += visits.skip(state.applied(source))
            if fresh := len(visits):
                applied += fresh
                items = [state.obtain(key) for key in visits.items()]
                state.advance(source, visits.apply(items, visitors) + 1)
        self._answer(unit, asked)
        metrics.VISITS.labels("applied").inc(applied)
        metrics.VISITS.labels("duplicate").inc(repeated)
        metrics.VISITS.labels("question").inc(questions)

    def _answer(self, unit: Unit[Any], asked: dict[int, tuple[Askers, Askers]]) -> None:
        """Each item's list as it is after the whole unit, once for all who asked."""
        lists: dict[str, bytes] = {}
        for partition, (visitors, questioners) in asked.items():
            replies: list[Reply] = []
            for askers, is_question in ((visitors, False), (questioners, True)):
                for (user_id, product_id), caused_at_ms in askers.items():
                    if (answer := lists.get(product_id)) is None:
                        item = unit.state.get(product_id.encode())
                        if item is None:
                            continue  # asked about before the visit that links to it was followed by its own
                        answer = lists[product_id] = self._work.neighbour_list(item)
                    replies.append((user_id, answer, caused_at_ms, is_question))
            for start in range(0, len(replies), MAX_REPLIES_IN_RECORD):
                unit.emit(self._names.neighbours, partition, None, encode_replies(replies[start : start + MAX_REPLIES_IN_RECORD]))
