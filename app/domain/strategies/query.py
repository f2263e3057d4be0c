"""What a strategy is asked, and what every strategy is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from app.domain.catalog import Catalog
from app.domain.fields import profiling_is_denied
from app.domain.models import GlobalModels
from app.domain.ranking import NeighbourSource, Situation, situation_of
from app.domain.recommendations import Reason, Recommendation
from tidings.state.v1.profile_pb2 import Profile

DAY_MS = 86_400_000
#: Most that a strategy proposes, whatever it is asked for. Some have less to go by, and say so.
MAX_PROPOSED = 1_000


class Query(NamedTuple):
    """One person at one moment, and what is known then."""

    #: None: nobody is known by this id.
    profile: Profile | None
    situation: Situation
    source: NeighbourSource
    models: GlobalModels
    catalog: Catalog
    now_ms: int


#: Query and limit to the best ``limit`` products, best first, each once. Pure; scores fall and are not negative; and a smaller limit gives
#: the beginning of what a greater one gives.
Strategy: TypeAlias = Callable[[Query, int], list[Recommendation]]


def query_of(profile: Profile | None, source: NeighbourSource, models: GlobalModels, catalog: Catalog, now_ms: int) -> Query:
    """The query about a person, in the situation they are in now."""
    situation = Situation([], []) if profile is None else situation_of(profile, now_ms)
    return Query(profile, situation, source, models, catalog, now_ms)


def person_of(query: Query) -> Profile | None:
    """The profile that a personal strategy may go by: none if profiling was denied."""
    profile = query.profile
    if profile is None or (profile.consents and profiling_is_denied(profile)):
        return None
    return profile


def last_looks(profile: Profile) -> dict[str, int]:
    """The distinct products of the history, the one touched last first, each with the time of its last touch."""
    history = profile.history
    looks: dict[str, int] = {}
    for product_id, at_ms in zip(history.product_ids[::-1], history.occurred_at_ms[::-1], strict=True):
        # What came late stands out of order: the latest time counts, and the place is that of the arrival.
        if product_id not in looks or looks[product_id] < at_ms:
            looks[product_id] = at_ms
    return looks


def in_order(found: Iterable[tuple[str, Reason]], limit: int) -> list[Recommendation]:
    """Recommendations that stand in an order of their own: the n-th has the score 1/n."""
    placed = zip(range(1, limit + 1), found, strict=False)
    return [Recommendation(product_id, 1.0 / place, reason) for place, (product_id, reason) in placed]


def by_score(scored: Iterable[tuple[str, float, Reason]], limit: int) -> list[Recommendation]:
    """The best ``limit``, best first, ties by product id."""
    return [Recommendation(*entry) for entry in sorted(scored, key=lambda entry: (-entry[1], entry[0]))[:limit]]
