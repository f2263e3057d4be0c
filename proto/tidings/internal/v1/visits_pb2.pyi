from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Visits(_message.Message):
    __slots__ = ("source_partition", "products", "source_offsets", "item_places", "occurred_at_ms", "weights", "neighbour_counts", "neighbour_places", "neighbour_weights", "reply_to_user_ids", "caused_at_ms", "purchases", "bought_visits", "bought_places", "asking_user_ids", "asked_places", "asked_caused_at_ms")
    SOURCE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    ITEM_PLACES_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_COUNTS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_PLACES_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_VISITS_FIELD_NUMBER: _ClassVar[int]
    BOUGHT_PLACES_FIELD_NUMBER: _ClassVar[int]
    ASKING_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    ASKED_PLACES_FIELD_NUMBER: _ClassVar[int]
    ASKED_CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    source_partition: int
    products: _containers.RepeatedScalarFieldContainer[str]
    source_offsets: _containers.RepeatedScalarFieldContainer[int]
    item_places: _containers.RepeatedScalarFieldContainer[int]
    occurred_at_ms: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[int]
    neighbour_counts: _containers.RepeatedScalarFieldContainer[int]
    neighbour_places: _containers.RepeatedScalarFieldContainer[int]
    neighbour_weights: _containers.RepeatedScalarFieldContainer[int]
    reply_to_user_ids: _containers.RepeatedScalarFieldContainer[str]
    caused_at_ms: _containers.RepeatedScalarFieldContainer[int]
    purchases: _containers.RepeatedScalarFieldContainer[int]
    bought_visits: _containers.RepeatedScalarFieldContainer[int]
    bought_places: _containers.RepeatedScalarFieldContainer[int]
    asking_user_ids: _containers.RepeatedScalarFieldContainer[str]
    asked_places: _containers.RepeatedScalarFieldContainer[int]
    asked_caused_at_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, source_partition: _Optional[int] = ..., products: _Optional[_Iterable[str]] = ..., source_offsets: _Optional[_Iterable[int]] = ..., item_places: _Optional[_Iterable[int]] = ..., occurred_at_ms: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[int]] = ..., neighbour_counts: _Optional[_Iterable[int]] = ..., neighbour_places: _Optional[_Iterable[int]] = ..., neighbour_weights: _Optional[_Iterable[int]] = ..., reply_to_user_ids: _Optional[_Iterable[str]] = ..., caused_at_ms: _Optional[_Iterable[int]] = ..., purchases: _Optional[_Iterable[int]] = ..., bought_visits: _Optional[_Iterable[int]] = ..., bought_places: _Optional[_Iterable[int]] = ..., asking_user_ids: _Optional[_Iterable[str]] = ..., asked_places: _Optional[_Iterable[int]] = ..., asked_caused_at_ms: _Optional[_Iterable[int]] = ...) -> None: ...
