"""The ranking: what a person is likely to want next, best first, each product with its reason.

This is the score of StreamPair. New products come from the neighbours of what the person touched last; products of the session return
with the learned probability of their cell, those of earlier sessions with theirs. At session start the last products of the history stand
in for the session, returns reach further back and have a model of their own, and what trends has a part. Ties are ordered by product id.

What there is to be ranked is gathered here. Its loops run compiled (app/domain/_kernel.c) where the extension could be built, else in
Python (app/domain/ranking_loops.py), with the same outcome to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import NamedTuple, Protocol

from app.domain.fields import profiling_is_denied
from app.domain.kernel import KERNEL, Kernel
from app.domain.models import START_LINKED, GlobalModels
from app.domain.profile import SESSION_GAP_MS
from app.domain.ranking_loops import ScoredLinks, rank_links
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
#: What is left for new products however sure returns are.
_MIN_NEW = 0.05
_TRENDS = Reason(REASON_KIND_TRENDING)
_NOTHING: dict[str, float] = {}
#: What the kernel makes recommendations and reasons like.
_TEMPLATES = (
    Recommendation("", 0.0, _TRENDS),
    Reason(REASON_KIND_ALSO_VIEWED),
    Reason(REASON_KIND_SEEN_NOW),
    Reason(REASON_KIND_SEEN_BEFORE),
    _TRENDS,
)


class NeighbourSource(Protocol):
    """Where the neighbours of a product are read: the lists held for a person (app/domain/held_neighbours.py), or live items."""

    def neighbours(self, product_id: str) -> tuple[float, Mapping[str, float]] | None:
        """A factor, and weights by product: a neighbour's score is factor * weight. None if nothing is known of the product."""

    def links(self, product_id: str) -> ScoredLinks | None:
        """The same in the form in which it is at hand, for ranking."""

    @property
    def damping(self) -> Mapping[str, float] | None:
        """Of any product, what its popularity leaves of a score; None if popularity is not known here."""

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


def rank_situation(
    situation: Situation, models: GlobalModels, source: NeighbourSource, length: int, kernel: Kernel | None = KERNEL
) -> list[Recommendation]:
    """The best ``length`` products in a situation, the neighbours read from ``source``, with their reasons; without a kernel, in Python.

    It runs once for every dirty user. tests/unit/domain/plain_ranking.py says the same in plain words, and agrees to the last bit.
    """
    session, earlier = situation
    if session:
        # The cells are those of the newest 12 distinct products, which are the context, too.
        chances = models.session_return
        seen_now = {product_id: chances[cell] for product_id, cell in session_cells(session).items()}
        context, worth = tuple(seen_now), _IN_SESSION
        # Scores by link are brought to the sum that returns leave to new products.
        linked_part = max(_MIN_NEW, 1.0 - sum(seen_now.values()))
        seen_before = _chances(models.history_return, history_cells(earlier, session)) if earlier else _NOTHING
        trends = _NOTHING
    else:
        seen_now = _NOTHING
        context, worth = _newest_distinct(earlier, MAX_CONTEXT), _AT_START
        linked_part = START_LINKED
        seen_before = _chances(models.start_return, start_cells(earlier)) if earlier else _NOTHING
        trends = models.trending_scores
    asked = session, earlier, context, worth, source.links, source.damping, seen_now, seen_before, trends, linked_part, length
    ranked = kernel.rank(*asked, _TEMPLATES) if kernel is not None else None
    if ranked is None:
        ranked = rank_links(*asked)
    if len(ranked) < length:
        _fill(ranked, models, length)
    return ranked


def _chances(chances: Sequence[float], cells: Mapping[str, int]) -> dict[str, float]:
    return {product_id: chances[cell] for product_id, cell in cells.items()}


def _newest_distinct(products: list[str], count: int) -> tuple[str, ...]:
    """The last ``count`` distinct products, newest first."""
    # Mostly they are among the last few: a history of 200 need not be seen through.
    found = dict.fromkeys(products[: -2 * count - 1 : -1])
    if len(found) < count < len(products):
        found = dict.fromkeys(products[::-1])
    return tuple(found)[:count]


def _fill(recommendations: list[Recommendation], models: GlobalModels, length: int) -> None:
    """Append what trends, below everything that has a score of the person's own; all of that is in the list, or it would not be short."""
    floor = min(recommendations[-1].score if recommendations else 1.0, 1.0)
    known = {recommendation.product_id for recommendation in recommendations}
    for product_id, share in models.trending:
        if len(recommendations) >= length:
            break
        if product_id not in known:
            recommendations.append(Recommendation(product_id, floor * share, _TRENDS))
