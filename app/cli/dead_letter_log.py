"""Reads the dead-letters topic from its beginning to its end, each letter once, without joining a group."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from app.cli.topic_reader import read_topic
from app.settings import KafkaSettings
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

#: Places remembered to tell a repeat: a worker that died between writing a letter and committing writes it again soon after.
_MAX_PLACES = 100_000

#: "undecodable" -> the enum's value, and so on.
REASONS = {name.removeprefix("DEAD_LETTER_REASON_").lower(): value for name, value in DeadLetterReason.items() if value}


@dataclass(frozen=True)
class LetterFilter:
    """Which letters: every condition that is given must hold. ``since_ms`` is the time of the record that became the letter."""

    reasons: tuple[int, ...] = ()
    topic: str | None = None
    since_ms: int | None = None
    places: tuple[str, ...] = ()

    def accepts(self, letter: DeadLetter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.topic is None or letter.topic == self.topic)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (not self.places or place_of(letter) in self.places)
        )


def place_of(letter: DeadLetter) -> str:
    """Where the record stands: topic/partition/offset."""
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def reason_of(letter: DeadLetter) -> str:
    """The reason in lower case; a newer worker's unknown one as its number."""
    return next((name for name, value in REASONS.items() if value == letter.reason), str(letter.reason))


async def read_dead_letters(kafka: KafkaSettings, wanted: LetterFilter) -> AsyncGenerator[DeadLetter, None]:
    """Letters that the filter accepts, oldest first within a partition, up to the end as it was when the reading began.

    Raises CommandError without the topic, BrokerError when the broker does not answer.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    async with aclosing(read_topic(kafka, TopicNames.of(kafka).dead_letters)) as records:
        async for record in records:
            letter = _decoded(record.value)
            if letter is None or (place := place_of(letter)) in seen:
                continue
            seen[place] = None
            if len(seen) > _MAX_PLACES:
                seen.popitem(last=False)
            if wanted.accepts(letter):
                yield letter


def _decoded(value: bytes | None) -> DeadLetter | None:
    try:
        return DeadLetter.FromString(value or b"")
    except DecodeError:
        return None  # not written by a worker: there is nothing to show
