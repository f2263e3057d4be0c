from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("product_id", "visit_count", "weight", "window", "last_visit_at_ms", "neighbour_ids", "neighbour_weights", "evicted_count", "neighbour_counts", "purchase_count", "bought_ids", "bought_counts", "bought_evicted_count")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    VISIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LAST_VISIT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_IDS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    EVICTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_COUNTS_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_IDS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_EVICTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    visit_count: int
    weight: int
    window: int
    last_visit_at_ms: int
    neighbour_ids: _containers.RepeatedScalarFieldContainer[str]
    neighbour_weights: _containers.RepeatedScalarFieldContainer[int]
    evicted_count: int
    neighbour_counts: _containers.RepeatedScalarFieldContainer[int]
    purchase_count: int
    bought_ids: _containers.RepeatedScalarFieldContainer[str]
    bought_counts: _containers.RepeatedScalarFieldContainer[int]
    bought_evicted_count: int
    def __init__(self, product_id: _Optional[str] = ..., visit_count: _Optional[int] = ..., weight: _Optional[int] = ..., window: _Optional[int] = ..., last_visit_at_ms: _Optional[int] = ..., neighbour_ids: _Optional[_Iterable[str]] = ..., neighbour_weights: _Optional[_Iterable[int]] = ..., evicted_count: _Optional[int] = ..., neighbour_counts: _Optional[_Iterable[int]] = ..., purchase_count: _Optional[int] = ..., bought_ids: _Optional[_Iterable[str]] = ..., bought_counts: _Optional[_Iterable[int]] = ..., bought_evicted_count: _Optional[int] = ...) -> None: ...
