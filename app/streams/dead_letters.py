"""What becomes of a record that cannot be applied: a dead letter with its bytes, its place and the reason."""

from __future__ import annotations

from typing import Any

from app import metrics
from app.domain.validation import Violation
from app.engine import Unit
from tidings.internal.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

#: Bytes of a record that a letter holds; the topic takes twice as much (app/streams/topics.py). A record that was compressed may be any
#: length, and a letter that the broker refuses would stop every worker that reads the record.
MAX_RECORD_BYTES = 2 * 1024**2


def undecodable(error: Exception) -> Violation:
    """The bytes are not a message of their topic."""
    return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE, "", f"not a message of this topic: {error}")


def emit_dead_letter(unit: Unit[Any], topic: str, record: Any, violation: Violation) -> None:
    """Append the record to the dead-letter topic, keyed by its place: a replay may append it again, and readers keep one of each place.

    Of a record above MAX_RECORD_BYTES the letter has the place and the reason alone.
    """
    key, value, detail = record.key or b"", record.value or b"", violation.detail
    if (size := len(key) + len(value)) > MAX_RECORD_BYTES:
        key, value = b"", b""
        detail += f"; its {size:,} bytes are more than a dead letter holds, and stand at their place in the log only"
    letter = DeadLetter(
        topic=unit.topic,
        partition=unit.partition,
        offset=record.offset,
        timestamp_ms=max(0, record.timestamp or 0),
        reason=violation.reason,
        field=violation.field,
        detail=detail,
        key=key,
        value=value,
    )
    unit.emit(topic, unit.partition, f"{unit.topic}/{unit.partition}/{record.offset}".encode(), letter.SerializeToString())
    metrics.DEAD_LETTERS.labels(unit.topic, DeadLetterReason.Name(violation.reason).removeprefix("DEAD_LETTER_REASON_").lower()).inc()
