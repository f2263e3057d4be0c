"""The small global models, added up from all shares and prepared for ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.reminders import (
    HISTORY_CELLS,
    HISTORY_ONCE,
    MAX_RANK,
    RANK_OF_CELL,
    SESSION_CELLS,
    SESSION_ONCE,
    START_CELLS,
    Reminders,
)
from app.domain.share import Share
from app.domain.trending import decayed_trends, trending_shares

#: A cell with few counts leans on its rank alone, as if it had met this many more events like the rank's.
_RANK_PRIOR = 50.0
#: Events without a return that every rank, and every cell of the history, begins with.
_NO_RETURN_RANK = 1.0
_NO_RETURN_HISTORY = 20.0
#: At session start, what links and trends count, while returns count as they were learned. On a log of purchases, 0.2 to 0.4 for links
#: differ by less than a point of HR@20 at session start; 1.0 costs 4 points.
START_LINKED = 0.3
_START_TRENDING = 0.3 * START_LINKED


@dataclass(frozen=True, slots=True)
class GlobalModels:
    """What ranking asks of all people's behaviour."""

    #: Probability that the next product is the one in this cell of the session (app/domain/reminders.py).
    session_return: tuple[float, ...]
    #: The same for cells of earlier sessions.
    history_return: tuple[float, ...]
    #: Product and its share of all touches, best first, at most 60.
    trending: tuple[tuple[str, float], ...]
    #: The same, newer touches counting more, at most 1,000: what lists of trends are made of.
    trends: tuple[tuple[str, float], ...] = ()
    #: Probability that a session begins with the product in this cell.
    start_return: tuple[float, ...] = (0.0,) * START_CELLS
    #: By product, what its trend adds to its score at session start.
    trending_scores: dict[str, float] = field(init=False, repr=False, compare=False)
    #: What others make of these models once: a place to remember it in, by who made it.
    derived: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        scores = {product_id: _START_TRENDING * share for product_id, share in self.trending}
        object.__setattr__(self, "trending_scores", scores)  # once for all rankings; the models are frozen

    @classmethod
    def of(cls, shares: Iterable[Share]) -> GlobalModels:
        """The sum of the shares, in the order of their partitions, so that it does not depend on the order given."""
        ordered = sorted(shares, key=lambda share: share.partition)
        reminders = [share.reminders for share in ordered]
        return cls(
            session_return=_session_return(reminders),
            history_return=_history_return(reminders),
            start_return=_start_return(reminders),
            trending=tuple(trending_shares(share.trending for share in ordered)),
            trends=tuple(decayed_trends(share.trending for share in ordered)),
        )


def _session_return(reminders: Sequence[Reminders]) -> tuple[float, ...]:
    available = _sum([r.session_available for r in reminders], reminders, SESSION_CELLS)
    _add_once(available, _sum([r.session_once for r in reminders], reminders, len(SESSION_ONCE)), SESSION_ONCE)
    hit = _sum([r.session_hit for r in reminders], reminders, SESSION_CELLS)
    rank_available = [_NO_RETURN_RANK] * (MAX_RANK + 1)
    rank_hit = [0.0] * (MAX_RANK + 1)
    for cell, rank in enumerate(RANK_OF_CELL):
        rank_available[rank] += available[cell]
        rank_hit[rank] += hit[cell]
    by_rank = [h / a for h, a in zip(rank_hit, rank_available, strict=True)]
    return tuple((hit[cell] + _RANK_PRIOR * by_rank[rank]) / (available[cell] + _RANK_PRIOR) for cell, rank in enumerate(RANK_OF_CELL))


def _history_return(reminders: Sequence[Reminders]) -> tuple[float, ...]:
    available = _sum([r.history_available for r in reminders], reminders, HISTORY_CELLS)
    _add_once(available, _sum([r.history_once for r in reminders], reminders, len(HISTORY_ONCE)), HISTORY_ONCE)
    hit = _sum([r.history_hit for r in reminders], reminders, HISTORY_CELLS)
    return tuple(h / (a + _NO_RETURN_HISTORY) for h, a in zip(hit, available, strict=True))


def _start_return(reminders: Sequence[Reminders]) -> tuple[float, ...]:
    available = _sum([r.start_available for r in reminders], reminders, START_CELLS)
    hit = _sum([r.start_hit for r in reminders], reminders, START_CELLS)
    return tuple(h / (a + _NO_RETURN_HISTORY) for h, a in zip(hit, available, strict=True))


def _sum(counts: Sequence[Sequence[float]], reminders: Sequence[Reminders], size: int) -> list[float]:
    """Counts by cell over all shares, each in units of its own next event."""
    total = [0.0] * size
    for one, of in zip(counts, reminders, strict=True):
        scale = of.scale
        for cell, count in enumerate(one):
            total[cell] += count / scale
    return total


def _add_once(available: list[float], once: Sequence[float], cells_by_number: Sequence[Sequence[int]]) -> None:
    """What was counted by the number of products, in the cells that so many fill."""
    for count, cells in zip(once, cells_by_number, strict=True):
        for cell in cells:
            available[cell] += count
