from tidings.updates.v1 import update_pb2 as _update_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeadReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEAD_REASON_UNSPECIFIED: _ClassVar[DeadReason]
    DEAD_REASON_WITHHELD: _ClassVar[DeadReason]
    DEAD_REASON_EXHAUSTED: _ClassVar[DeadReason]
    DEAD_REASON_NO_IDENTITY: _ClassVar[DeadReason]
    DEAD_REASON_INVALID_IDENTITY: _ClassVar[DeadReason]
    DEAD_REASON_CONFLICT: _ClassVar[DeadReason]
    DEAD_REASON_SUPPRESSED: _ClassVar[DeadReason]
    DEAD_REASON_UNKNOWN_PERSON: _ClassVar[DeadReason]
    DEAD_REASON_TOO_LARGE: _ClassVar[DeadReason]
    DEAD_REASON_REFUSED: _ClassVar[DeadReason]
DEAD_REASON_UNSPECIFIED: DeadReason
DEAD_REASON_WITHHELD: DeadReason
DEAD_REASON_EXHAUSTED: DeadReason
DEAD_REASON_NO_IDENTITY: DeadReason
DEAD_REASON_INVALID_IDENTITY: DeadReason
DEAD_REASON_CONFLICT: DeadReason
DEAD_REASON_SUPPRESSED: DeadReason
DEAD_REASON_UNKNOWN_PERSON: DeadReason
DEAD_REASON_TOO_LARGE: DeadReason
DEAD_REASON_REFUSED: DeadReason

class OutboxEntry(_message.Message):
    __slots__ = ("user_id", "update", "list_digest", "deliveries")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    LIST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    update: _update_pb2.RecommendationUpdate
    list_digest: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, user_id: _Optional[str] = ..., update: _Optional[_Union[_update_pb2.RecommendationUpdate, _Mapping]] = ..., list_digest: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("target", "desired_version", "confirmed_version", "confirmed_at_ms", "in_flight_version", "in_flight_until_ms", "attempts", "next_attempt_at_ms", "last_error", "abandoned_version", "due_since_ms", "overtaken_since_ms", "throttled", "confirmed_digest", "job", "in_flight_digest", "dead_reason", "abandoned_at_ms", "blocked", "resync_since_ms")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DESIRED_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_VERSION_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_VERSION_FIELD_NUMBER: _ClassVar[int]
    DUE_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    OVERTAKEN_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEAD_REASON_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    RESYNC_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    target: str
    desired_version: int
    confirmed_version: int
    confirmed_at_ms: int
    in_flight_version: int
    in_flight_until_ms: int
    attempts: int
    next_attempt_at_ms: int
    last_error: str
    abandoned_version: int
    due_since_ms: int
    overtaken_since_ms: int
    throttled: bool
    confirmed_digest: int
    job: str
    in_flight_digest: int
    dead_reason: DeadReason
    abandoned_at_ms: int
    blocked: bool
    resync_since_ms: int
    def __init__(self, target: _Optional[str] = ..., desired_version: _Optional[int] = ..., confirmed_version: _Optional[int] = ..., confirmed_at_ms: _Optional[int] = ..., in_flight_version: _Optional[int] = ..., in_flight_until_ms: _Optional[int] = ..., attempts: _Optional[int] = ..., next_attempt_at_ms: _Optional[int] = ..., last_error: _Optional[str] = ..., abandoned_version: _Optional[int] = ..., due_since_ms: _Optional[int] = ..., overtaken_since_ms: _Optional[int] = ..., throttled: _Optional[bool] = ..., confirmed_digest: _Optional[int] = ..., job: _Optional[str] = ..., in_flight_digest: _Optional[int] = ..., dead_reason: _Optional[_Union[DeadReason, str]] = ..., abandoned_at_ms: _Optional[int] = ..., blocked: _Optional[bool] = ..., resync_since_ms: _Optional[int] = ...) -> None: ...
