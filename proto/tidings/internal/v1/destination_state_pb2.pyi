from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Breaker(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_UNSPECIFIED: _ClassVar[Breaker]
    BREAKER_CLOSED: _ClassVar[Breaker]
    BREAKER_OPEN_AUTH: _ClassVar[Breaker]
    BREAKER_OPEN_CONFIGURATION: _ClassVar[Breaker]
    BREAKER_OPEN_GONE: _ClassVar[Breaker]
    BREAKER_OPEN_ERRORS: _ClassVar[Breaker]
    BREAKER_PARKED: _ClassVar[Breaker]
    BREAKER_OPEN_OPERATOR: _ClassVar[Breaker]
BREAKER_UNSPECIFIED: Breaker
BREAKER_CLOSED: Breaker
BREAKER_OPEN_AUTH: Breaker
BREAKER_OPEN_CONFIGURATION: Breaker
BREAKER_OPEN_GONE: Breaker
BREAKER_OPEN_ERRORS: Breaker
BREAKER_PARKED: Breaker
BREAKER_OPEN_OPERATOR: Breaker

class DestinationState(_message.Message):
    __slots__ = ("target", "at_ms", "by", "breaker", "reason", "until_ms")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    target: str
    at_ms: int
    by: str
    breaker: Breaker
    reason: str
    until_ms: int
    def __init__(self, target: _Optional[str] = ..., at_ms: _Optional[int] = ..., by: _Optional[str] = ..., breaker: _Optional[_Union[Breaker, str]] = ..., reason: _Optional[str] = ..., until_ms: _Optional[int] = ...) -> None: ...
