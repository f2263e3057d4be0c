"""The ranking: what a person is likely to want next, best first, each product with its reason.

This is the score of StreamPair. New products come from the neighbours of what the person touched last; products of the session return
with the learned probability of their cell, those of earlier sessions with theirs. At session start the last products of the history stand
in for the session, returns reach further back and have a model of their own, and what trends has a part. Ties are ordered by product id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from math import exp
from types import MappingProxyType
from typing import NamedTuple, Protocol

from app.domain.fields import profiling_is_denied
from app.domain.models import START_LINKED, GlobalModels
from app.domain.profile import SESSION_GAP_MS
from app.domain.recommendations import Reason, Recommendation
from app.domain.reminders import MAX_RANK, history_cells, session_cells, start_cells
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import (
    REASON_KIND_ALSO_VIEWED,
    REASON_KIND_SEEN_BEFORE,
    REASON_KIND_SEEN_NOW,
    REASON_KIND_TRENDING,
)

#: Distinct products, newest first, whose neighbours are asked for.
MAX_CONTEXT = MAX_RANK
#: What the r-th of them counts: in a session, and at session start.
_IN_SESSION = tuple(exp(-rank / 2.0) for rank in range(MAX_CONTEXT))
_AT_START = tuple(exp(-rank / 3.0) for rank in range(MAX_CONTEXT))
#: With fewer candidates than this, the neighbours of the best 10 come in, too.
_ENOUGH_CANDIDATES = 60
_EXPANDED = 10
_SECOND_HOP = 0.4
#: What is left for new products however sure returns are.
_MIN_NEW = 0.05
_TRENDS = Reason(REASON_KIND_TRENDING)
#: Two scores that a multiplication could make equal differ by less.
_NEARLY = 1.0 - 1e-12
_NOTHING: Mapping[str, float] = MappingProxyType({})
#: From a tuple of its fields, in half the time of the constructor.
_recommendation: Callable[[tuple[str, float, Reason]], Recommendation] = partial(tuple.__new__, Recommendation)

#: A factor, neighbour ids and weights: the score of ids[i] is factor * weights[i].
ScoredList = tuple[float, Sequence[str], Sequence[float]]


class NeighbourSource(Protocol):
    """Where the neighbours of a product are read: the lists held for a person (app/domain/held_neighbours.py), or live items."""

    def neighbours(self, product_id: str) -> ScoredList | None:
        """None if nothing is known of the product."""

    def damp(self, scores: dict[str, float]) -> None:
        """Lower the scores of popular products in place, if their popularity is known here."""

    def together(self, product_id: str) -> tuple[int, Mapping[str, int]]:
        """How often the product was visited, and how many of these visits each of its neighbours shared; (0, {}) if nothing is known."""

    def bought(self, product_id: str) -> tuple[int, Sequence[str], Sequence[int]]:
        """How often the product was bought, and what was bought with it, most often first: ids and counts. (0, (), ()) if not known."""


class Situation(NamedTuple):
    """What a ranking goes by. Lists are oldest first, with repeats."""

    #: Products of the open session; empty at session start.
    session: list[str]
    #: Products of earlier sessions.
    earlier: list[str]


def situation_of(profile: Profile, now_ms: int) -> Situation:
    """The session counts as over half an hour after its last event. Someone who denied profiling is like someone unknown."""
    if profile.consents and profiling_is_denied(profile):
        return Situation([], [])
    history = profile.history.product_ids[:]
    session = profile.session
    if not session.history_count or now_ms - session.last_event_at_ms > SESSION_GAP_MS:
        return Situation([], history)
    return Situation(session.product_ids[:], history[: -session.history_count])


def rank(profile: Profile, source: NeighbourSource, models: GlobalModels, now_ms: int, length: int = 20) -> list[Recommendation]:
    """The best ``length`` products for the person at ``now_ms``, links read from ``source``; fewer if no more are known."""
    return rank_situation(situation_of(profile, now_ms), models, source, length)


def rank_situation(situation: Situation, models: GlobalModels, source: NeighbourSource, length: int) -> list[Recommendation]:
    """The best ``length`` products in a situation, the neighbours read from ``source``.

    It runs once for every dirty user. tests/unit/domain/plain_ranking.py says the same in plain words, and agrees to the last bit.
    """
    session, earlier = situation
    context: Collection[str]
    seen_now: Mapping[str, float]
    trends: Mapping[str, float]
    if session:
        # The cells are those of the newest 12 distinct products, which are the context, too.
        context = seen_now = {product_id: models.session_return[cell] for product_id, cell in session_cells(session).items()}
        lists = _lists_of(context, _IN_SESSION, source)
        trends = _NOTHING
        linked_part = max(_MIN_NEW, 1.0 - sum(seen_now.values()))
        seen_before = {product_id: models.history_return[cell] for product_id, cell in history_cells(earlier, session).items()}
    else:
        seen_now = _NOTHING
        context = _newest_distinct(earlier, MAX_CONTEXT)
        lists = _lists_of(context, _AT_START, source)
        trends = models.trending_scores
        linked_part = START_LINKED
        seen_before = {product_id: models.start_return[cell] for product_id, cell in start_cells(earlier).items()}
    linked, expanded = _link_scores(context, lists, source)
    source.damp(linked)
    for product_id in seen_now:
        if product_id in linked:
            del linked[product_id]
    # Scores by link are brought to the sum that returns leave to new products.
    scale = linked_part / (sum(linked.values()) or 1.0)

    # What cannot be among the best, whatever all are multiplied by, is below the floor.
    floor = sorted(linked.values(), reverse=True)[length - 1] * _NEARLY if len(linked) > length else 0.0
    scores = {product_id: score * scale for product_id, score in linked.items() if score >= floor}
    scores.update(seen_now)
    for part in (seen_before, trends):
        for product_id, score in part.items():
            if product_id in scores:
                scores[product_id] += score
            elif product_id in linked:
                scores[product_id] = linked[product_id] * scale + score
            else:
                scores[product_id] = score
    best = _best(scores, length)

    by_link = {product_id for _, product_id in best if product_id in linked}
    for part in (seen_before, trends):
        for product_id in by_link & part.keys():
            if part[product_id] > linked[product_id] * scale:
                by_link.remove(product_id)
    causes = _causes(by_link, lists, expanded)
    also_viewed = {origin: Reason(REASON_KIND_ALSO_VIEWED, origin) for origin in set(causes.values())}

    times: Counter[str] | None = None
    recommendations = []
    for negative, product_id in best:
        if product_id in causes:
            reason = also_viewed[causes[product_id]]
        elif product_id not in seen_now and trends.get(product_id, 0.0) > seen_before.get(product_id, 0.0):
            reason = _TRENDS
        else:
            if times is None:
                times = Counter(session + earlier)
            reason = Reason(REASON_KIND_SEEN_NOW if product_id in seen_now else REASON_KIND_SEEN_BEFORE, "", times[product_id])
        recommendations.append(_recommendation((product_id, -negative, reason)))
    if len(recommendations) < length:
        _fill(recommendations, scores, models, length)
    return recommendations


def _newest_distinct(products: list[str], count: int) -> list[str]:
    """The last ``count`` distinct products, newest first."""
    # Mostly they are among the last few: a history of 200 need not be seen through.
    found = dict.fromkeys(products[: -2 * count - 1 : -1])
    if len(found) < count < len(products):
        found = dict.fromkeys(products[::-1])
    return list(found)[:count]


def _lists_of(context: Iterable[str], decay: Sequence[float], source: NeighbourSource) -> list[tuple[str, ScoredList]]:
    """Each context product that has neighbours, with them; the factor includes what the product's rank counts."""
    lists = []
    for worth, product_id in zip(decay, context, strict=False):
        found = source.neighbours(product_id)
        if found is not None:
            factor, ids, weights = found
            lists.append((product_id, (worth * factor, ids, weights)))
    return lists


