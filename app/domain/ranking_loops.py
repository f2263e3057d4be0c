"""The loops of the ranking in Python: followed links, sums, the best, and why. app/domain/_kernel.c says the same compiled.

Both must agree to the last bit, on every version of Python, so sums are made one after the other, in the order of the links.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeAlias

from app.domain.recommendations import Reason, Recommendation
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.updates.v1.update_pb2 import (
    REASON_KIND_ALSO_VIEWED,
    REASON_KIND_SEEN_BEFORE,
    REASON_KIND_SEEN_NOW,
    REASON_KIND_TRENDING,
)

#: With fewer candidates than this, the neighbours of the best 10 come in, too.
_ENOUGH_CANDIDATES = 60
_EXPANDED = 10
_SECOND_HOP = 0.4
_TRENDS = Reason(REASON_KIND_TRENDING)
#: Two scores that a multiplication could make equal differ by less.
_NEARLY = 1.0 - 1e-12
#: From a tuple of its fields, in half the time of the constructor.
_recommendation: Callable[[tuple[str, float, Reason]], Recommendation] = partial(tuple.__new__, Recommendation)
_reason: Callable[[tuple[Any, ...]], Reason] = partial(tuple.__new__, Reason)
#: The rest of a reason that says no more than its kind and cause.
_NO_MORE = Reason(REASON_KIND_ALSO_VIEWED)[2:]

#: A factor, and weights by product or a serialised NeighbourList that has them: a neighbour's score is factor * weight.
ScoredLinks: TypeAlias = tuple[float, Mapping[str, float] | bytes]
#: Asks for the links of a product; None: nothing is known of it.
LinksOf: TypeAlias = Callable[[str], ScoredLinks | None]
#: Of products in an order: each with its factor, and its weights by product.
_Lists: TypeAlias = Sequence[tuple[str, tuple[float, Mapping[str, float]]]]


def rank_links(
    session: list[str],
    earlier: list[str],
    context: tuple[str, ...],
    worth: tuple[float, ...],
    links_of: LinksOf,
    damping: Mapping[str, float] | None,
    seen_now: dict[str, float],
    seen_before: dict[str, float],
    trends: dict[str, float],
    linked_part: float,
    length: int,
) -> list[Recommendation]:
    """The best ``length`` products, best first; fewer where no more have a score.

    ``context`` are distinct products, newest first, whose neighbours count ``worth``. The scores of neighbours, lowered by ``damping``, are
    brought to the sum ``linked_part``. ``seen_now``, ``seen_before`` and ``trends`` have scores by product; those of the first stand
    alone, the others are added.
    """
    lists, expanded, linked = _follow_links(context, worth, links_of)
    # A product of the session stands in the list once, with its chance to return.
    for product_id in seen_now:
        linked.pop(product_id, None)
    if damping is not None:
        linked = {product_id: score * damping[product_id] for product_id, score in linked.items()}
    total = 0.0
    for score in linked.values():  # sum() rounds otherwise from Python 3.12 on
        total += score
    scale = linked_part / (total or 1.0)

    # What cannot be among the best, whatever all are multiplied by, is below the floor.
    floor = sorted(linked.values(), reverse=True)[length - 1] * _NEARLY if 0 < length < len(linked) else -inf
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
    scored = _Scored(best, linked, scale, lists, expanded, seen_now, seen_before, trends)
    reasons = _link_reasons(scored)
    if len(reasons) < len(best):
        _add_other_reasons(reasons, session, earlier, scored)
    return list(map(_recommendation, zip(best, map(scores.__getitem__, best), map(reasons.__getitem__, best), strict=True)))


class _Scored(NamedTuple):
    """The best products, best first, and how they came to be."""

    best: list[str]
    #: Scores by links alone, and what these count in the final ones.
    linked: dict[str, float]
    scale: float
    #: Products of the context with their links, and the same of the second hop.
    lists: _Lists
    expanded: _Lists
    seen_now: Mapping[str, float]
    seen_before: Mapping[str, float]
    trends: Mapping[str, float]


def _follow_links(context: Sequence[str], worth: Sequence[float], links_of: LinksOf) -> tuple[_Lists, _Lists, dict[str, float]]:
    """Of each context product that has neighbours, these, and the same of the best of these where there were few; and the scores that
    all of them come to. The factor of a product includes what its rank counts.

    The loops below are most of a ranking.
    """
    lists: list[tuple[str, tuple[float, Mapping[str, float]]]] = []
    scores: dict[str, float] = {}
    for rank_worth, product_id in zip(worth, context, strict=False):
        if (found := links_of(product_id)) is None:
            continue
        factor = found[0] * rank_worth
        links = _weights(found[1])
        lists.append((product_id, (factor, links)))
        if not scores:
            scores = {other: factor * weight for other, weight in links.items()}
            continue
        for other, weight in links.items():
            if other in scores:
                scores[other] += factor * weight
            else:
                scores[other] = factor * weight
    expanded: list[tuple[str, tuple[float, Mapping[str, float]]]] = []
    if not 0 < len(scores) < _ENOUGH_CANDIDATES:
        return lists, expanded, scores
    for middle in _best(scores, _EXPANDED):
        if (found := links_of(middle)) is not None:
            expanded.append((middle, (scores[middle] * _SECOND_HOP * found[0], _weights(found[1]))))
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


def _weights(links: Mapping[str, float] | bytes) -> Mapping[str, float]:
    if not isinstance(links, bytes):
        return links
    message = NeighbourList.FromString(links)
    return dict(zip(message.neighbour_ids[:], message.scores[:], strict=False))


def _best(scores: dict[str, float], count: int) -> list[str]:
    """The best ``count``, best first, ties by id."""
    best = sorted(scores, key=scores.__getitem__, reverse=True)
    del best[count + 1 :]
    if len(set(map(scores.__getitem__, best))) < len(best):
        best = sorted(scores, key=lambda product_id: (-scores[product_id], product_id))
    return best[:count]


def _link_reasons(scored: _Scored) -> dict[str, Reason]:
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


def _add_other_reasons(reasons: dict[str, Reason], session: list[str], earlier: list[str], scored: _Scored) -> None:
    """Of each of the best that has none yet: it was seen now or before, or it trends."""
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


def _strongest(wanted: set[str], lists: _Lists) -> dict[str, str]:
    found: dict[str, str] = {}
    strength: dict[str, float] = {}
    for origin, (factor, links) in lists:
        for product_id in wanted & links.keys():
            score = factor * links[product_id]
            if score > strength.get(product_id, 0.0):
                strength[product_id] = score
                found[product_id] = origin
    return found
