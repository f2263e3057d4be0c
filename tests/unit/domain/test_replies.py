"""Answers on their way: who asked, what the answer is, when Kafka received the event that asked."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from app.domain.replies import decode_replies, encode_replies
from tidings.internal.v1.neighbours_pb2 import Neighbours

USERS = st.text(min_size=1, max_size=5).filter(lambda user_id: not user_id.startswith("__"))
REPLIES = st.tuples(USERS, st.sampled_from([b"", b"one list", b"another"]), st.integers(0, 1 << 42), st.booleans())


@given(st.lists(REPLIES, max_size=20))
def test_replies_are_read_as_they_were_written_answers_to_questions_last(replies):
    visits, questions = ([reply for reply in replies if reply[3] is kind] for kind in (False, True))
    assert decode_replies(encode_replies(replies)) == visits + questions


def test_a_list_is_written_once_and_read_as_one_object_however_many_get_it():
    value = encode_replies([("ada", b"a list", 1, False), ("bob", b"another", 2, False), ("eve", b"a list", 3, True)])
    assert list(Neighbours.FromString(value).lists) == [b"a list", b"another"]
    (_, first, _, _), _, (_, third, _, _) = decode_replies(value)
    assert first is third


def test_a_record_with_more_answers_to_questions_than_replies_is_not_read():
    message = Neighbours.FromString(encode_replies([("ada", b"a list", 1, True)]))
    message.answers_to_questions = 2
    with pytest.raises(DecodeError, match="more answers to questions"):
        decode_replies(message.SerializeToString())


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"user_ids": []}, "one length"),
        ({"list_places": [0, 0]}, "one length"),
        ({"caused_at_ms": [1, 2]}, "one length"),
        ({"list_places": [1]}, "not there"),
        ({"lists": []}, "not there"),
        ({"user_ids": [""]}, "no id"),
        ({"user_ids": ["__share"]}, "keep for themselves"),
    ],
)
def test_a_record_whose_lists_do_not_fit_together_is_not_read(broken, why):
    message = Neighbours.FromString(encode_replies([("ada", b"a list", 1, False)]))
    for name, values in broken.items():
        message.ClearField(name)
        getattr(message, name).extend(values)
    with pytest.raises(DecodeError, match=why):
        decode_replies(message.SerializeToString())
