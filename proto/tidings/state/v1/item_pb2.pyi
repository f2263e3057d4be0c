from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("product_id", "visit_count", "weight", "window", "last_visit_at_ms", "neighbours", "evicted_count")
    class NeighboursEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    VISIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LAST_VISIT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    EVICTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    visit_count: int
    weight: int
    window: int
    last_visit_at_ms: int
    neighbours: _containers.ScalarMap[str, int]
    evicted_count: int
    def __init__(self, product_id: _Optional[str] = ..., visit_count: _Optional[int] = ..., weight: _Optional[int] = ..., window: _Optional[int] = ..., last_visit_at_ms: _Optional[int] = ..., neighbours: _Optional[_Mapping[str, int]] = ..., evicted_count: _Optional[int] = ...) -> None: ...
