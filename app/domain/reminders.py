"""The reminder model: how likely a person's next product is one they touched already, learned from all people as counts by cell.

A cell of the session is (distinct-recency rank 1..12; times touched 1/2/3+; how long ago the last product had been touched before it:
never, 1, 2, 3+ distinct products; distinct products in the session 1/2/3/4-7/8+). A cell of earlier sessions is (power of two of the
rank; times touched 1/2/3+). How a session starts is learned apart, and looks further back, for then people return to what they had long
ago: its cells are (power of two of the rank; times touched 1/2/3/4+). Each event adds 1 to "available" of every cell that a product stands
in, and to "hit" of the one that the person came back to; old counts fade with a half-life of 50,000 events.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.compiled import SHARE_EXTENSION

MAX_RANK = 12
HALF_LIFE_EVENTS = 50_000

_TIMES = 3
_LAGS = 4
_PER_RANK = _TIMES * _LAGS
#: Distinct products in the session -> number of its bucket; only ranks up to the bucket's last size can occur in it.
_BUCKETS = (0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4)
_RANKS_IN_BUCKET = (1, 2, 3, 7, 12)
_FIRST_OF_BUCKET = tuple(sum(_RANKS_IN_BUCKET[:bucket]) * _PER_RANK for bucket in range(5))
SESSION_CELLS = sum(_RANKS_IN_BUCKET) * _PER_RANK
#: Distinct products in the session -> by rank, the cells of products that were touched once, the last one not before either.
SESSION_ONCE = tuple(
    tuple(range(first := _FIRST_OF_BUCKET[_BUCKETS[distinct]], first + distinct * _PER_RANK, _PER_RANK)) for distinct in range(MAX_RANK + 1)
)

#: How many of the last products of earlier sessions are looked at. With 128, 0.001 HR@20 is won on the log with the longest histories.
HISTORY_DEPTH = 16
HISTORY_CELLS = HISTORY_DEPTH.bit_length() * _TIMES
#: Distinct products of earlier sessions -> by rank, the cells of products that were touched once.
HISTORY_ONCE = tuple(
    tuple((rank.bit_length() - 1) * _TIMES for rank in range(1, distinct + 1)) for distinct in range(HISTORY_DEPTH + 1)
)

#: How many of the last products are looked at when a session starts. On the log of purchases at hand, this and counting starts apart win
#: 5 points of HR@20 at session start; 200 win nothing more.
START_DEPTH = 127
_START_TIMES = 4
START_CELLS = START_DEPTH.bit_length() * _START_TIMES
#: By rank less 1 and times touched less 1.
_START_CELL = tuple(
    tuple((rank.bit_length() - 1) * _START_TIMES + times for times in range(_START_TIMES)) for rank in range(1, START_DEPTH + 1)
)

#: rank of each session cell, for the back-off to the rank alone.
RANK_OF_CELL = tuple(rank for ranks in _RANKS_IN_BUCKET for rank in range(1, ranks + 1) for _ in range(_PER_RANK))

_GROWTH = 2.0 ** (1.0 / HALF_LIFE_EVENTS)
#: Where the scale is brought back to 1, once in 20 half-lives; the counts are single-precision numbers and far from their limits.
_MAX_SCALE = 2.0**20


def _no_counts(cells: int) -> array[float]:
    return array("f", bytes(4 * cells))


@dataclass(slots=True)
class Reminders:
    """The message of the same name as a working object. Counts by cell are single-precision here, too: each sum is rounded where it is
    made, so a share goes on alike whether or not it was stored and read in between.
    """

    #: The weight of the next event; counts are relative to it.
    scale: float = 1.0
    session_available: array[float] = field(default_factory=lambda: _no_counts(SESSION_CELLS))
    session_hit: array[float] = field(default_factory=lambda: _no_counts(SESSION_CELLS))
    history_available: array[float] = field(default_factory=lambda: _no_counts(HISTORY_CELLS))
    history_hit: array[float] = field(default_factory=lambda: _no_counts(HISTORY_CELLS))
    start_available: array[float] = field(default_factory=lambda: _no_counts(START_CELLS))
    start_hit: array[float] = field(default_factory=lambda: _no_counts(START_CELLS))
    #: By the number of products where nothing stood twice: available in each of SESSION_ONCE, HISTORY_ONCE of that number.
    session_once: list[float] = field(default_factory=lambda: [0.0] * len(SESSION_ONCE))
    history_once: list[float] = field(default_factory=lambda: [0.0] * len(HISTORY_ONCE))

    def of_cells(self) -> tuple[array[float], ...]:
        return (
            self.session_available, self.session_hit, self.history_available, self.history_hit, self.start_available, self.start_hit,
        )  # fmt: skip

    def all_counts(self) -> tuple[array[float] | list[float], ...]:
        """Whatever is relative to the scale."""
        return *self.of_cells(), self.session_once, self.history_once


def session_cells(session: Sequence[str]) -> dict[str, int]:
    """The session's distinct products, newest first, at most 12, each with its cell."""
    backwards = session[::-1]
    count = len(backwards)
    cells = dict(zip(backwards, SESSION_ONCE[count if count < MAX_RANK else MAX_RANK], strict=False))
    if len(cells) == count:  # nothing twice, as mostly
        return cells
    distinct, again = _distinct(backwards)
    count = len(distinct)
    cells = dict(zip(distinct, SESSION_ONCE[count if count < MAX_RANK else MAX_RANK], strict=False))
    if backwards[0] in again and (lag := _lag(backwards)):
        for product_id in cells:
            cells[product_id] += lag
    for product_id in again:
        if product_id in cells and cells[product_id] % _PER_RANK < (_TIMES - 1) * _LAGS:
            cells[product_id] += _LAGS
    return cells


