"""What the items answered to one person, for the products they touched last: the links that ranking goes by.

A list is kept as the bytes that came, and read when its person is ranked: most are replaced or forgotten before that. The whole is written
by putting these bytes one after the other, each as a field of a UserNeighbours message.
"""

from __future__ import annotations

from typing import NamedTuple

from app.domain.wire import tag, varint
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours

#: Past it, the list that was answered longest ago is dropped.
MAX_NEIGHBOUR_LISTS = 12
_LISTS = tag(UserNeighbours, "lists")


class Answer(NamedTuple):
    """An item's answer. What it says of itself, and its bytes."""

    product_id: str
    visit_count: int
    #: A NeighbourList as a field of a UserNeighbours message, and where in it the list begins.
    field: bytes
    start: int

    @classmethod
    def of(cls, value: bytes) -> Answer:
        """Of a NeighbourList. Raises DecodeError if the bytes are none."""
        message = NeighbourList.FromString(value)
        head = _LISTS + varint(len(value))
        return cls(message.product_id, message.visit_count, head + value, len(head))

    def message(self) -> NeighbourList:
        return NeighbourList.FromString(self.field[self.start :])


class HeldNeighbours:
    """One person's lists. A working object: kept decoded, changed in place."""

    __slots__ = ("answers",)

    def __init__(self) -> None:
        #: By product id, answered longest ago first.
        self.answers: dict[str, Answer] = {}

    def keep(self, answer: Answer) -> bool:
        """Keep an item's answer. False, and nothing changed, if an answer as late (by the item's visit count) is held already."""
        answers, product_id = self.answers, answer.product_id
        if (held := answers.get(product_id)) is not None:
            if held.visit_count >= answer.visit_count:
                return False
            del answers[product_id]
        elif len(answers) >= MAX_NEIGHBOUR_LISTS:
            del answers[next(iter(answers))]
        answers[product_id] = answer
        return True

    def messages(self) -> list[NeighbourList]:
        """The lists, read; answered longest ago first."""
        return [answer.message() for answer in self.answers.values()]

    # What ranking asks (app/domain/ranking.py: NeighbourSource) ----------------------------------------------------------------

    def neighbours(self, product_id: str) -> tuple[float, list[str], list[float]] | None:
        held = self.answers.get(product_id)
        if held is None:
            return None
        message = held.message()
        return 1.0, message.neighbour_ids[:], message.scores[:]

    def damp(self, scores: dict[str, float]) -> None:
        """How popular a neighbour is, an answer does not say."""

    def together(self, product_id: str) -> tuple[int, dict[str, int]]:
        if (held := self.answers.get(product_id)) is None:
            return 0, {}
        message = held.message()
        return message.visit_count, dict(zip(message.neighbour_ids, message.counts, strict=False))

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        if (held := self.answers.get(product_id)) is None:
            return 0, [], []
        message = held.message()
        return message.purchase_count, message.bought_ids[:], message.bought_counts[:]


def decode_held_neighbours(value: bytes) -> HeldNeighbours:
    """Of a UserNeighbours message. Raises DecodeError if the bytes are none."""
    held = HeldNeighbours()
    for message in UserNeighbours.FromString(value).lists:
        answer = Answer.of(message.SerializeToString())
        held.answers[answer.product_id] = answer
    return held


def encode_held_neighbours(held: HeldNeighbours) -> bytes:
    """A UserNeighbours message."""
    return b"".join([answer.field for answer in held.answers.values()])
