"""The ranking: what a person is likely to want next, best first, each product with its reason.

This is the score of StreamPair. New products come from the neighbours of what the person touched last; products of the session return
with the learned probability of their cell, those of earlier sessions with theirs. At session start the last products of the history stand
in for the session, returns reach further back and have a model of their own, and what trends has a part. Ties are ordered by product id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import exp
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

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
_reason: Callable[[tuple[Any, ...]], Reason] = partial(tuple.__new__, Reason)
#: The rest of a reason that says no more than its kind and cause.
_NO_MORE = Reason(REASON_KIND_ALSO_VIEWED)[2:]

#: A factor, and weights by product: a neighbour's score is factor * weight.
ScoredLinks = tuple[float, Mapping[str, float]]


class NeighbourSource(Protocol):
    """Where the neighbours of a product are read: the lists held for a person (app/domain/held_neighbours.py), or live items."""

    def neighbours(self, product_id: str) -> ScoredLinks | None:
        """None if nothing is known of the product."""

    def damped(self, scores: dict[str, float]) -> Collection[float]:
        """The scores in their order, those of popular products lowered if their popularity is known here."""

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
    """The best ``length`` products in a situation, the neighbours read from ``source``, with their reasons.

    It runs once for every dirty user. tests/unit/domain/plain_ranking.py says the same in plain words, and agrees to the last bit.
    """
    scored = score_situation(situation, models, source, length)
    best, scores = scored.best, scored.scores
    reasons = _link_reasons(scored)
    if len(reasons) < len(best):
        _add_other_reasons(reasons, situation, scored)
    columns = zip(best, map(scores.__getitem__, best), map(reasons.__getitem__, best), strict=True)
    recommendations = list(map(_recommendation, columns))
    if len(recommendations) < length:
        _fill(recommendations, scores, models, length)
    return recommendations


class Scored(NamedTuple):
    """The best products, best first, and how they came to be."""

    best: list[str]
    #: Final scores of these and some more.
    scores: dict[str, float]
    #: Scores by links alone, and what these count in the final ones.
    linked: dict[str, float]
    scale: float
    #: Products of the context with their links, and the same of the second hop.
    lists: Sequence[tuple[str, ScoredLinks]]
    expanded: Sequence[tuple[str, ScoredLinks]]
    seen_now: Mapping[str, float]
    seen_before: Mapping[str, float]
    trends: Mapping[str, float]


def score_situation(situation: Situation, models: GlobalModels, source: NeighbourSource, length: int) -> Scored:
    """The best ``length`` products in a situation; fewer where no more have a score. Without reasons."""
    session, earlier = situation
    seen_now: Mapping[str, float]
    seen_before: Mapping[str, float]
    if session:
        # The cells are those of the newest 12 distinct products, which are the context, too.
        chances = models.session_return
        seen_now = {product_id: chances[cell] for product_id, cell in session_cells(session).items()}
        lists, expanded, linked = _follow_links(seen_now, _IN_SESSION, source)
        # A product of the session stands in the list once, with its chance to return.
        for product_id in seen_now:
            if product_id in linked:
                del linked[product_id]
        # Scores by link are brought to the sum that returns leave to new products.
        linked_part = max(_MIN_NEW, 1.0 - sum(seen_now.values()))
        seen_before = _seen_before(models.history_return, history_cells(earlier, session)) if earlier else _NOTHING
        trends = _NOTHING
    else:
        seen_now = _NOTHING
        lists, expanded, linked = _follow_links(_newest_distinct(earlier, MAX_CONTEXT), _AT_START, source)
        linked_part = START_LINKED
        seen_before = _seen_before(models.start_return, start_cells(earlier))
        trends = models.trending_scores
    values = source.damped(linked)
    scale = linked_part / (sum(values) or 1.0)

    # What cannot be among the best, whatever all are multiplied by, is below the floor.
    if len(linked) > length:
        floor = sorted(values, reverse=True)[length - 1] * _NEARLY
        scores = {product_id: score * scale for product_id, score in zip(linked, values, strict=True) if score >= floor}
    else:
        scores = {product_id: score * scale for product_id, score in zip(linked, values, strict=True)}
    scores.update(seen_now)
    if seen_before or trends:
        linked = dict(zip(linked, values, strict=True))
        for part in (seen_before, trends):
            for product_id, score in part.items():
                if product_id in scores:
                    scores[product_id] += score
                elif product_id in linked:
                    scores[product_id] = linked[product_id] * scale + score
                else:
                    scores[product_id] = score
    return Scored(_best(scores, length), scores, linked, scale, lists, expanded, seen_now, seen_before, trends)


def _seen_before(chances: Sequence[float], cells: Mapping[str, int]) -> dict[str, float]:
    return {product_id: chances[cell] for product_id, cell in cells.items()}


def _newest_distinct(products: list[str], count: int) -> list[str]:
    """The last ``count`` distinct products, newest first."""
    # Mostly they are among the last few: a history of 200 need not be seen through.
    found = dict.fromkeys(products[: -2 * count - 1 : -1])
    if len(found) < count < len(products):
        found = dict.fromkeys(products[::-1])
    return list(found)[:count]


def _follow_links(
    context: Collection[str], decay: Sequence[float], source: NeighbourSource
) -> tuple[list[tuple[str, ScoredLinks]], list[tuple[str, ScoredLinks]], dict[str, float]]:
    """Of each context product that has neighbours, these, and the same of the best of these where there were few; and the scores that
    all of them come to. The factor of a product includes what its rank counts.

    The loops below are most of a ranking.
    """
    lists: list[tuple[str, ScoredLinks]] = []
    scores: dict[str, float] = {}
    neighbours = source.neighbours
    for worth, product_id in zip(decay, context, strict=False):
        if (found := neighbours(product_id)) is None:
            continue
        factor, links = found
        factor *= worth
        lists.append((product_id, (factor, links)))
        if not scores:
            scores = {other: factor * weight for other, weight in links.items()}
            continue
        for other, weight in links.items():
            if other in scores:
                scores[other] += factor * weight
            else:
                scores[other] = factor * weight
    expanded: list[tuple[str, ScoredLinks]] = []
    if not 0 < len(scores) < _ENOUGH_CANDIDATES:
        return lists, expanded, scores
    for middle in _best(scores, _EXPANDED):
        if (found := neighbours(middle)) is not None:
            factor, links = found
            expanded.append((middle, (scores[middle] * _SECOND_HOP * factor, links)))
    # The second hop does not lead back: cheaper undone for the few products of the context than avoided for every link.
    first_hop = [(product_id, scores.get(product_id)) for product_id in context]
    for _, (factor, links) in expanded:
        for other, weight in links.items():
            if other in scores:
                scores[other] += factor * weight
            else:
                scores[other] = factor * weight
    for product_id, score in first_hop:
        if score is not None:
            scores[product_id] = score
        else:
            scores.pop(product_id, None)
    return lists, expanded, scores


def _best(scores: dict[str, float], count: int) -> list[str]:
    """The best ``count``, best first, ties by id."""
    best = sorted(scores, key=scores.__getitem__, reverse=True)
    del best[count + 1 :]
    if len(set(map(scores.__getitem__, best))) < len(best):
        best = sorted(scores, key=lambda product_id: (-scores[product_id], product_id))
    return best[:count]


def _link_reasons(scored: Scored) -> dict[str, Reason]:
    """Of each of the best that links led to, the context product that contributed most (the newer at a tie); where only a second hop leads
    there, that of the first hop to the best product in between.
    """
    linked, scale, lists, expanded = scored.linked, scored.scale, scored.lists, scored.expanded
    if not lists:
        return {}
    wanted = linked.keys() & scored.best
    if not all(map(linked.__getitem__, wanted)):
        wanted = {product_id for product_id in wanted if linked[product_id]}
    for part in (scored.seen_before, scored.trends):
        for product_id in wanted & part.keys() if part else ():
            if part[product_id] > linked[product_id] * scale:
                wanted.remove(product_id)
    reasons = {origin: _reason((REASON_KIND_ALSO_VIEWED, origin, *_NO_MORE)) for origin, _ in lists}
    if len(lists) == 1:
        return dict.fromkeys(wanted, reasons[lists[0][0]])
    causes = _strongest(wanted, lists)
    if len(causes) < len(wanted):
        left = wanted - causes.keys()
        middles: dict[str, str] = {}
        for middle, (factor, links) in expanded:
            if factor > 0.0:
                for product_id in left & links.keys():
                    if links[product_id] > 0.0:
                        middles[product_id] = middle
                        left.remove(product_id)
                if not left:
                    break
        via = _strongest(set(middles.values()), lists)
        causes.update([(product_id, via[middle]) for product_id, middle in middles.items()])
    return {product_id: reasons[origin] for product_id, origin in causes.items()}


def _add_other_reasons(reasons: dict[str, Reason], situation: Situation, scored: Scored) -> None:
    """Of each of the best that has none yet: it was seen now or before, or it trends."""
    session, earlier = situation
    seen_now, seen_before, trends = scored.seen_now, scored.seen_before, scored.trends
    times = Counter(session + earlier) if earlier else None
    for product_id in scored.best:
        if product_id in reasons:
            continue
        if product_id not in seen_now and trends.get(product_id, 0.0) > seen_before.get(product_id, 0.0):
            reasons[product_id] = _TRENDS
        else:
            kind = REASON_KIND_SEEN_NOW if product_id in seen_now else REASON_KIND_SEEN_BEFORE
            seen = session.count(product_id) if times is None else times[product_id]
            reasons[product_id] = _reason((kind, "", seen, *_NO_MORE[1:]))


def _strongest(wanted: set[str], lists: Sequence[tuple[str, ScoredLinks]]) -> dict[str, str]:
    found: dict[str, str] = {}
    strength: dict[str, float] = {}
    for origin, (factor, links) in lists:
        for product_id in wanted & links.keys():
            score = factor * links[product_id]
            if score > strength.get(product_id, 0.0):
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
