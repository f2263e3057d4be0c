"""Lists for people, from this worker's tables, models and catalog: what a person would get in a slot at this moment.

The same rules hold here, in the lists that are published (rank_users.py), and in what goes out to destinations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.domain.catalog import Catalog
from app.domain.held_neighbours import HeldNeighbours
from app.domain.models import GlobalModels
from app.domain.reasons import with_counts
from app.domain.recommendations import Recommendation, add_recommendations, recommendation_of
from app.domain.rules import Rules
from app.domain.slots import Selection, Slot, may_be_shown, recommend, shows_everything
from app.domain.strategies.query import Query, query_of
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

#: The slot whose list is published and delivered.
PUBLISHED = "for_you"
#: What items answered a person, if any has.
Neighbours = Callable[[], HeldNeighbours | None]
#: Of a person whom no item has answered yet.
_NOTHING_HELD = HeldNeighbours()


class Recommender:
    """``models`` gives the global models as they are now."""

    def __init__(self, models: Callable[[], GlobalModels], catalog: Catalog, slots: Mapping[str, Slot], rules: Rules) -> None:
        self.slots = slots
        self.catalog = catalog
        self._models = models
        self._rules = rules
        self._published = slots[PUBLISHED]

    def rank(self, profile: Profile | None, neighbours: HeldNeighbours | None, now_ms: int) -> list[Recommendation]:
        """The list that is published."""
        return recommend(self._query(profile, neighbours, now_ms), self._published, self._rules).recommendations

    def select(
        self, slot: Slot, profile: Profile | None, neighbours: HeldNeighbours | None, now_ms: int, *, explain: bool = False
    ) -> Selection:
        """The list of a slot for someone who will see it, its reasons with their counts; without a profile, what anybody unknown gets."""
        query = self._query(profile, neighbours, now_ms)
        selection = recommend(query, slot, self._rules, explain=explain)
        return selection._replace(recommendations=with_counts(selection.recommendations, query.source))

    def as_of_now(self, update: RecommendationUpdate, profile: Profile | None, neighbours: Neighbours, now_ms: int) -> RecommendationUpdate:
        """The update with others in place of what may not be shown any more; the update itself if all of it may.

        ``neighbours`` is asked for what items answered the person, if there is anything to be replaced. Every delivery comes by
        here twice: where nothing can be hidden, no product is looked up.
        """
        if shows_everything(self._published, self._rules, self.catalog):
            return update
        person = self._rules.person(profile, now_ms)
        hidden = {
            recommendation.product_id
            for recommendation in update.recommendations
            if not may_be_shown(recommendation.product_id, self._published, self._rules, person, self.catalog, now_ms)
        }
        if not hidden:
            return update
        shown = [recommendation_of(message) for message in update.recommendations if message.product_id not in hidden]
        known = {recommendation.product_id for recommendation in shown}
        others = [one for one in self.rank(profile, neighbours(), now_ms) if one.product_id not in known]
        now = RecommendationUpdate()
        now.CopyFrom(update)
        del now.recommendations[:]
        add_recommendations(now, (shown + others)[: len(update.recommendations)])
        return now

    def _query(self, profile: Profile | None, neighbours: HeldNeighbours | None, now_ms: int) -> Query:
        return query_of(profile, neighbours or _NOTHING_HELD, self._models(), self.catalog, now_ms)
