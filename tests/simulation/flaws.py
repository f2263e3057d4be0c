"""Ways to break a worker, one rule at a time, so that a test can see the simulation fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from app.delivery import outbox
from app.delivery.client import Missing, NoResponse
from app.delivery.ledger import Change
from app.delivery.sending import Sender
from app.engine.commit import Unit
from app.engine.consumer import GroupConsumer
from app.engine.table import PartitionState
from app.errors import NotOwnedError
from app.streams.outbox_store import PendingScan, TableOutboxStore

Apply = Callable[[Unit[Any]], None]


@dataclass(frozen=True)
class Flaws:
    """None by default."""

    marks_are_dropped: bool = False
    visits_have_no_mark: bool = False
    values_under_way_are_not_read: bool = False
    acknowledges_before_the_changelog: bool = False
    acknowledges_before_the_ranking: bool = False
    commits_over_unacknowledged_batches: bool = False
    outputs_follow_the_changelog: bool = False
    replayed_events_are_forgotten: bool = False
    replayed_replies_are_forgotten: bool = False
    zombies_may_write: bool = False
    recovers_without_the_tail: bool = False
    versions_ignore_the_owner: bool = False
    gives_up_without_waiting: bool = False
    lease_is_ignored: bool = False
    lease_is_not_asked_at_the_socket: bool = False
    consent_is_not_asked: bool = False
    requests_precede_their_marks: bool = False
    lost_writes_are_told_as_durable: bool = False
    former_marks_are_not_waited_for: bool = False
    confirms_what_is_current: bool = False
    repeats_after_a_time_out: bool = False
    job_names_are_not_kept: bool = False
    nobody_looks_who_is_due: bool = False

    @property
    def name(self) -> str:
        """Of the rule that is broken."""
        return " ".join(field.name for field in fields(self) if getattr(self, field.name))

    # At the seams -------------------------------------------------------------------------------------------------------------

    def spoil(self, states: Iterable[PartitionState[Any]]) -> None:
        for state in states:
            if self.marks_are_dropped:
                state.__class__ = _Markless
            elif self.visits_have_no_mark:
                state.__class__ = _VisitsMarkless
            elif self.values_under_way_are_not_read:
                state.__class__ = _Forgetful

    def lease(self, lease: Callable[[], bool]) -> Callable[[], bool]:
        return (lambda: True) if self.lease_is_ignored else lease

    def consent(self, is_denied: Callable[[Any], bool]) -> Callable[[Any], bool]:
        return (lambda _: False) if self.consent_is_not_asked else is_denied

    def store(self, app: Any, outbox: Any, home: Callable[[str], int]) -> TableOutboxStore:
        if self.requests_precede_their_marks:
            return _Hasty(app, outbox, home)
        return (_Boastful if self.lost_writes_are_told_as_durable else TableOutboxStore)(app, outbox, home)

    def agent(self, name: str, apply: Apply) -> Apply:
        if (name == "fold_profiles" and self.replayed_events_are_forgotten) or (
            name == "keep_neighbours" and self.replayed_replies_are_forgotten
        ):
            return lambda unit: (setattr(unit, "replayed", ()), apply(unit))[1]
        return apply

    def new_offset(self, consumer: Any, tp: Any) -> int | None:
        offset: int | None = GroupConsumer._new_offset(consumer, tp)
        if self.commits_over_unacknowledged_batches:
            queue = consumer._delivered.get(tp, ())
            while any(message.acked for message in queue):
                offset = consumer._seen_through[tp] = queue.popleft().offset + 1
        return offset

    # Where there is none ------------------------------------------------------------------------------------------------------

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rule is broken in the code itself, and mended afterwards."""
        broken = [patch for flaw, patches in _IN_PLACE.items() if getattr(self, flaw) for patch in patches]
        whole = [(owner, name, vars(owner)[name]) for owner, name, _ in broken]
        for owner, name, function in broken:
            setattr(owner, name, function)
        try:
            yield
        finally:
            for owner, name, function in whole:
                setattr(owner, name, function)


class _Markless(PartitionState[Any]):
    """Marks are not kept."""

    __slots__ = ()

    def advance(self, source: bytes, next_offset: int) -> None:
        """Forgets."""


class _VisitsMarkless(PartitionState[Any]):
    """What is dropped by the visits' own offsets is; what is repeated under new ones is not."""

    __slots__ = ()

    def applied(self, source: bytes) -> int:
        return 0 if b"/" in source else super().applied(source)


class _Forgetful(PartitionState[Any]):
    """What is on its way to the changelog is nowhere."""

    __slots__ = ()

    def _raw(self, key: bytes) -> bytes | None:
        return None if key in self._dirty else self._database.get(key)


class _Hasty(TableOutboxStore):
    """Does not wait until what it wrote is durable."""

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        app: Any = self._app
        try:
            self._outbox.state(partition)
        except NotOwnedError:
            return False
        app._process.begin(super().write(partition, changes))
        await asyncio.sleep(0)  # the entries are changed
        return True


class _Boastful(TableOutboxStore):
    """What was lost was written."""

    async def write(self, partition: int, changes: Mapping[str, Change]) -> bool:
        await super().write(partition, changes)
        return True


def _may_send_one(sender: Any, user_id: str) -> bool:
    return bool(sender._kit.may_tell(user_id))


def _may_send_all(sender: Any, claims: Any) -> bool:
    return all(map(sender._may_tell, claims))


_is_settled, _accept, _confirm = Sender._is_settled, outbox.accept, outbox.confirm


def _is_settled_if_answered(sender: Any, claims: Any, parts: Any, answer: Any, era: int) -> bool:
    if isinstance(answer, NoResponse) and answer.missing is Missing.TIMED_OUT:
        sender._kit.breaker.ended(era)
        return False
    return _is_settled(sender, claims, parts, answer, era)


def _accept_namelessly(entry: Any, target: str, version: int, job: str, digest: int, now_ms: int) -> None:
    _accept(entry, target, version, "", digest, now_ms)


def _confirm_the_current(entry: Any, target: str, version: int, now_ms: int, digest: int = 0) -> int:
    return _confirm(entry, target, entry.update.version, now_ms, digest)


async def _scan_nothing(scan: Any, partitions: Any) -> None:
    """Nobody is found."""


#: Flaw → what stands for what, and where.
_IN_PLACE: dict[str, list[tuple[Any, str, Any]]] = {
    "lease_is_not_asked_at_the_socket": [(Sender, "_may_send_one", _may_send_one), (Sender, "_may_send_all", _may_send_all)],
    "repeats_after_a_time_out": [(Sender, "_is_settled", _is_settled_if_answered)],
    "job_names_are_not_kept": [(outbox, "accept", _accept_namelessly)],
    "confirms_what_is_current": [(outbox, "confirm", _confirm_the_current)],
    "former_marks_are_not_waited_for": [(outbox, "MAX_FLIGHT_MS", 0)],
    "nobody_looks_who_is_due": [(PendingScan, "_scan", _scan_nothing)],
}
