from tidings.events.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InteractionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERACTION_KIND_UNSPECIFIED: _ClassVar[InteractionKind]
    INTERACTION_KIND_VIEW: _ClassVar[InteractionKind]
    INTERACTION_KIND_CART: _ClassVar[InteractionKind]
    INTERACTION_KIND_PURCHASE: _ClassVar[InteractionKind]
    INTERACTION_KIND_EMAIL_CLICK: _ClassVar[InteractionKind]
INTERACTION_KIND_UNSPECIFIED: InteractionKind
INTERACTION_KIND_VIEW: InteractionKind
INTERACTION_KIND_CART: InteractionKind
INTERACTION_KIND_PURCHASE: InteractionKind
INTERACTION_KIND_EMAIL_CLICK: InteractionKind

class Profile(_message.Message):
    __slots__ = ("user_id", "first_event_at_ms", "last_event_at_ms", "event_count", "session", "history", "cart", "attributes", "consents", "recent_event_ids", "anonymous_ids", "email", "purchases")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CART_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CONSENTS_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_IDS_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    first_event_at_ms: int
    last_event_at_ms: int
    event_count: int
    session: Session
    history: History
    cart: _containers.RepeatedCompositeFieldContainer[CartLine]
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    consents: _containers.RepeatedCompositeFieldContainer[Consent]
    recent_event_ids: bytes
    anonymous_ids: _containers.RepeatedScalarFieldContainer[str]
    email: EmailActivity
    purchases: Purchases
    def __init__(self, user_id: _Optional[str] = ..., first_event_at_ms: _Optional[int] = ..., last_event_at_ms: _Optional[int] = ..., event_count: _Optional[int] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., cart: _Optional[_Iterable[_Union[CartLine, _Mapping]]] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., consents: _Optional[_Iterable[_Union[Consent, _Mapping]]] = ..., recent_event_ids: _Optional[bytes] = ..., anonymous_ids: _Optional[_Iterable[str]] = ..., email: _Optional[_Union[EmailActivity, _Mapping]] = ..., purchases: _Optional[_Union[Purchases, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "started_at_ms", "last_event_at_ms", "event_count", "product_ids", "history_count")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_COUNT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    started_at_ms: int
    last_event_at_ms: int
    event_count: int
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    history_count: int
    def __init__(self, session_id: _Optional[str] = ..., started_at_ms: _Optional[int] = ..., last_event_at_ms: _Optional[int] = ..., event_count: _Optional[int] = ..., product_ids: _Optional[_Iterable[str]] = ..., history_count: _Optional[int] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("product_ids", "occurred_at_ms", "kinds")
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    occurred_at_ms: _containers.RepeatedScalarFieldContainer[int]
    kinds: _containers.RepeatedScalarFieldContainer[InteractionKind]
    def __init__(self, product_ids: _Optional[_Iterable[str]] = ..., occurred_at_ms: _Optional[_Iterable[int]] = ..., kinds: _Optional[_Iterable[_Union[InteractionKind, str]]] = ...) -> None: ...

class Purchases(_message.Message):
    __slots__ = ("product_ids", "first_at_ms", "last_at_ms", "counts")
    PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    FIRST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    product_ids: _containers.RepeatedScalarFieldContainer[str]
    first_at_ms: _containers.RepeatedScalarFieldContainer[int]
    last_at_ms: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, product_ids: _Optional[_Iterable[str]] = ..., first_at_ms: _Optional[_Iterable[int]] = ..., last_at_ms: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class CartLine(_message.Message):
    __slots__ = ("product_id", "quantity", "added_at_ms", "unit_price")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    ADDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UNIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    quantity: int
    added_at_ms: int
    unit_price: _event_pb2.Money
    def __init__(self, product_id: _Optional[str] = ..., quantity: _Optional[int] = ..., added_at_ms: _Optional[int] = ..., unit_price: _Optional[_Union[_event_pb2.Money, _Mapping]] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("name", "text", "number", "flag", "changed_at_ms", "event_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    number: float
    flag: bool
    changed_at_ms: int
    event_id: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., number: _Optional[float] = ..., flag: _Optional[bool] = ..., changed_at_ms: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...

class Consent(_message.Message):
    __slots__ = ("purpose", "state", "changed_at_ms", "event_id")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    state: _event_pb2.ConsentState
    changed_at_ms: int
    event_id: str
    def __init__(self, purpose: _Optional[str] = ..., state: _Optional[_Union[_event_pb2.ConsentState, str]] = ..., changed_at_ms: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...

class EmailActivity(_message.Message):
    __slots__ = ("opened_count", "clicked_count", "last_opened_at_ms", "last_clicked_at_ms")
    OPENED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLICKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_OPENED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_CLICKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    opened_count: int
    clicked_count: int
    last_opened_at_ms: int
    last_clicked_at_ms: int
    def __init__(self, opened_count: _Optional[int] = ..., clicked_count: _Optional[int] = ..., last_opened_at_ms: _Optional[int] = ..., last_clicked_at_ms: _Optional[int] = ...) -> None: ...