def history_cells(earlier: Sequence[str], session: Sequence[str]) -> dict[str, int]:
    """The distinct products of earlier sessions that the session has not met, newest first, each with its cell."""
    backwards = earlier[: -HISTORY_DEPTH - 1 : -1]
    cells = dict(zip(backwards, HISTORY_ONCE[-1], strict=False))
    if len(cells) == len(backwards) and cells.keys().isdisjoint(session):
        return cells
    distinct, again = _distinct(backwards)
    for product_id in session:
        if product_id in distinct:
            del distinct[product_id]
    cells = dict(zip(distinct, HISTORY_ONCE[-1], strict=False))
    for product_id in again:
        if product_id in cells and cells[product_id] % _TIMES < _TIMES - 1:
            cells[product_id] += 1
    return cells


def start_cells(earlier: Sequence[str]) -> dict[str, int]:
    """The distinct products of the last 127 touches before a session, newest first, each with its cell."""
    times = Counter(earlier[: -START_DEPTH - 1 : -1])
    most = _START_TIMES
    return {
        product_id: row[(count if count < most else most) - 1] for (product_id, count), row in zip(times.items(), _START_CELL, strict=False)
    }


def _distinct(products: Sequence[str]) -> tuple[dict[str, None], list[str]]:
    """The products in the order of their first places, and those of all further places."""
    distinct: dict[str, None] = {}
    again: list[str] = []
    for product_id in products:
        if product_id in distinct:
            again.append(product_id)
        else:
            distinct[product_id] = None
    return distinct, again


def learn_return(
    reminders: Reminders, session: Sequence[str], earlier: Sequence[str], product_id: str, compiled: Any = SHARE_EXTENSION
) -> None:
    """Add what one interaction with ``product_id``, after these products, tells. Compiled (_share.c) it adds the same."""
    if compiled is not None and compiled.learn_return(reminders, session, earlier, product_id):
        return
    reminders.scale *= _GROWTH
    if reminders.scale > _MAX_SCALE:
        _bring_back(reminders)
    weight = reminders.scale
    if session:
        count = len(session)
        if len(set(session)) == count:
            cells = SESSION_ONCE[count if count < MAX_RANK else MAX_RANK]
            reminders.session_once[len(cells)] += weight
            if product_id in session and (rank := count - session.index(product_id)) <= MAX_RANK:
                reminders.session_hit[cells[rank - 1]] += weight
        else:
            cell_of = session_cells(session)
            available = reminders.session_available
            for cell in cell_of.values():
                available[cell] += weight
            if product_id in cell_of:
                reminders.session_hit[cell_of[product_id]] += weight
    if earlier:
        if not session:
            available = reminders.start_available
            cell_of = start_cells(earlier)
            for cell in cell_of.values():
                available[cell] += weight
            if product_id in cell_of:
                reminders.start_hit[cell_of[product_id]] += weight
        recent = earlier[-HISTORY_DEPTH:]
        distinct = set(recent)
        if len(distinct) == len(recent):
            left = recent if distinct.isdisjoint(session) else [other for other in recent if other not in session]
            reminders.history_once[len(left)] += weight
            if product_id in left:
                reminders.history_hit[HISTORY_ONCE[-1][len(left) - 1 - left.index(product_id)]] += weight
        else:
            cell_of = history_cells(recent, session)
            available = reminders.history_available
            for cell in cell_of.values():
                available[cell] += weight
            if product_id in cell_of:
                reminders.history_hit[cell_of[product_id]] += weight


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
    for counts in reminders.all_counts():
        for place, count in enumerate(counts):
            counts[place] = count / scale
    reminders.scale = 1.0
