"""The agent that does to the outbox what operators want done: a delivery tried again, dropped, or sent once more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from app import metrics
from app.delivery.commands import Outcome, carry_out, decode_command, outcome_of
from app.domain.validation import Violation, invalid
from app.engine import Unit
from app.streams.dead_letters import emit_dead_letter
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames
from tidings.state.v1.outbox_pb2 import OutboxEntry

#: So many users of one unit are tried again before others with something new. More of them would hold these up.
MAX_AT_ONCE = 100


class ApplyDeliveryCommands:
    """``apply`` is the agent. Of the users whose outbox it changed, once that is durable, ``due`` is told of those who are tried again,
    ``due_again`` of those who may wait until nobody else has anything new. ``home`` gives a user's partition.
    """

    def __init__(
        self,
        names: TopicNames,
        partitions: int,
        targets: Collection[str],
        due: Callable[[Iterable[str]], None],
        due_again: Callable[[Iterable[str]], None],
        home: Callable[[bytes, int], int] = partition_of,
    ) -> None:
        self._names = names
        self._partitions = partitions
        self._targets = frozenset(targets)
        self._due = due
        self._due_again = due_again
        self._home = home

    def apply(self, unit: Unit[OutboxEntry]) -> None:
        outcomes: Counter[tuple[str, str]] = Counter()
        #: User → whether they were given up, and are due as if they had something new.
        changed: dict[str, bool] = {}
        for record in unit.records():
            done = self._apply_one(unit, record)
            if isinstance(done, Violation):
                emit_dead_letter(unit, self._names.dead_letters, record, done)
                outcomes["", "dead_lettered"] += 1
                continue
            action, outcome = done
            outcomes[action, outcome.value] += 1
            if outcome is Outcome.APPLIED and action != "drop":
                user_id = record.key.decode()
                changed[user_id] = changed.get(user_id, False) or action == "retry"
        for labels, count in outcomes.items():
            metrics.DELIVERY_COMMANDS.labels(*labels).inc(count)
        if changed:
            unit.done.add_done_callback(lambda done: self._tell(done, changed))

    def _apply_one(self, unit: Unit[OutboxEntry], record: Any) -> tuple[str, Outcome] | Violation:
        command = decode_command(record.value or b"", record.key)
        if isinstance(command, Violation):
            return command
        key, received_at_ms = command.user_id.encode(), record.timestamp or 0
        if self._home(key, self._partitions) != unit.partition:
            return invalid("user_id", "belongs to another partition: produce to that of Kafka's default partitioner (murmur2)")
        # Looked at, not obtained: what a command does not change is not written.
        outcome = outcome_of(command, unit.state.get(key), self._targets, received_at_ms)
        if outcome is Outcome.APPLIED:
            carry_out(command, unit.state.obtain(key), received_at_ms)
        return command.WhichOneof("action") or "", outcome

    def _tell(self, done: asyncio.Future[None], changed: dict[str, bool]) -> None:
        """The unit is written; or it never will be, and then the partition's next owner finds nobody due by it, and reads it again."""
        if done.cancelled() or done.exception() is not None:
            return
        retried = [user_id for user_id, is_retried in changed.items() if is_retried]
        at_once = retried if len(retried) <= MAX_AT_ONCE else []
        if at_once:
            self._due(at_once)
        if later := changed.keys() - set(at_once):
            self._due_again([user_id for user_id in changed if user_id in later])
