"""Is this record a product? Each rule in the comments of product.proto is checked here, and the field that breaks one is named.

No input raises: bytes that are no product come back as a Violation, the value that the dead-letter topic is made from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from operator import lt
from typing import NamedTuple

from google.protobuf.message import DecodeError

from app.domain.catalog import NEVER_MS
from app.domain.validation import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_AHEAD_MS,
    MAX_PRODUCT_ID_BYTES,
    Violation,
    check_money,
    id_problem,
    invalid,
    is_longer,
    key_problem,
)
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.products.v1.product_pb2 import Product

MAX_TITLE_BYTES = 512
MAX_URL_BYTES = 2048
MAX_CATEGORIES = 10
MAX_CATEGORY_BYTES = 256
MAX_BRAND_BYTES = 128
MAX_PRODUCT_ATTRIBUTES = 32
MAX_ATTRIBUTE_NAME_BYTES = 64
MAX_ATTRIBUTE_VALUES = 16
MAX_ATTRIBUTE_TEXT_BYTES = 256

#: Ways to change a product that are remembered; past it, the one that was met longest ago is forgotten.
MAX_CHANGES_REMEMBERED = 256

#: Parts a record's key: the product's id before it, the names of the fields that the record sets behind it.
KEY_SEPARATOR = b"\x1f"

_ENVELOPE = frozenset({"product_id", "changed_at_ms", "changed_fields"})
#: The fields of a product, which a record with `changed_fields` may name.
PRODUCT_FIELDS = frozenset(field.name for field in Product.DESCRIPTOR.fields) - _ENVELOPE

_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)


def product_key(product: Product) -> bytes:
    """The key of the product's Kafka record, which goes to the partition of the id: the id, and what the record changes if not all."""
    key = product.product_id.encode()
    return key + KEY_SEPARATOR + ",".join(product.changed_fields).encode() if product.changed_fields else key


def product_id_of(key: bytes) -> bytes:
    """The product that a record with this key is about."""
    return key.partition(KEY_SEPARATOR)[0]


def decode_product(value: bytes, key: bytes, received_at_ms: int) -> Product | Violation:
    """The product in a Kafka record, or what is wrong with it. ``received_at_ms`` is the record's own timestamp."""
    try:
        product = Product.FromString(value)
    except DecodeError:
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE, "", "the bytes are not a tidings.products.v1.Product")
    names = tuple(product.changed_fields)
    violation = _first_problem(product, names, received_at_ms)
    if violation is not None:
        return violation
    if key != product.product_id.encode() + _change(names).key_suffix:
        if product_id_of(key) != product.product_id.encode():
            return invalid("product_id", "must be equal to the record's key, up to the byte 0x1f")
        # Under the id alone, compaction would take the full record away for it, and the other way round.
        return invalid("changed_fields", "must stand in the record's key, with commas between, after the id and the byte 0x1f")
    return product


def validate_product(product: Product, received_at_ms: int = 0) -> Violation | None:
    """The first rule that the product breaks, or None. Without ``received_at_ms``, its time is held to the absolute bounds only."""
    return _first_problem(product, tuple(product.changed_fields), received_at_ms)


def _first_problem(product: Product, names: tuple[str, ...], received_at_ms: int) -> Violation | None:
    """``names`` are the record's changed_fields, which take longer to read than other fields."""
    if problem := key_problem(product.product_id, MAX_PRODUCT_ID_BYTES):
        return invalid("product_id", problem)
    at_ms = product.changed_at_ms
    if at_ms and (not EARLIEST_MS <= at_ms <= LATEST_MS or 0 < received_at_ms < at_ms - MAX_AHEAD_MS):
        return invalid("changed_at_ms", "must be in milliseconds since 1970 UTC, from 2000 to 2100, and at most a day past the receipt")
    if not PRODUCT_FIELDS.issuperset(names):
        # What it names may be anything: the answer does not repeat it.
        return invalid("changed_fields", "must be names of fields: " + ", ".join(sorted(PRODUCT_FIELDS)))
    if len(names) > 1 and (len(names) > len(PRODUCT_FIELDS) or not all(map(lt, names, names[1:]))):
        return invalid("changed_fields", "must be sorted and hold each name once")
    change = _change(names)
    if names:
        for field, _ in product.ListFields():
            if field.name not in change.fields:
                return invalid(field.name, "is set, but changed_fields does not name it")
    for check in change.checks:
        if violation := check(product):
            return violation
    return None


