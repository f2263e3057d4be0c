"""What the workers, or an operator, last found of each destination: read from the states topic or asked of a worker, and written to it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from google.protobuf.message import DecodeError

from app.cli.destination_trial import host_of
from app.cli.moment import time_text
from app.cli.topic_reader import read_topic
from app.destinations import destination_of
from app.settings import Settings
from app.streams.publisher import Publisher, Record
from app.streams.topics import TopicNames
from tidings.internal.v1.destination_state_pb2 import Breaker, DestinationState

#: By whom an operator's states are.
OPERATOR = "operator"

#: What each state means, as lists show it.
MEANINGS: dict[int, tuple[str, str]] = {
    Breaker.BREAKER_UNSPECIFIED: ("closed", "takes requests"),
    Breaker.BREAKER_CLOSED: ("closed", "takes requests"),
    Breaker.BREAKER_OPEN_AUTH: ("open: auth", "the credentials are refused; mend them, then resume"),
    Breaker.BREAKER_OPEN_CONFIGURATION: ("open: configuration", "something is missing there; set it up, then resume"),
    Breaker.BREAKER_OPEN_GONE: ("open: gone", "it wants no more requests; resume if that is a mistake"),
    Breaker.BREAKER_OPEN_ERRORS: ("open: errors", "too many requests failed; probes find out when it is well"),
    Breaker.BREAKER_PARKED: ("parked", "it asked to be left alone for long"),
    Breaker.BREAKER_OPEN_OPERATOR: ("paused", "an operator paused it; resume starts it again"),
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


async def write_state(settings: Settings, target: str, breaker: Breaker, reason: str, at_ms: int) -> None:
    """Tell all workers. Raises CommandError without the topic, BrokerError when it was not acknowledged."""
    # Later than what is known, whatever this machine's clock says: workers follow the later one.
    known = (await read_states(settings)).get(target, DestinationState())
    state = DestinationState(target=target, at_ms=max(at_ms, known.at_ms + 1), by=OPERATOR, breaker=breaker, reason=reason)
    async with Publisher.of_destinations(settings) as publisher:
        await publisher.publish_records([Record(target.encode(), state.SerializeToString())])


def state_rows(settings: Settings, states: dict[str, DestinationState]) -> list[dict[str, Any]]:
    """One for each destination of the settings, in their order."""
    rows = []
    for target in settings.targets:
        state = states.get(target.name, DestinationState())
        name, meaning = MEANINGS.get(state.breaker, (str(state.breaker), "of a kind that this version of Tidings does not know"))
        destination = destination_of(target)
        address = getattr(destination, "url", None) or getattr(destination, "base_url", None)
        rows.append(
            {
                "name": target.name,
                "kind": target.kind,
                "address": host_of(address) if address else "",
                "state": name,
                "since": time_text(state.at_ms) if state.at_ms else "",
                "until": time_text(state.until_ms) if state.until_ms else "",
                "by": state.by,
                "reason": state.reason,
                "meaning": meaning,
            }
        )
    return rows
