"""What the items answered to one person, for the products they touched last: the links that ranking goes by.

Where the products touched last have few neighbours, the best of these are asked for theirs: ranking takes a second hop over them. What
they answer is held apart, so that it never pushes out what the touched products answered. It is asked for once, and again when it was
pushed out itself.

A list is kept as the bytes that came, and read when its person is ranked: most are replaced or forgotten before that. The whole is written
by putting these bytes one after the other, each as a field of a UserNeighbours message.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple, Protocol

from app.domain.items import REPLY_NEIGHBOURS
from app.domain.wire import tag, varint
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours

#: Past it, the list that was answered longest ago is dropped.
MAX_NEIGHBOUR_LISTS = 12
#: The same, of the lists for the second hop.
MAX_SECOND_HOP_LISTS = 15
#: When the newest answer has fewer neighbours than an answer may have, and the last 5 together fewer than this, the best 5 of the newest
#: are asked in turn. On the sparse bol.com toy log this is 1.2 questions an event, and brings back all but 0.4 of the 4 points of novel
#: HR@20 that the second hop is worth; a product that many have visited asks nothing.
ENOUGH_NEIGHBOURS = 80
_LAST_ANSWERS = 5
MAX_QUESTIONS = 5
_LISTS = tag(UserNeighbours, "lists")
_SECOND_HOP = tag(UserNeighbours, "second_hop")


class Answer(NamedTuple):
    """An item's answer. What it says of itself, and its bytes."""

    product_id: str
    visit_count: int
    neighbour_count: int
    #: What a UserNeighbours message has after the field's tag: a length and a NeighbourList; and where the latter begins.
    field: bytes
    start: int

    @classmethod
    def of(cls, value: bytes, message: NeighbourList | None = None) -> Answer:
        """Of a NeighbourList, which may have been read already. Raises DecodeError if the bytes are none."""
        message = message or NeighbourList.FromString(value)
        length = varint(len(value))
        return cls(message.product_id, message.visit_count, len(message.neighbour_ids), length + value, len(length))


class Held(Protocol):
    """One person's lists, as ranking and views ask for them (app/domain/ranking.py: NeighbourSource)."""

    @property
    def damping(self) -> None: ...

    def messages(self) -> list[NeighbourList]:
        """The lists of products that the person touched, read; answered longest ago first."""

    def neighbours(self, product_id: str, /) -> tuple[float, dict[str, float]] | None: ...

    def links(self, product_id: str, /) -> tuple[float, bytes] | None: ...

    def together(self, product_id: str, /) -> tuple[int, dict[str, int]]: ...

    def bought(self, product_id: str, /) -> tuple[int, list[str], list[int]]: ...


class ReadsLists:
    """Answers what ranking and views ask, wherever the lists lie."""

    __slots__ = ()

    #: How popular a neighbour is, an answer does not say.
    damping = None

    def find(self, product_id: str, in_second_hop: bool, /) -> bytes | None:
        """The list of a product, a serialised NeighbourList, also of those for the second hop, or not."""
        raise NotImplementedError

    def lists(self) -> list[bytes]:
        """Those of products that the person touched, answered longest ago first."""
        raise NotImplementedError

    def messages(self) -> list[NeighbourList]:
        return [NeighbourList.FromString(value) for value in self.lists()]

    def neighbours(self, product_id: str) -> tuple[float, dict[str, float]] | None:
        if (value := self.find(product_id, True)) is None:
            return None
        message = NeighbourList.FromString(value)
        return 1.0, dict(zip(message.neighbour_ids[:], message.scores[:], strict=False))

    def links(self, product_id: str) -> tuple[float, bytes] | None:
        value = self.find(product_id, True)
        return None if value is None else (1.0, value)

    def together(self, product_id: str) -> tuple[int, dict[str, int]]:
        if (value := self.find(product_id, False)) is None:
            return 0, {}
        message = NeighbourList.FromString(value)
        return message.visit_count, dict(zip(message.neighbour_ids, message.counts, strict=False))

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        if (value := self.find(product_id, False)) is None:
            return 0, [], []
        message = NeighbourList.FromString(value)
        return message.purchase_count, message.bought_ids[:], message.bought_counts[:]


class HeldNeighbours(ReadsLists):
    """One person's lists. A working object: kept decoded, changed in place."""

    __slots__ = ("answers", "second_hop")

    def __init__(self) -> None:
        #: By product id, answered longest ago first: of products that the person touched, and of neighbours of these.
        self.answers: dict[str, Answer] = {}
        self.second_hop: dict[str, Answer] = {}

    def keep(self, answer: Answer) -> bool:
        """Keep the answer of an item that the person touched. False, and nothing changed, if an answer as late (by the item's visit
        count) is held already.
        """
        if not _keep(self.answers, answer, MAX_NEIGHBOUR_LISTS):
            return False
        self.second_hop.pop(answer.product_id, None)
        return True

    def keep_second_hop(self, answer: Answer) -> bool:
        """The same for what ``to_ask`` asked about; the item may have been touched meanwhile."""
        return answer.product_id not in self.answers and _keep(self.second_hop, answer, MAX_SECOND_HOP_LISTS)

    def to_ask(self, message: NeighbourList) -> list[str]:
        """The products to ask for their neighbours now that this was answered; at most 5, and none where there are neighbours enough."""
        if len(message.neighbour_ids) >= REPLY_NEIGHBOURS:
            return []
        answers, second_hop = self.answers, self.second_hop
        if sum([answer.neighbour_count for answer in islice(reversed(answers.values()), _LAST_ANSWERS)]) >= ENOUGH_NEIGHBOURS:
            return []
        best = message.neighbour_ids[:MAX_QUESTIONS]
        return [product_id for product_id in best if product_id not in answers and product_id not in second_hop]

    def find(self, product_id: str, in_second_hop: bool, /) -> bytes | None:
        held = self.answers.get(product_id) or (self.second_hop.get(product_id) if in_second_hop else None)
        return None if held is None else held.field[held.start :]

    def lists(self) -> list[bytes]:
        return [answer.field[answer.start :] for answer in self.answers.values()]


def decode_held_neighbours(value: bytes) -> HeldNeighbours:
    """Of a UserNeighbours message. Raises DecodeError if the bytes are none."""
    held = HeldNeighbours()
    whole = UserNeighbours.FromString(value)
    for answers, messages in ((held.answers, whole.lists), (held.second_hop, whole.second_hop)):
        for message in messages:
            answers[message.product_id] = Answer.of(message.SerializeToString(), message)
    return held


def encode_held_neighbours(held: HeldNeighbours) -> bytes:
    """A UserNeighbours message."""
    parts: list[bytes] = []
    for head, answers in ((_LISTS, held.answers), (_SECOND_HOP, held.second_hop)):
        for answer in answers.values():
            parts += head, answer.field
    return b"".join(parts)


def _keep(answers: dict[str, Answer], answer: Answer, bound: int) -> bool:
    product_id = answer.product_id
    if (held := answers.get(product_id)) is not None:
        if held.visit_count >= answer.visit_count:
            return False
        del answers[product_id]
    elif len(answers) >= bound:
        del answers[next(iter(answers))]
    answers[product_id] = answer
    return True
