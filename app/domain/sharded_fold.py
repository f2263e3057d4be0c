"""What a fleet's tables come to, in one process: the plain fold, and beside it what the items answer to each person.

Users belong to partitions, each with a share of the small models of its own. After each event the item answers its user, as the agents
fold_items and keep_neighbours have it; where it answers that it has few neighbours, these are asked for theirs. Everything arrives before
the person's next event: in a fleet it takes some tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable

from app.domain.held_neighbours import Answer, HeldNeighbours
from app.domain.items import ItemState, neighbour_list
from app.domain.plain_fold import PlainTables
from app.domain.profile import Applied, Denied, Duplicate, Interaction
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.neighbours_pb2 import NeighbourList


class ShardedTables:
    """The tables of a fleet; ``home`` gives a user's partition."""

    def __init__(self, home: Callable[[str], int]) -> None:
        self._home = home
        self.plain = PlainTables()
        #: By user id.
        self.held: dict[str, HeldNeighbours] = {}
        #: What items were asked, and answered, beside the visits.
        self.questions = 0

    def fold(self, event: Event, offset: int) -> Applied | Duplicate | Denied:
        """Apply one valid event, and at once all that follows from it."""
        outcome = self.plain.fold(event, self._home(event.user_id), offset)
        if isinstance(outcome, Applied):
            for interaction in outcome.interactions:
                self.answer(interaction)
        return outcome

    def answer(self, interaction: Interaction) -> None:
        """The item tells the person who came to it of its neighbours."""
        held = self.held.get(interaction.user_id)
        if held is None:
            held = self.held[interaction.user_id] = HeldNeighbours()
        items = self.plain.items
        if (item := items.get(interaction.product_id)) is None:
            return
        answer, message = _answer_of(item)
        if held.keep(answer):
            for product_id in held.to_ask(message):
                self.questions += 1
                held.keep_second_hop(_answer_of(items[product_id])[0])


def _answer_of(item: ItemState) -> tuple[Answer, NeighbourList]:
    value = neighbour_list(item)
    message = NeighbourList.FromString(value)
    return Answer.of(value, message), message
