"""Ways to break a worker, one rule at a time, so that a test can see the simulation fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.delivery.ledger import Change
from app.engine.table import PartitionState
from app.errors import NotOwnedError
from app.streams.outbox_store import TableOutboxStore


@dataclass(frozen=True)
class Flaws:
    """None by default."""

    marks_are_dropped: bool = False
    visits_have_no_mark: bool = False
    acknowledges_before_the_changelog: bool = False
    acknowledges_before_the_ranking: bool = False
    outputs_follow_the_changelog: bool = False
    zombies_may_write: bool = False
    recovers_without_the_tail: bool = False
    versions_ignore_the_owner: bool = False
    lease_is_ignored: bool = False
    requests_precede_their_marks: bool = False

    def spoil(self, states: Iterable[PartitionState[Any]]) -> None:
        for state in states:
            if self.marks_are_dropped:
                state.__class__ = _Markless
            elif self.visits_have_no_mark:
                state.__class__ = _VisitsMarkless

    def lease(self, lease: Callable[[], bool]) -> Callable[[], bool]:
        return (lambda: True) if self.lease_is_ignored else lease

    def store(self, app: Any, outbox: Any, home: Callable[[str], int]) -> TableOutboxStore:
        return (_Hasty if self.requests_precede_their_marks else TableOutboxStore)(app, outbox, home)


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
