"""The reminder model: how likely a person's next product is one they touched already, learned from all people as counts by cell.

A cell of the session is (distinct-recency rank 1..12; times touched 1/2/3+; how long ago the last product had been touched before it:
never, 1, 2, 3+ distinct products; distinct products in the session 1/2/3/4-7/8+). A cell of earlier sessions is (power of two of the
rank; times touched 1/2/3+). Each event adds 1 to "available" of every cell that a product stands in, and to "hit" of the one that the
person came back to; old counts fade with a half-life of 50,000 events.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidings.state.v1.share_pb2 import Reminders

MAX_RANK = 12
HALF_LIFE_EVENTS = 50_000

_TIMES = 3
_LAGS = 4
#: Distinct products in the session -> number of its bucket; only ranks up to the bucket's last size can occur in it.
_BUCKETS = (0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4)
_RANKS_IN_BUCKET = (1, 2, 3, 7, 12)
_FIRST_OF_BUCKET = tuple(sum(_RANKS_IN_BUCKET[:bucket]) * _TIMES * _LAGS for bucket in range(5))
SESSION_CELLS = sum(_RANKS_IN_BUCKET) * _TIMES * _LAGS

#: How many of the last products of earlier sessions are looked at. With 128, 0.001 HR@20 is won on the log with the longest histories.
HISTORY_DEPTH = 16
_RANK_BITS = HISTORY_DEPTH.bit_length()
HISTORY_CELLS = _RANK_BITS * _TIMES

#: rank of each session cell, for the back-off to the rank alone.
RANK_OF_CELL = tuple(rank for ranks in _RANKS_IN_BUCKET for rank in range(1, ranks + 1) for _ in range(_TIMES * _LAGS))

_GROWTH = 2.0 ** (1.0 / HALF_LIFE_EVENTS)
#: Where the scale is brought back to 1, once in 20 half-lives; the counts are single-precision numbers and far from their limits.
_MAX_SCALE = 2.0**20


def new_reminders() -> Reminders:
    """Counts of nothing."""
    return Reminders(
        scale=1.0,
        session_available=[0.0] * SESSION_CELLS,
        session_hit=[0.0] * SESSION_CELLS,
        history_available=[0.0] * HISTORY_CELLS,
        history_hit=[0.0] * HISTORY_CELLS,
    )


def session_cells(session: Sequence[str]) -> list[tuple[str, int]]:
    """The session's distinct products, newest first, at most 12, each with its cell."""
    backwards = session[::-1]
    distinct = dict.fromkeys(backwards)
    newest_first = list(distinct)[:MAX_RANK]
    base = _FIRST_OF_BUCKET[_BUCKETS[len(newest_first)]]
    cells = []
    if len(distinct) == len(session):  # nothing twice: no lag either
        for product_id in newest_first:
            cells.append((product_id, base))
            base += _TIMES * _LAGS
        return cells
    base += _lag(backwards)
    touched = _times_touched(backwards)
    for product_id in newest_first:
        times = touched[product_id]
        cells.append((product_id, base + (times if times < _TIMES else _TIMES) * _LAGS - _LAGS))
        base += _TIMES * _LAGS
    return cells


def history_cells(earlier: Sequence[str], session: Sequence[str]) -> list[tuple[str, int]]:
    """The distinct products of earlier sessions that the session has not met, newest first, each with its cell."""
    touched = _times_touched(earlier[: -HISTORY_DEPTH - 1 : -1])
    for product_id in session:
        if product_id in touched:
            del touched[product_id]
    return [
        (product_id, rank.bit_length() * _TIMES + (times if times < _TIMES else _TIMES) - _TIMES - 1)
        for rank, (product_id, times) in enumerate(touched.items(), 1)
    ]


def _times_touched(products: Sequence[str]) -> dict[str, int]:
    """In the order of their first places. Faster than a Counter for so few."""
    times: dict[str, int] = {}
    for product_id in products:
        times[product_id] = times.get(product_id, 0) + 1
    return times


def learn_return(reminders: Reminders, session: Sequence[str], earlier: Sequence[str], product_id: str) -> None:
    """Add what one interaction with ``product_id``, after these products, tells."""
    reminders.scale *= _GROWTH
    if reminders.scale > _MAX_SCALE:
        _bring_back(reminders)
    weight = reminders.scale
    if session:
        available = reminders.session_available
        for other, cell in session_cells(session):
            available[cell] += weight
            if other == product_id:
                reminders.session_hit[cell] += weight
    if earlier:
        available = reminders.history_available
        met: dict[int, int] = {}
        for other, cell in history_cells(earlier, session):
            met[cell] = met.get(cell, 0) + 1
            if other == product_id:
                reminders.history_hit[cell] += weight
        for cell, count in met.items():
            available[cell] += weight * count


def _lag(backwards: Sequence[str]) -> int:
    """How many distinct products back the last product had been touched before: 0 never, 1, 2, 3 or more (looking at most 6 back)."""
    newest = backwards[0]
    try:
        before = backwards.index(newest, 1)
    except ValueError:
        return 0
    lag = len(set(backwards[1:before])) + 1
    return 0 if lag > 6 else min(lag, _LAGS - 1)


def _bring_back(reminders: Reminders) -> None:
    scale = reminders.scale
    for counts in (reminders.session_available, reminders.session_hit, reminders.history_available, reminders.history_hit):
        counts[:] = [count / scale for count in counts]
    reminders.scale = 1.0
