"""The ranking said plainly: every candidate is scored, every cause is looked for among all links. The oracle of app/domain/ranking.py.

Both must agree to the last bit, so sums are taken in one order: links of newer products first, as their lists give them.
"""

from __future__ import annotations

from functools import reduce
from math import exp
from operator import add

from app.domain.models import GlobalModels
from app.domain.ranking import NeighbourSource, Situation
from app.domain.recommendations import Reason, Recommendation
from app.domain.reminders import history_cells, session_cells, start_cells
from tidings.updates.v1.update_pb2 import ReasonKind

#: From a product, to a product, and what the link adds to the latter's score.
Link = tuple[str, str, float]


def plain_rank(situation: Situation, models: GlobalModels, source: NeighbourSource, length: int) -> list[Recommendation]:
    session, earlier = situation
    context = list(dict.fromkeys(reversed(session or earlier)))[:12]
    worth = [exp(-rank / (2.0 if session else 3.0)) for rank in range(len(context))]
    links = [link for product, factor in zip(context, worth, strict=True) for link in links_from(product, factor, source)]
    by_link = summed(links)
    second: list[Link] = []
    if 0 < len(by_link) < 60:
        for middle in best_of(by_link)[:10]:
            second += links_from(middle, by_link[middle] * 0.4, source)
        by_link = summed([*links, *(link for link in second if link[1] not in context)])
    if source.damping is not None:
        by_link = {product: score * source.damping[product] for product, score in by_link.items()}

    seen_now = {product: models.session_return[cell] for product, cell in session_cells(session).items()}
    if session:
        seen_before = {product: models.history_return[cell] for product, cell in history_cells(earlier, session).items()}
    else:
        seen_before = {product: models.start_return[cell] for product, cell in start_cells(earlier).items()}
    trends = {} if session else {product: 0.3 * 0.3 * share for product, share in models.trending}
    by_link = {product: score for product, score in by_link.items() if product not in seen_now}
    new = max(0.05, 1.0 - sum(seen_now.values())) if session else 0.3
    scale = new / (reduce(add, by_link.values(), 0.0) or 1.0)  # sum() rounds otherwise from Python 3.12 on
    by_link = {product: score * scale for product, score in by_link.items()}

    scores = {
        product: seen_now.get(product, 0.0) + by_link.get(product, 0.0) + seen_before.get(product, 0.0) + trends.get(product, 0.0)
        for product in {*seen_now, *by_link, *seen_before, *trends}
    }
    ranked = []
    for product in best_of(scores)[:length]:
        strongest = max(by_link.get(product, -1.0), seen_before.get(product, -1.0), trends.get(product, -1.0))
        cause = cause_of(product, links, second) if by_link.get(product) == strongest and strongest > 0.0 else None
        if cause is not None:
            reason = Reason(ReasonKind.REASON_KIND_ALSO_VIEWED, cause)
        elif product in seen_now:
            reason = Reason(ReasonKind.REASON_KIND_SEEN_NOW, "", [*session, *earlier].count(product))
        elif trends.get(product, 0.0) > seen_before.get(product, 0.0):
            reason = Reason(ReasonKind.REASON_KIND_TRENDING)
        else:
            reason = Reason(ReasonKind.REASON_KIND_SEEN_BEFORE, "", [*session, *earlier].count(product))
        ranked.append(Recommendation(product, scores[product], reason))
    floor = min(ranked[-1].score if ranked else 1.0, 1.0)
    unknown = [(product, share) for product, share in models.trending if product not in scores]
    ranked += [Recommendation(product, floor * share, Reason(ReasonKind.REASON_KIND_TRENDING)) for product, share in unknown]
    return ranked[:length]


def links_from(product: str, factor: float, source: NeighbourSource) -> list[Link]:
    found = source.neighbours(product)
    if found is None:
        return []
    own_factor, weights = found
    return [(product, neighbour, factor * own_factor * weight) for neighbour, weight in weights.items()]


def summed(links: list[Link]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for _, product, score in links:
        scores[product] = scores.get(product, 0.0) + score
    return scores


def best_of(scores: dict[str, float]) -> list[str]:
    return sorted(scores, key=lambda product: (-scores[product], product))


def cause_of(product: str, links: list[Link], second: list[Link]) -> str | None:
    """The context product with the strongest link, the newer at a tie; if none links directly, that of the first product in between."""
    found = [(score, origin) for origin, to, score in links if to == product and score > 0.0]
    if found:
        return max(found, key=lambda entry: entry[0])[1]
    middles = [middle for middle, to, score in second if to == product and score > 0.0]
    return cause_of(middles[0], links, []) if middles else None
