from tidings.state.v1 import profile_pb2 as _profile_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Neighbours(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    def __init__(self, replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("user_id", "neighbours", "caused_at_ms")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    CAUSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    neighbours: _profile_pb2.NeighbourList
    caused_at_ms: int
    def __init__(self, user_id: _Optional[str] = ..., neighbours: _Optional[_Union[_profile_pb2.NeighbourList, _Mapping]] = ..., caused_at_ms: _Optional[int] = ...) -> None: ...
