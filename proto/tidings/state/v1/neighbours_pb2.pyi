from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class UserNeighbours(_message.Message):
    __slots__ = ("product_ids", "visit_counts", "lists")
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    VISIT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    visit_counts: _containers.RepeatedScalarFieldContainer[int]
    lists: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, product_ids: _Optional[_Iterable[str]] = ..., visit_counts: _Optional[_Iterable[int]] = ..., lists: _Optional[_Iterable[bytes]] = ...) -> None: ...

class NeighbourList(_message.Message):
    __slots__ = ("product_id", "visit_count", "neighbour_ids", "scores")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    VISIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    visit_count: int
    neighbour_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, product_id: _Optional[str] = ..., visit_count: _Optional[int] = ..., neighbour_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ...) -> None: ...