def _link_scores(
    context: Collection[str], lists: Sequence[tuple[str, ScoredList]], source: NeighbourSource
) -> tuple[dict[str, float], list[tuple[str, ScoredList]]]:
    """Scores of the neighbours, and the lists of the second hop where there were few."""
    scores: dict[str, float] = {}
    for _, (factor, ids, weights) in lists:
        for product_id, weight in zip(ids, weights, strict=True):
            if product_id in scores:
                scores[product_id] += factor * weight
            else:
                scores[product_id] = factor * weight
    expanded: list[tuple[str, ScoredList]] = []
    if 0 < len(scores) < _ENOUGH_CANDIDATES:
        for negative, middle in _best(scores, _EXPANDED):
            if (found := source.neighbours(middle)) is not None:
                factor, ids, weights = found
                expanded.append((middle, (-negative * _SECOND_HOP * factor, ids, weights)))
        for _, (factor, ids, weights) in expanded:
            for product_id, weight in zip(ids, weights, strict=True):
                if product_id in scores:
                    if product_id not in context:
                        scores[product_id] += factor * weight
                elif product_id not in context:
                    scores[product_id] = factor * weight
    return scores, expanded


def _best(scores: dict[str, float], count: int) -> list[tuple[float, str]]:
    """The best ``count`` as (negative score, product id), best first, ties by id."""
    if len(scores) > count:
        floor = sorted(scores.values(), reverse=True)[count - 1]
        return sorted([(-score, product_id) for product_id, score in scores.items() if score >= floor])[:count]
    return sorted([(-score, product_id) for product_id, score in scores.items()])


def _causes(wanted: set[str], lists: Sequence[tuple[str, ScoredList]], expanded: Sequence[tuple[str, ScoredList]]) -> dict[str, str]:
    """For each product that links led to, the context product that contributed most (the newer at a tie), over a middle one if need be."""
    causes = _strongest(wanted, lists)
    if len(causes) < len(wanted):
        middles = _strongest(wanted - causes.keys(), expanded)
        via = _strongest(set(middles.values()), lists)
        causes.update((product_id, via[middle]) for product_id, middle in middles.items())
    return causes


def _strongest(wanted: set[str], lists: Sequence[tuple[str, ScoredList]]) -> dict[str, str]:
    found: dict[str, str] = {}
    strength: dict[str, float] = {}
    for origin, (factor, ids, weights) in lists:
        for product_id, weight in zip(ids, weights, strict=True):
            if product_id in wanted:
                score = factor * weight
                if product_id not in strength:
                    if score > 0.0:
                        strength[product_id] = score
                        found[product_id] = origin
                elif score > strength[product_id]:
                    strength[product_id] = score
                    found[product_id] = origin
    return found


def _fill(recommendations: list[Recommendation], known: dict[str, float], models: GlobalModels, length: int) -> None:
    """Append what trends, below everything that has a score of the person's own."""
    floor = min(recommendations[-1].score if recommendations else 1.0, 1.0)
    for product_id, share in models.trending:
        if len(recommendations) >= length:
            break
        if product_id not in known:
            recommendations.append(_recommendation((product_id, floor * share, _TRENDS)))
