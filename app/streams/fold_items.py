"""The agent that folds visits into the items and answers with the items' best neighbours.

A visit carries the offset of the event that caused it; an item partition keeps, for each events partition, how far it has applied them,
so a repeat (an events partition that was replayed) is dropped exactly. A question changes nothing, carries no offset, and is answered
whenever it comes.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from app import metrics
from app.domain.items import ItemState, add_bought, add_visits, decode_item, encode_item, neighbour_list, new_item, wire_ids
from app.domain.replies import Reply, encode_replies
from app.domain.visit_records import VisitRecord, decode_visits
from app.engine import Codec, Unit
from app.streams.dead_letters import emit_dead_letter, undecodable
from app.streams.topics import TopicNames

ITEMS = Codec[ItemState](decode_item, encode_item, lambda key: new_item(key.decode()), wears=False)
#: Replies in one record. It is applied as a whole, so what so many users hold of neighbours must fit a changelog batch beside a full unit
#: (tests/agents/test_keep_neighbours.py).
MAX_REPLIES_IN_RECORD = 50

#: User and product → when Kafka received the event that asked.
_Askers = dict[tuple[str, str], int]


class FoldItems:
    """``apply`` is the agent. ``partitions`` are those of the events: nobody could be answered on another."""

    def __init__(self, names: TopicNames, partitions: int = 2**31) -> None:
        self._names = names
        self._partitions = partitions

    def apply(self, unit: Unit[ItemState]) -> None:
        state = unit.state
        applied = repeated = questions = 0
        #: By events partition: who asked about what, by a visit or by a question → when their event was received.
        asked: dict[int, tuple[_Askers, _Askers]] = {}
        for record in unit.records():
            try:
                visits = decode_visits(record.value)
                if visits.source_partition >= self._partitions:
                    raise DecodeError("a tidings.internal.v1.Visits comes from a partition that is not there")
            except (DecodeError, TypeError) as exc:  # TypeError: a record without a value
                emit_dead_letter(unit, self._names.dead_letters, record, undecodable(exc))
                continue
            visitors, questioners = asked.setdefault(visits.source_partition, ({}, {}))
            for user_id, product_id, caused_at_ms in visits.questions:
                questioners.setdefault((user_id, product_id), caused_at_ms)
            questions += len(visits.questions)
            source = f"{self._names.events}/{visits.source_partition}".encode()
            fresh = visits.since(state.applied(source))
            repeated += len(visits.offsets) - len(fresh.offsets)
            if not fresh.offsets:
                continue
            applied += len(fresh.offsets)
            _apply(unit, fresh, visitors)
            state.advance(source, fresh.offsets[-1] + 1)
        self._answer(unit, asked)
        metrics.VISITS.labels("applied").inc(applied)
        metrics.VISITS.labels("duplicate").inc(repeated)
        metrics.VISITS.labels("question").inc(questions)

    def _answer(self, unit: Unit[ItemState], asked: dict[int, tuple[_Askers, _Askers]]) -> None:
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
                        answer = lists[product_id] = neighbour_list(item)
                    replies.append((user_id, answer, caused_at_ms, is_question))
            for start in range(0, len(replies), MAX_REPLIES_IN_RECORD):
                unit.emit(self._names.neighbours, partition, None, encode_replies(replies[start : start + MAX_REPLIES_IN_RECORD]))


def _apply(unit: Unit[ItemState], record: VisitRecord, askers: _Askers) -> None:
    """Add a record's visits to their items, and to ``askers`` who wants an answer about what."""
    products, places, weights = record.products, record.items, record.weights
    obtain = unit.state.obtain
    items = {place: obtain(products[place].encode()) for place in set(places)}
    neighbours = map(wire_ids(products).__getitem__, record.neighbours)
    add_visits([items[place] for place in places], record.times, weights, record.counts, zip(neighbours, record.links, strict=True))
    for visit in record.purchases:
        items[places[visit]].purchase_count += 1
    for visit, other in record.bought:
        add_bought(items[places[visit]], *wire_ids([products[other]]))
    arrivals = [place for place, weight in zip(places, weights, strict=True) if weight]
    for user_id, place, caused_at_ms in zip(record.users, arrivals, record.caused, strict=True):
        if user_id:
            askers.setdefault((user_id, products[place]), caused_at_ms)
