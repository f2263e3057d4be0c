"""Where a source partition is read from after a take-over, and when going on would lose events. Pure.

Four numbers are compared: what the group committed, what the table's mark says was applied, and where the log begins and ends today.
"""

from __future__ import annotations

from app.errors import StateError


def start_position(source: str, table: str, *, committed: int | None, applied: int, beginning: int, end: int | None) -> int:
    """The first offset to read. Records below ``applied`` are read again only for what follows from them (Unit.replayed).

    ``applied`` is the offset after the last applied record, 0 when none was; ``end`` is None where the broker's word on it cannot be
    trusted. Raises StateError where records are missing that were never applied, and says what to do.
    """
    if end is not None and applied > end:
        raise StateError(
            f"table {table} applied {source} up to {applied}, but the log ends at {end}: the topic was deleted and made again, "
            "or is another cluster's. New records would be taken for applied ones. Use another application_id "
            "(and replay what should be in the tables)."
        )
    if committed is not None and committed > applied:
        raise StateError(
            f"table {table} came back with {source} applied up to {applied}, but {committed} is committed: "
            "its changelog lost records (deleted, or retention instead of compaction?). Going on would lose events. "
            "Restore the changelog, or reset the group's offsets to rebuild the table from the events."
        )
    start = beginning if committed is None else committed
    if start >= beginning:
        return start
    if applied >= beginning:
        return beginning  # what is gone was applied; only what followed from its last moments may be missing
    raise StateError(
        f"{source} was applied up to {applied}, but the log begins at {beginning}: retention deleted records that were not applied. "
        f"Raise the topic's retention.ms; to accept the loss, commit offset {beginning} for the group and use a new application_id."
    )
