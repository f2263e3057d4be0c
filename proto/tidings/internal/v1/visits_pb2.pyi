from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Visits(_message.Message):
    __slots__ = ("source_partition", "source_offsets", "product_ids", "occurred_at_ms", "windows", "weights", "reply_to_user_ids", "caused_at_ms", "neighbour_counts", "neighbour_ids", "neighbour_weights")
    SOURCE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_COUNTS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_IDS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    source_partition: int
    source_offsets: _containers.RepeatedScalarFieldContainer[int]
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    occurred_at_ms: _containers.RepeatedScalarFieldContainer[int]
    windows: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[int]
    reply_to_user_ids: _containers.RepeatedScalarFieldContainer[str]
    caused_at_ms: _containers.RepeatedScalarFieldContainer[int]
    neighbour_counts: _containers.RepeatedScalarFieldContainer[int]
    neighbour_ids: _containers.RepeatedScalarFieldContainer[str]
    neighbour_weights: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, source_partition: _Optional[int] = ..., source_offsets: _Optional[_Iterable[int]] = ..., product_ids: _Optional[_Iterable[str]] = ..., occurred_at_ms: _Optional[_Iterable[int]] = ..., windows: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[int]] = ..., reply_to_user_ids: _Optional[_Iterable[str]] = ..., caused_at_ms: _Optional[_Iterable[int]] = ..., neighbour_counts: _Optional[_Iterable[int]] = ..., neighbour_ids: _Optional[_Iterable[str]] = ..., neighbour_weights: _Optional[_Iterable[int]] = ...) -> None: ...
