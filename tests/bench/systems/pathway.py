"""Pathway as its documentation has it: group by key, a stateful reducer of its own, persistence on.

Its free edition persists what was read and reckons the state anew after a restart; the mode that persists the state itself asks for a
licence key. It hands over about every one and a half seconds, which is its default. Reading what is there and then ending (``static``) goes
through the same batches as reading on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pathway as pw

from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import Assignment, Stopwatch, apply_event, write_state
from tests.bench.systems.committed import end_positions


@pw.reducers.stateful_many
def folded(stored: bytes | None, rows: list[tuple[list[Any], int]]) -> bytes | None:
    """Of a user's events of one batch, which come in no order."""
    state = UserState() if stored is None else UserState.FromString(stored)
    for event in sorted((UserEvent.FromString(row[0]) for row, _ in rows), key=lambda event: event.occurred_at_ms):
        apply_event(state, event)
    return state.SerializeToString()


def main() -> None:
    run, watch, states = Assignment.read(), Stopwatch(), dict[bytes, bytes]()
    settings = {"bootstrap.servers": run.bootstrap_servers, "group.id": run.name, "auto.offset.reset": "earliest"}
    events = pw.io.kafka.read(settings, topic=run.topic, format="raw", mode="static", name="events")
    users = events.groupby(pw.this.key).reduce(pw.this.key, state=folded(pw.this.data))

    def changed(key: pw.Pointer, row: dict[str, bytes], time: int, is_addition: bool) -> None:
        if is_addition:
            states[row["key"]] = row["state"]

    pw.io.subscribe(users, on_change=changed)
    persistence = pw.persistence.Config(pw.persistence.Backend.filesystem(Path(run.data_dir)))
    watch.start()  # nothing of ours is called before a batch has been read
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=persistence)
    report = watch.report(run.events, {})
    report.positions.update({str(partition): offset for partition, offset in end_positions(run).items()})
    write_state(run.state_file, states.items())
    report.print()


if __name__ == "__main__":
    main()
