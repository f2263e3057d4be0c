from tidings.events.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Product(_message.Message):
    __slots__ = ("product_id", "changed_at_ms", "changed_fields", "title", "url", "image_url", "price", "list_price", "in_stock", "categories", "brand", "attributes", "published_at_ms", "expires_at_ms")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AttributeValues
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AttributeValues, _Mapping]] = ...) -> None: ...
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_URL_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    LIST_PRICE_FIELD_NUMBER: _ClassVar[int]
    IN_STOCK_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    changed_at_ms: int
    changed_fields: _containers.RepeatedScalarFieldContainer[str]
    title: str
    url: str
    image_url: str
    price: _event_pb2.Money
    list_price: _event_pb2.Money
    in_stock: bool
    categories: _containers.RepeatedScalarFieldContainer[str]
    brand: str
    attributes: _containers.MessageMap[str, AttributeValues]
    published_at_ms: int
    expires_at_ms: int
    def __init__(self, product_id: _Optional[str] = ..., changed_at_ms: _Optional[int] = ..., changed_fields: _Optional[_Iterable[str]] = ..., title: _Optional[str] = ..., url: _Optional[str] = ..., image_url: _Optional[str] = ..., price: _Optional[_Union[_event_pb2.Money, _Mapping]] = ..., list_price: _Optional[_Union[_event_pb2.Money, _Mapping]] = ..., in_stock: _Optional[bool] = ..., categories: _Optional[_Iterable[str]] = ..., brand: _Optional[str] = ..., attributes: _Optional[_Mapping[str, AttributeValues]] = ..., published_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class AttributeValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...
