from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Visits(_message.Message):
    __slots__ = ("source_partition", "visits")
    SOURCE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    source_partition: int
    visits: _containers.RepeatedCompositeFieldContainer[Visit]
    def __init__(self, source_partition: _Optional[int] = ..., visits: _Optional[_Iterable[_Union[Visit, _Mapping]]] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("source_offset", "product_id", "occurred_at_ms", "window", "weight", "neighbour_ids", "neighbour_weights", "reply_to_user_id", "caused_at_ms")
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_IDS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_USER_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    source_offset: int
    product_id: str
    occurred_at_ms: int
    window: int
    weight: int
    neighbour_ids: _containers.RepeatedScalarFieldContainer[str]
    neighbour_weights: _containers.RepeatedScalarFieldContainer[int]
    reply_to_user_id: str
    caused_at_ms: int
    def __init__(self, source_offset: _Optional[int] = ..., product_id: _Optional[str] = ..., occurred_at_ms: _Optional[int] = ..., window: _Optional[int] = ..., weight: _Optional[int] = ..., neighbour_ids: _Optional[_Iterable[str]] = ..., neighbour_weights: _Optional[_Iterable[int]] = ..., reply_to_user_id: _Optional[str] = ..., caused_at_ms: _Optional[int] = ...) -> None: ...
