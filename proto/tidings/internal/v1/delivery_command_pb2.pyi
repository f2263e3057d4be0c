from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeliveryCommand(_message.Message):
    __slots__ = ("user_id", "target", "issued_at_ms", "retry", "drop", "resync")
    class Retry(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Drop(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Resync(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    target: str
    issued_at_ms: int
    retry: DeliveryCommand.Retry
    drop: DeliveryCommand.Drop
    resync: DeliveryCommand.Resync
    def __init__(self, user_id: _Optional[str] = ..., target: _Optional[str] = ..., issued_at_ms: _Optional[int] = ..., retry: _Optional[_Union[DeliveryCommand.Retry, _Mapping]] = ..., drop: _Optional[_Union[DeliveryCommand.Drop, _Mapping]] = ..., resync: _Optional[_Union[DeliveryCommand.Resync, _Mapping]] = ...) -> None: ...
