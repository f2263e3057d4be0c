"""Copies: to which moment what is here of a partition is whole, and how long it stays here once the partition is assigned elsewhere.

A partition is several tables, each with a changelog that is followed by itself: its copy is as old as the table that is furthest behind,
or answers from one table would contradict those from another. And until a partition's next owner has recovered it, the copy of the last
one may be the only one in the fleet that can answer.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A copy of a partition that left stays open for so long: a standby's answer may be a minute old (app/web/freshness.py).
KEPT_SECONDS = 60.0


class Copies:
    """Of one worker; bounded by the partitions and tables there are."""

    def __init__(self) -> None:
        #: By partition and table: the last moment at which the copy held all of the changelog, in ms since 1970, and up to which offset.
        self._held: dict[int, dict[str, tuple[int, int | None]]] = {}
        self._left_at: dict[int, float] = {}

    def holds_all(self, partition: int, table: str, offset: int | None, at_ms: int) -> None:
        """At that moment the changelog held nothing after ``offset``, its last record that is in the copy (None: no record)."""
        self._held.setdefault(partition, {})[table] = (at_ms, offset)

    def whole_at_ms(self, partition: int, offsets: Mapping[str, int | None]) -> int | None:
        """The last moment at which the copy of every table was whole; None: there was none since this process began.

        ``offsets``: what the copies hold now, by table. One that was begun anew, and holds less than it did, is not whole.
        """
        held = self._held.get(partition, {})
        moments = []
        for table, offset in offsets.items():
            if (known := held.get(table)) is None:
                return None
            at_ms, up_to = known
            if up_to is not None and (offset is None or offset < up_to):
                return None
            moments.append(at_ms)
        return min(moments, default=None)

    def stay(self, assigned: set[int], opened: set[int], now_seconds: float) -> set[int]:
        """Those that are to be open of what is assigned and what is open here; what does not stay is forgotten."""
        for partition in assigned:
            self._left_at.pop(partition, None)
        for partition in opened - assigned:
            self._left_at.setdefault(partition, now_seconds)
        for partition in [p for p, left_at in self._left_at.items() if now_seconds - left_at >= KEPT_SECONDS or p not in opened]:
            del self._left_at[partition]
            self._held.pop(partition, None)
        return assigned | set(self._left_at)
