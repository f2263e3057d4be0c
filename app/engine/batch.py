"""One Faust message that stands for a run of consecutive Kafka records, and the schema that hands the run to an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from faust.serializers.schemas import Schema
from faust.types import TP, ConsumerMessage

_value_of = attrgetter("value")


class BatchMessage(ConsumerMessage):
    """Records of one partition, in order and without a hole, seen by Faust as one message with the last record's offset."""

    __slots__ = ("records",)

    def __init__(self, tp: TP, records: Sequence[Any], generation_id: int) -> None:
        last = records[-1]
        super().__init__(
            tp.topic,
            tp.partition,
            last.offset,
            (last.timestamp or 0) / 1000.0,
            last.timestamp_type,
            [],
            None,
            b"",
            None,
            0,
            0,
            tp,
            generation_id=generation_id,
        )
        self.records = records


class BatchSchema(Schema):
    """Decodes nothing: the agent gets the consumer records as they are."""

    def compile(self, app: Any, **kwargs: Any) -> Callable[..., Any]:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.records, None, message)

        return decode


def bytes_of(records: Iterable[Any]) -> int:
    """Of all their values, without a step of Python's for each record."""
    return sum(map(len, filter(None, map(_value_of, records))))
