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
REASON_KIND_UNSPECIFIED: ReasonKind
REASON_KIND_ALSO_VIEWED: ReasonKind
REASON_KIND_SEEN_NOW: ReasonKind
REASON_KIND_SEEN_BEFORE: ReasonKind
REASON_KIND_TRENDING: ReasonKind

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
    __slots__ = ("kind", "because_of", "times_seen")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_OF_FIELD_NUMBER: _ClassVar[int]
    TIMES_SEEN_FIELD_NUMBER: _ClassVar[int]
    kind: ReasonKind
    because_of: str
    times_seen: int
    def __init__(self, kind: _Optional[_Union[ReasonKind, str]] = ..., because_of: _Optional[str] = ..., times_seen: _Optional[int] = ...) -> None: ...
