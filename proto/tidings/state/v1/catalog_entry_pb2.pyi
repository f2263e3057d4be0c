from tidings.products.v1 import product_pb2 as _product_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CatalogEntry(_message.Message):
    __slots__ = ("product", "is_listed", "price_changed_at_ms", "price_minor_units", "out_of_stock_since_ms", "back_in_stock_at_ms", "listed_at_ms")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    IS_LISTED_FIELD_NUMBER: _ClassVar[int]
    PRICE_CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PRICE_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_STOCK_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    BACK_IN_STOCK_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LISTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    product: _product_pb2.Product
    is_listed: bool
    price_changed_at_ms: _containers.RepeatedScalarFieldContainer[int]
    price_minor_units: _containers.RepeatedScalarFieldContainer[int]
    out_of_stock_since_ms: int
    back_in_stock_at_ms: int
    listed_at_ms: int
    def __init__(self, product: _Optional[_Union[_product_pb2.Product, _Mapping]] = ..., is_listed: _Optional[bool] = ..., price_changed_at_ms: _Optional[_Iterable[int]] = ..., price_minor_units: _Optional[_Iterable[int]] = ..., out_of_stock_since_ms: _Optional[int] = ..., back_in_stock_at_ms: _Optional[int] = ..., listed_at_ms: _Optional[int] = ...) -> None: ...
