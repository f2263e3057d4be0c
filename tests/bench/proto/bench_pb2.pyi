from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class UserEvent(_message.Message):
    __slots__ = ("event_id", "user_id", "item_id", "kind", "occurred_at_ms", "weight", "tags")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    item_id: str
    kind: int
    occurred_at_ms: int
    weight: float
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[int] = ..., occurred_at_ms: _Optional[int] = ..., weight: _Optional[float] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class UserState(_message.Message):
    __slots__ = ("count", "last_occurred_at_ms", "score")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    count: int
    last_occurred_at_ms: int
    score: float
    def __init__(self, count: _Optional[int] = ..., last_occurred_at_ms: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...
