"""What the items answered to one person, for the products they touched last: the links that ranking goes by.

A list is kept as the bytes that came, and read when its person is ranked: most are replaced or forgotten before that.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours

#: Past it, the list that was answered longest ago is dropped.
MAX_NEIGHBOUR_LISTS = 12


class HeldNeighbours:
    """One person's lists. A working object: kept decoded, changed in place."""

    __slots__ = ("lists",)

    def __init__(self, lists: dict[str, tuple[int, bytes]] | None = None) -> None:
        #: Product id → the item's visit count when it answered, and the NeighbourList's bytes; answered longest ago first.
        self.lists = {} if lists is None else lists

    def keep(self, product_id: str, visit_count: int, answer: bytes) -> bool:
        """Keep an item's answer. False, and nothing changed, if an answer as late (by the item's visit count) is held already."""
        lists = self.lists
        if (held := lists.get(product_id)) is not None:
            if held[0] >= visit_count:
                return False
            del lists[product_id]
        elif len(lists) >= MAX_NEIGHBOUR_LISTS:
            del lists[next(iter(lists))]
        lists[product_id] = visit_count, answer
        return True

    def messages(self) -> list[NeighbourList]:
        """The lists, read; answered longest ago first."""
        return [NeighbourList.FromString(answer) for _, answer in self.lists.values()]

    # What ranking asks (app/domain/ranking.py: NeighbourSource) ----------------------------------------------------------------

    def neighbours(self, product_id: str) -> tuple[float, list[str], list[float]] | None:
        held = self.lists.get(product_id)
        if held is None:
            return None
        answer = NeighbourList.FromString(held[1])
        return 1.0, answer.neighbour_ids[:], answer.scores[:]

    def damp(self, scores: dict[str, float]) -> None:
        """How popular a neighbour is, an answer does not say."""


def decode_held_neighbours(value: bytes) -> HeldNeighbours:
    """Of a UserNeighbours message. Raises DecodeError if the bytes are none, or its lists do not fit together."""
    message = UserNeighbours.FromString(value)
    products, counts, answers = message.product_ids[:], message.visit_counts[:], message.lists[:]
    if not len(products) == len(counts) == len(answers):
        raise DecodeError("the lists of a tidings.state.v1.UserNeighbours must be of one length")
    return HeldNeighbours(dict(zip(products, zip(counts, answers, strict=True), strict=True)))


def encode_held_neighbours(held: HeldNeighbours) -> bytes:
    """A UserNeighbours message."""
    counts, answers = zip(*held.lists.values(), strict=True) if held.lists else ((), ())
    return UserNeighbours(product_ids=held.lists, visit_counts=counts, lists=answers).SerializeToString()
