"""What the workers, or an operator, last found of each destination: read from the destinations topic, and written to it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from google.protobuf.message import DecodeError

from app.cli.destination_trial import host_of
from app.cli.moment import time_text
from app.cli.topic_reader import read_topic
from app.delivery.breaker import BreakerState, Cause, printable
from app.delivery.destination_states import OPERATOR, record_of, state_of
from app.destinations import destination_of
from app.settings import Settings
from app.streams.publisher import Publisher, Record
from app.streams.topics import TopicNames
from tidings.internal.v1.destination_state_pb2 import DestinationState

#: Why nothing is sent, and who ends it.
MEANINGS: dict[str, str] = {
    Cause.ERRORS.value: "too many requests failed; probes find out when it is well",
    Cause.PARKED.value: "it asked to be left alone for long; probes follow",
    Cause.AUTH.value: "the credentials are refused; mend them, then resume",
    Cause.CONFIGURATION.value: "something is missing there; set it up, then resume",
    Cause.GONE.value: "it wants no more requests; resume if that is a mistake",
    Cause.OPERATOR.value: "an operator paused it; resume starts it again",
}


async def read_states(settings: Settings) -> dict[str, DestinationState]:
    """The last state of each destination of the settings that has one. Raises CommandError without the topic, BrokerError."""
    names = {target.name.encode() for target in settings.targets}
    found: dict[str, DestinationState] = {}
    async with aclosing(read_topic(settings.kafka, TopicNames.of(settings.kafka).destinations)) as records:
        async for record in records:
            if record.key not in names:
                continue
            name = record.key.decode()
            found.pop(name, None)
            try:
                found[name] = DestinationState.FromString(record.value or b"")
            except DecodeError:
                continue  # not written by us: it says nothing
    return found


async def tell_as_operator(settings: Settings, target: str, *, is_paused: bool, reason: str, now_ms: int) -> None:
    """Tell all workers. Raises CommandError without the topic, BrokerError when it was not acknowledged."""
    # Later than what is known, whatever this machine's clock says: workers follow the later one.
    known = (await read_states(settings)).get(target)
    since_ms = max(now_ms, known.at_ms + 1) if known is not None and state_of(known, now_ms) is not None else now_ms
    state = BreakerState("open" if is_paused else "closed", Cause.OPERATOR, printable(reason), since_ms)
    async with Publisher.of_destinations(settings) as publisher:
        await publisher.publish_records([Record(target.encode(), record_of(target, state, OPERATOR).SerializeToString())])


def state_rows(settings: Settings, states: dict[str, DestinationState], now_ms: int) -> list[dict[str, Any]]:
    """One for each destination of the settings, in their order; the words are those of GET /v1/destinations."""
    rows = []
    for target in settings.targets:
        record = states.get(target.name, DestinationState())
        state = state_of(record, now_ms) or BreakerState()
        destination = destination_of(target)
        address = getattr(destination, "url", None) or getattr(destination, "base_url", None)
        rows.append(
            {
                "name": target.name,
                "kind": target.kind,
                "address": host_of(address) if address else None,
                "state": state.kind,
                "cause": state.cause.value if state.cause is not None and state.kind != "closed" else None,
                "since": time_text(state.since_ms) if state.since_ms else None,
                "until": time_text(state.until_ms) if state.until_ms else None,
                "by": record.by if state.since_ms else None,
                "reason": state.reason or None,
            }
        )
    return rows


def state_words(row: dict[str, Any]) -> str:
    """``open (auth)``: of a row, or of a worker's answer."""
    return f"{row['state']} ({row['cause']})" if row.get("cause") else str(row["state"])
