from tidings.events.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReasonKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_KIND_UNSPECIFIED: _ClassVar[ReasonKind]
    REASON_KIND_ALSO_VIEWED: _ClassVar[ReasonKind]
    REASON_KIND_SEEN_NOW: _ClassVar[ReasonKind]
    REASON_KIND_SEEN_BEFORE: _ClassVar[ReasonKind]
    REASON_KIND_TRENDING: _ClassVar[ReasonKind]
    REASON_KIND_LEFT_IN_CART: _ClassVar[ReasonKind]
    REASON_KIND_ALSO_BOUGHT: _ClassVar[ReasonKind]
    REASON_KIND_SIMILAR: _ClassVar[ReasonKind]
    REASON_KIND_TRENDING_IN_CATEGORY: _ClassVar[ReasonKind]
    REASON_KIND_NEW_ARRIVAL: _ClassVar[ReasonKind]
    REASON_KIND_PRICE_DROPPED: _ClassVar[ReasonKind]
    REASON_KIND_BACK_IN_STOCK: _ClassVar[ReasonKind]
    REASON_KIND_BUY_AGAIN: _ClassVar[ReasonKind]
    REASON_KIND_IN_THE_SHOP: _ClassVar[ReasonKind]
REASON_KIND_UNSPECIFIED: ReasonKind
REASON_KIND_ALSO_VIEWED: ReasonKind
REASON_KIND_SEEN_NOW: ReasonKind
REASON_KIND_SEEN_BEFORE: ReasonKind
REASON_KIND_TRENDING: ReasonKind
REASON_KIND_LEFT_IN_CART: ReasonKind
REASON_KIND_ALSO_BOUGHT: ReasonKind
REASON_KIND_SIMILAR: ReasonKind
REASON_KIND_TRENDING_IN_CATEGORY: ReasonKind
REASON_KIND_NEW_ARRIVAL: ReasonKind
REASON_KIND_PRICE_DROPPED: ReasonKind
REASON_KIND_BACK_IN_STOCK: ReasonKind
REASON_KIND_BUY_AGAIN: ReasonKind
REASON_KIND_IN_THE_SHOP: ReasonKind

class RecommendationUpdate(_message.Message):
    __slots__ = ("user_id", "version", "ranked_at_ms", "caused_at_ms", "current_to_ms", "recommendations")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RANKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TO_MS_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATIONS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    version: int
    ranked_at_ms: int
    caused_at_ms: int
    current_to_ms: int
    recommendations: _containers.RepeatedCompositeFieldContainer[Recommendation]
    def __init__(self, user_id: _Optional[str] = ..., version: _Optional[int] = ..., ranked_at_ms: _Optional[int] = ..., caused_at_ms: _Optional[int] = ..., current_to_ms: _Optional[int] = ..., recommendations: _Optional[_Iterable[_Union[Recommendation, _Mapping]]] = ...) -> None: ...

class Recommendation(_message.Message):
    __slots__ = ("product_id", "score", "reason")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    score: float
    reason: Reason
    def __init__(self, product_id: _Optional[str] = ..., score: _Optional[float] = ..., reason: _Optional[_Union[Reason, _Mapping]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("kind", "because_of", "times_seen", "together", "visits", "category", "price_before", "price_now", "interval_days")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_OF_FIELD_NUMBER: _ClassVar[int]
    TIMES_SEEN_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PRICE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PRICE_NOW_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_DAYS_FIELD_NUMBER: _ClassVar[int]
    kind: ReasonKind
    because_of: str
    times_seen: int
    together: int
    visits: int
    category: str
    price_before: _event_pb2.Money
    price_now: _event_pb2.Money
    interval_days: int
    def __init__(self, kind: _Optional[_Union[ReasonKind, str]] = ..., because_of: _Optional[str] = ..., times_seen: _Optional[int] = ..., together: _Optional[int] = ..., visits: _Optional[int] = ..., category: _Optional[str] = ..., price_before: _Optional[_Union[_event_pb2.Money, _Mapping]] = ..., price_now: _Optional[_Union[_event_pb2.Money, _Mapping]] = ..., interval_days: _Optional[int] = ...) -> None: ...