class _Change(NamedTuple):
    """What holds for all records with the same sound ``changed_fields``: a shop has few ways to change a product, and does it often."""

    key_suffix: bytes
    #: What may be set, the envelope included.
    fields: frozenset[str]
    #: Of the fields that may be set.
    checks: tuple[Callable[[Product], Violation | None], ...]


@lru_cache(MAX_CHANGES_REMEMBERED)
def _change(names: tuple[str, ...]) -> _Change:
    suffix = KEY_SEPARATOR + ",".join(names).encode() if names else b""
    checks = dict.fromkeys(_CHECKS[name] for name in names or _CHECKS)
    checks.pop(_check_nothing, None)
    return _Change(suffix, _ENVELOPE.union(names), tuple(checks))


def _check_title(product: Product) -> Violation | None:
    return _check_text("title", product.title, MAX_TITLE_BYTES)


def _check_brand(product: Product) -> Violation | None:
    return _check_text("brand", product.brand, MAX_BRAND_BYTES)


def _check_text(field: str, text: str, max_bytes: int) -> Violation | None:
    problem = id_problem(text, max_bytes) if text else None
    return invalid(field, problem) if problem else None


def _check_urls(product: Product) -> Violation | None:
    return _check_url("url", product.url) or _check_url("image_url", product.image_url)


def _check_url(field: str, url: str) -> Violation | None:
    if not url:
        return None
    if problem := id_problem(url, MAX_URL_BYTES):
        return invalid(field, problem)
    return None if _URL.fullmatch(url) else invalid(field, "must be an http or https URL with a host, without white space")


def _check_prices(product: Product) -> Violation | None:
    has_price, has_list_price = product.HasField("price"), product.HasField("list_price")
    if has_price and (violation := check_money("price", product.price)):
        return violation
    if not has_list_price:
        return None
    if violation := check_money("list_price", product.list_price):
        return violation
    if has_price and product.price.currency_code != product.list_price.currency_code:
        return invalid("list_price.currency_code", "must be the price's")
    return None


def _check_categories(product: Product) -> Violation | None:
    if len(product.categories) > MAX_CATEGORIES:
        return invalid("categories", f"must have at most {MAX_CATEGORIES} entries")
    for number, category in enumerate(product.categories):
        if problem := id_problem(category, MAX_CATEGORY_BYTES):
            return invalid(f"categories[{number}]", problem)
    return None


def _check_attributes(product: Product) -> Violation | None:
    attributes = product.attributes
    if not len(attributes):
        return None
    if len(attributes) > MAX_PRODUCT_ATTRIBUTES:
        return invalid("attributes", f"must have at most {MAX_PRODUCT_ATTRIBUTES} entries")
    for name in sorted(attributes):
        if problem := id_problem(name, MAX_ATTRIBUTE_NAME_BYTES):
            return invalid("attributes", f"has a key that {problem}")
        values = attributes[name].values
        if not 1 <= len(values) <= MAX_ATTRIBUTE_VALUES:
            return invalid(f"attributes[{name!r}]", f"must have 1 to {MAX_ATTRIBUTE_VALUES} values")
        for value in values:
            if is_longer(value, MAX_ATTRIBUTE_TEXT_BYTES):
                return invalid(f"attributes[{name!r}]", f"must have values of at most {MAX_ATTRIBUTE_TEXT_BYTES} bytes of UTF-8")
            if value and (problem := id_problem(value, MAX_ATTRIBUTE_TEXT_BYTES)):
                return invalid(f"attributes[{name!r}]", problem)
    return None


def _check_times(product: Product) -> Violation | None:
    if not 0 <= product.published_at_ms <= NEVER_MS:
        return invalid("published_at_ms", f"must be in milliseconds since 1970 UTC, from 0 to {NEVER_MS}")
    if product.expires_at_ms and not EARLIEST_MS <= product.expires_at_ms <= NEVER_MS:
        return invalid("expires_at_ms", f"must be 0, or in milliseconds since 1970 UTC, from 2000 to {NEVER_MS}")
    return None


def _check_nothing(product: Product) -> Violation | None:
    return None


#: By field; a check of two fields stands twice. A test says that none is missing.
_CHECKS: dict[str, Callable[[Product], Violation | None]] = {
    "title": _check_title,
    "url": _check_urls,
    "image_url": _check_urls,
    "price": _check_prices,
    "list_price": _check_prices,
    "in_stock": _check_nothing,
    "categories": _check_categories,
    "brand": _check_brand,
    "attributes": _check_attributes,
    "published_at_ms": _check_times,
    "expires_at_ms": _check_times,
}
