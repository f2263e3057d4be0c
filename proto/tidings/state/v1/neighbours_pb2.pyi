from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UserNeighbours(_message.Message):
    __slots__ = ("lists", "second_hop")
    LISTS_FIELD_NUMBER: _ClassVar[int]
    SECOND_HOP_FIELD_NUMBER: _ClassVar[int]
    lists: _containers.RepeatedCompositeFieldContainer[NeighbourList]
    second_hop: _containers.RepeatedCompositeFieldContainer[NeighbourList]
    def __init__(self, lists: _Optional[_Iterable[_Union[NeighbourList, _Mapping]]] = ..., second_hop: _Optional[_Iterable[_Union[NeighbourList, _Mapping]]] = ...) -> None: ...

class NeighbourList(_message.Message):
    __slots__ = ("product_id", "visit_count", "neighbour_ids", "scores", "counts", "purchase_count", "bought_ids", "bought_counts")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    VISIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_IDS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    visit_count: int
    neighbour_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    purchase_count: int
    bought_ids: _containers.RepeatedScalarFieldContainer[str]
    bought_counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, product_id: _Optional[str] = ..., visit_count: _Optional[int] = ..., neighbour_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., purchase_count: _Optional[int] = ..., bought_ids: _Optional[_Iterable[str]] = ..., bought_counts: _Optional[_Iterable[int]] = ...) -> None: ...
