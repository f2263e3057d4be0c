from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Share(_message.Message):
    __slots__ = ("partition", "event_count", "reminders", "trending")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REMINDERS_FIELD_NUMBER: _ClassVar[int]
    TRENDING_FIELD_NUMBER: _ClassVar[int]
    partition: int
    event_count: int
    reminders: Reminders
    trending: Trending
    def __init__(self, partition: _Optional[int] = ..., event_count: _Optional[int] = ..., reminders: _Optional[_Union[Reminders, _Mapping]] = ..., trending: _Optional[_Union[Trending, _Mapping]] = ...) -> None: ...

class Reminders(_message.Message):
    __slots__ = ("scale", "session_available", "session_hit", "history_available", "history_hit", "session_once", "history_once", "start_available", "start_hit")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SESSION_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    SESSION_HIT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_HIT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ONCE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_ONCE_FIELD_NUMBER: _ClassVar[int]
    START_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    START_HIT_FIELD_NUMBER: _ClassVar[int]
    scale: float
    session_available: _containers.RepeatedScalarFieldContainer[float]
    session_hit: _containers.RepeatedScalarFieldContainer[float]
    history_available: _containers.RepeatedScalarFieldContainer[float]
    history_hit: _containers.RepeatedScalarFieldContainer[float]
    session_once: _containers.RepeatedScalarFieldContainer[float]
    history_once: _containers.RepeatedScalarFieldContainer[float]
    start_available: _containers.RepeatedScalarFieldContainer[float]
    start_hit: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, scale: _Optional[float] = ..., session_available: _Optional[_Iterable[float]] = ..., session_hit: _Optional[_Iterable[float]] = ..., history_available: _Optional[_Iterable[float]] = ..., history_hit: _Optional[_Iterable[float]] = ..., session_once: _Optional[_Iterable[float]] = ..., history_once: _Optional[_Iterable[float]] = ..., start_available: _Optional[_Iterable[float]] = ..., start_hit: _Optional[_Iterable[float]] = ...) -> None: ...

class Trending(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[TrendingBlock]
    def __init__(self, blocks: _Optional[_Iterable[_Union[TrendingBlock, _Mapping]]] = ...) -> None: ...

class TrendingBlock(_message.Message):
    __slots__ = ("event_count", "product_ids", "counts")
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    event_count: int
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, event_count: _Optional[int] = ..., product_ids: _Optional[_Iterable[str]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...
