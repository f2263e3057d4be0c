from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Neighbours(_message.Message):
    __slots__ = ("lists", "user_ids", "list_places", "caused_at_ms", "answers_to_questions")
    LISTS_FIELD_NUMBER: _ClassVar[int]
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    LIST_PLACES_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_TO_QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    lists: _containers.RepeatedScalarFieldContainer[bytes]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    list_places: _containers.RepeatedScalarFieldContainer[int]
    caused_at_ms: _containers.RepeatedScalarFieldContainer[int]
    answers_to_questions: int
    def __init__(self, lists: _Optional[_Iterable[bytes]] = ..., user_ids: _Optional[_Iterable[str]] = ..., list_places: _Optional[_Iterable[int]] = ..., caused_at_ms: _Optional[_Iterable[int]] = ..., answers_to_questions: _Optional[int] = ...) -> None: ...
