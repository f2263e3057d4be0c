"""Quix Streams as its documentation has it: a stateful update of each message, under the guarantee that is its first argument."""

from __future__ import annotations

import sys
from typing import Literal

from quixstreams import Application, State

from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event
from tests.bench.systems.committed import committed_positions

#: What a user's state is called in the user's part of the store.
_STATE = "state"


def main(guarantee: Literal["at-least-once", "exactly-once"], run: Assignment) -> None:
    watch = Stopwatch()
    session = {"session.timeout.ms": run.session_seconds * 1000, "heartbeat.interval.ms": 1000} if run.session_seconds else None
    app = Application(
        broker_address=run.bootstrap_servers, consumer_group=run.name, auto_offset_reset="earliest", processing_guarantee=guarantee,
        state_dir=run.data_dir, loglevel="WARNING", consumer_extra_config=session,
    )
    topic = app.topic(run.topic, key_deserializer="bytes", value_deserializer="bytes")

    def update(value: bytes, stored: State) -> None:
        watch.start()
        state = UserState()
        if (before := stored.get_bytes(_STATE)) is not None:
            state.ParseFromString(before)
        apply_event(state, UserEvent.FromString(value))
        stored.set_bytes(_STATE, state.SerializeToString())

    app.run(app.dataframe(topic).update(update, stateful=True), count=run.events, collect=False)  # returns after the last checkpoint
    report = watch.report(run.events, {})
    report.positions.update({str(partition): offset for partition, offset in committed_positions(run).items()})
    report.print()


if __name__ == "__main__":
    main(sys.argv[1], Assignment.read(sys.argv[2]))  # type: ignore[arg-type]  # one of the two
