"""The agent that keeps, for each user, what the items answered.

It stands apart from the fold of events: what the items answer is several times as large as a profile, and comes at other times.

Where an item answers that it has few neighbours, these are asked for theirs (app/domain/held_neighbours.py). The questions leave before
the answer counts as applied, so a crash may repeat one but not lose it; what answers a question asks nothing further. While a partition is
behind its log nobody is asked, for that would cost it a third of its speed: the lists of that time go by the first hop alone, until
something happens to their person again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from google.protobuf.message import DecodeError

from app import metrics
from app.domain.held_neighbours import Held
from app.domain.neighbour_work import NEIGHBOUR_WORK, NeighbourWork, ReadReply
from app.domain.replies import decode_replies
from app.domain.visit_records import encode_questions
from app.engine import Codec, Unit
from app.streams.dead_letters import emit_dead_letter, undecodable
from app.streams.fold_profiles import MAX_KNOWN_PRODUCTS, MarkDirty
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames


def neighbours_codec(work: NeighbourWork) -> Codec[Held]:
    return Codec(
        work.decode, work.encode, lambda _: work.new(), wears=False, decoded_factor=work.decoded_factor, object_bytes=work.object_bytes
    )


NEIGHBOURS = neighbours_codec(NEIGHBOUR_WORK)
#: Questions in one record: a third of a megabyte, with the longest ids.
MAX_QUESTIONS_IN_RECORD = 1_000

#: By items partition: user and product → when Kafka received the event that it goes back to.
_Questions = dict[int, dict[tuple[str, str], int]]


class KeepNeighbours:
    """``apply`` is the agent; ``dirty`` is told of every user who may see another list now; ``may_ask`` says whether a partition of users
    is up to date enough for questions.
    """

    def __init__(
        self,
        names: TopicNames,
        partitions: int,
        dirty: MarkDirty,
        may_ask: Callable[[int], bool] = lambda _: True,
        work: NeighbourWork = NEIGHBOUR_WORK,
    ) -> None:
        self._names = names
        self._work = work
        self._dirty = dirty
        self._may_ask = may_ask
        self._items_partition: Callable[[str], int] = lru_cache(MAX_KNOWN_PRODUCTS)(
            lambda product_id: partition_of(product_id.encode(), partitions)
        )

    def apply(self, unit: Unit[Held]) -> None:
        for record in unit.replayed:
            try:
                known = decode_replies(record.value)
            except (DecodeError, TypeError):
                continue  # on the dead-letter topic since its first time
            for user_id, _, caused_at_ms, _ in known:
                self._dirty(unit, user_id.encode(), caused_at_ms)
        outcomes: Counter[str] = Counter()
        questions: _Questions = {}
        for record in unit.records():
            try:
                replies = self._work.read_replies(record.value)
            except (DecodeError, TypeError) as exc:  # TypeError: a record without a value
                emit_dead_letter(unit, self._names.dead_letters, record, undecodable(exc))
                continue
            self._keep(unit, replies, questions, outcomes)
        self._ask(unit, questions)
        for name, count in outcomes.items():
            metrics.NEIGHBOURS.labels(name).inc(count)

    def _keep(self, unit: Unit[Held], replies: list[ReadReply], questions: _Questions, outcomes: Counter[str]) -> None:
        obtain, dirty, work = unit.state.obtain, self._dirty, self._work
        keep, keep_second_hop, to_ask = work.keep, work.keep_second_hop, work.to_ask
        applied, may_ask = 0, self._may_ask(unit.partition)
        for key, answer, caused_at_ms, is_to_question in replies:
            held = obtain(key)
            if is_to_question:
                if not keep_second_hop(held, answer):
                    continue
            else:
                if not keep(held, answer):
                    continue
                for product_id in to_ask(held, answer) if may_ask else ():
                    questions.setdefault(self._items_partition(product_id), {}).setdefault((key.decode(), product_id), caused_at_ms)
            dirty(unit, key, caused_at_ms)
            applied += 1
        outcomes["applied"] += applied
        outcomes["outdated"] += len(replies) - applied

    def _ask(self, unit: Unit[Held], questions: _Questions) -> None:
        for partition, asked in questions.items():
            rows = [(user_id, product_id, caused_at_ms) for (user_id, product_id), caused_at_ms in asked.items()]
            for start in range(0, len(rows), MAX_QUESTIONS_IN_RECORD):
                value = encode_questions(unit.partition, rows[start : start + MAX_QUESTIONS_IN_RECORD])
                unit.emit(self._names.visits, partition, None, value)
