"""The work on what the items answered, several times for every event: read the replies, keep them, ask further, write; compiled where it
could be.

The one in Python says what is right. The other (app/domain/_neighbours.c) says the same, and leaves to it whatever is unusual.
"""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf.message import DecodeError

from app.domain.compiled import compiled
from app.domain.held_neighbours import Answer, Held, HeldNeighbours, ReadsLists, decode_held_neighbours, encode_held_neighbours
from app.domain.replies import decode_replies
from tidings.state.v1.neighbours_pb2 import NeighbourList, UserNeighbours

#: Of app/domain/_neighbours.c.
INTERFACE = 1

#: A user's key, what an item answered, when Kafka received the event that asked, in ms since 1970; and whether a question is answered. An
#: answer is whatever this makes.
ReadReply = tuple[bytes, Any, int, bool]


class NeighbourWork(Protocol):
    """How lists are worked on. A person's are whatever this makes; all of them can be asked what ranking asks."""

    #: What one takes of memory, in encoded bytes, and beside these.
    decoded_factor: float
    object_bytes: int

    def new(self) -> Held: ...

    def decode(self, value: bytes, /) -> Held:
        """Of a UserNeighbours message. Raises DecodeError if the bytes are none."""

    def encode(self, held: Any, /) -> bytes:
        """A UserNeighbours message."""

    def read_replies(self, value: bytes, /) -> list[ReadReply]:
        """Raises DecodeError when the bytes are not a Neighbours message, a reply lacks a part of it, or a list is none."""

    def keep(self, held: Any, answer: Any, /) -> bool:
        """HeldNeighbours.keep, keep_second_hop, and to_ask."""

    def keep_second_hop(self, held: Any, answer: Any, /) -> bool: ...

    def to_ask(self, held: Any, answer: Any, /) -> list[str]: ...


class PlainNeighbours:
    """In Python. An answer is an Answer and its message."""

    decoded_factor, object_bytes = 4.0, 1_000
    new = HeldNeighbours
    decode = staticmethod(decode_held_neighbours)
    encode = staticmethod(encode_held_neighbours)

    @staticmethod
    def read_replies(value: bytes) -> list[ReadReply]:
        replies = decode_replies(value)
        answers: dict[bytes, tuple[Answer, NeighbourList]] = {}
        for _, list_, _, _ in replies:
            if list_ not in answers:
                message = NeighbourList.FromString(list_)
                answers[list_] = Answer.of(list_, message), message
        return [(user_id.encode(), answers[list_], caused_at_ms, is_to) for user_id, list_, caused_at_ms, is_to in replies]

    @staticmethod
    def keep(held: HeldNeighbours, answer: tuple[Answer, NeighbourList]) -> bool:
        return held.keep(answer[0])

    @staticmethod
    def keep_second_hop(held: HeldNeighbours, answer: tuple[Answer, NeighbourList]) -> bool:
        return held.keep_second_hop(answer[0])

    @staticmethod
    def to_ask(held: HeldNeighbours, answer: tuple[Answer, NeighbourList]) -> list[str]:
        return held.to_ask(answer[1])


class CompiledNeighbours:
    """Of app/domain/_neighbours.c. It reads what our own writers write; Protobuf brings into that form what else it can read."""

    #: The bytes, and where each list begins.
    decoded_factor, object_bytes = 1.1, 1_200

    def __init__(self, extension: Any) -> None:
        class CompactNeighbours(extension.Held, ReadsLists):  # type: ignore[misc]  # a class of an extension that may not be there
            __slots__ = ()

        self._extension = extension
        self.new = CompactNeighbours
        self.encode = CompactNeighbours.encode
        self.keep = CompactNeighbours.keep
        self.keep_second_hop = CompactNeighbours.keep_second_hop
        self.to_ask = CompactNeighbours.to_ask

    def decode(self, value: bytes) -> Held:
        held: Held | None = self.new.decode(value)
        if held is None:
            whole = UserNeighbours.FromString(value)
            whole.DiscardUnknownFields()
            known = decode_held_neighbours(whole.SerializeToString())
            held = self.new.decode(encode_held_neighbours(known))
            if held is None:
                raise DecodeError("a tidings.state.v1.UserNeighbours is not what a table may hold")
        return held

    def read_replies(self, value: bytes) -> list[ReadReply]:
        rows: list[ReadReply] | None = self._extension.read_replies(value)
        if rows is not None:
            return rows
        replies = decode_replies(value)
        answers = {list_: self._answer(list_) for _, list_, _, _ in replies}
        return [(user_id.encode(), answers[list_], caused_at_ms, is_to) for user_id, list_, caused_at_ms, is_to in replies]

    def _answer(self, value: bytes) -> Any:
        answer = self._extension.read_answer(value)
        if answer is None:
            message = NeighbourList.FromString(value)
            message.DiscardUnknownFields()
            answer = self._extension.read_answer(message.SerializeToString())
            if answer is None:
                raise DecodeError("a tidings.state.v1.NeighbourList is not what may be held")
        return answer


def load(name: str = "app.domain._neighbours") -> NeighbourWork | None:
    """The extension of this name, if there is one and it fits."""
    extension = compiled(name, INTERFACE)
    return None if extension is None else CompiledNeighbours(extension)


PLAIN: NeighbourWork = PlainNeighbours()
COMPILED = load()
#: What is used.
NEIGHBOUR_WORK = COMPILED or PLAIN
