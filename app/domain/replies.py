"""What an item answers those who came to it: the bytes of a Neighbours message, each item's list in them once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from operator import itemgetter

from google.protobuf.message import DecodeError

from tidings.internal.v1.neighbours_pb2 import Neighbours

#: User id, a serialised tidings.state.v1.NeighbourList, when Kafka received the event that asked, in ms since 1970; and whether it answers
#: a question about a neighbour, not a visit.
Reply = tuple[str, bytes, int, bool]


def encode_replies(replies: Iterable[Reply]) -> bytes:
    """A Neighbours message with the replies in their order, but those to questions last."""
    places: dict[bytes, int] = {}
    users: list[str] = []
    list_places: list[int] = []
    times: list[int] = []
    to_questions = 0
    for user_id, list_, caused_at_ms, is_to_question in sorted(replies, key=itemgetter(3)):
        to_questions += is_to_question
        users.append(user_id)
        list_places.append(places.setdefault(list_, len(places)))
        times.append(caused_at_ms)
    return Neighbours(
        lists=places, user_ids=users, list_places=list_places, caused_at_ms=times, answers_to_questions=to_questions
    ).SerializeToString()


def decode_replies(value: bytes) -> list[Reply]:
    """The replies in their order; those with one list share its bytes object.

    Raises DecodeError when the bytes are not a Neighbours message, or a reply lacks a part of it. What a list holds is not looked at.
    """
    message = Neighbours.FromString(value)
    lists = message.lists[:]
    users, places, times = message.user_ids[:], message.list_places[:], message.caused_at_ms[:]
    if not len(users) == len(places) == len(times):
        raise DecodeError("the lists of a tidings.internal.v1.Neighbours must be of one length")
    if not all(users) or [user_id for user_id in users if user_id.startswith("__")]:
        raise DecodeError("a user of a tidings.internal.v1.Neighbours has no id, or one that tables keep for themselves")
    if places and max(places) >= len(lists):
        raise DecodeError("a reply of a tidings.internal.v1.Neighbours names a list that is not there")
    if (to_questions := message.answers_to_questions) > len(users):
        raise DecodeError("a tidings.internal.v1.Neighbours has more answers to questions than replies")
    kinds = chain(repeat(False, len(users) - to_questions), repeat(True, to_questions))
    return list(zip(users, [lists[place] for place in places], times, kinds, strict=True))
