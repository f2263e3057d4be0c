"""For you: what the person is likely to want next, by StreamPair."""

from __future__ import annotations

from app.domain.ranking import rank_situation
from app.domain.recommendations import Recommendation
from app.domain.strategies.query import Query


def for_you(query: Query, limit: int) -> list[Recommendation]:
    """The ranking of app/domain/ranking.py. It goes by the situation, which is empty for someone unknown or who denied profiling: they
    get what trends.
    """
    return rank_situation(query.situation, query.models, query.source, limit)
