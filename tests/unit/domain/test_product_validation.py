"""Every rule of product.proto rejects what breaks it, by the name of the field, and nothing that comes in raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.catalog import NEVER_MS
from app.domain.product_validation import (
    _CHECKS,
    PRODUCT_FIELDS,
    _change,
    decode_product,
    product_id_of,
    product_key,
    validate_product,
)
from app.domain.validation import EARLIEST_MS, LATEST_MS, MAX_AHEAD_MS, Violation
from tidings.events.v1.event_pb2 import Money
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.products.v1.product_pb2 import AttributeValues, Product

NOON_MS = 1_700_000_000_000
EURO = Money(minor_units=999, currency_code="EUR")


def product(product_id: str = "p1", **fields: Any) -> Product:
    return Product(product_id=product_id, **fields)


def attributes(name: str = "colour", *values: str) -> dict[str, AttributeValues]:
    return {name: AttributeValues(values=values)}


#: Field that the violation must name, and a product that breaks its rule.
BROKEN = [
    ("product_id", product("")),
    ("product_id", product("p" * 129)),
    ("product_id", product("\u20ac" * 43)),
    ("product_id", product("p\x1fprice")),
    ("product_id", product("__owner")),
    ("changed_at_ms", product(changed_at_ms=-1)),
    ("changed_at_ms", product(changed_at_ms=NOON_MS // 1000)),
    ("changed_at_ms", product(changed_at_ms=EARLIEST_MS - 1)),
    ("changed_at_ms", product(changed_at_ms=LATEST_MS + 1)),
    ("changed_at_ms", product(changed_at_ms=NOON_MS + MAX_AHEAD_MS + 1)),
    ("changed_fields", product(changed_fields=["colour"])),
    ("changed_fields", product(changed_fields=["product_id"])),
    ("changed_fields", product(changed_fields=["changed_at_ms"])),
    ("changed_fields", product(changed_fields=["changed_fields"])),
    ("changed_fields", product(changed_fields=["title", "price"])),
    ("changed_fields", product(changed_fields=["price", "price"])),
    ("title", product(changed_fields=["price"], title="Shoe")),
    ("in_stock", product(changed_fields=["price"], in_stock=False)),
    ("title", product(title="t" * 513)),
    ("title", product(title="\u20ac" * 171)),
    ("title", product(title="two\nlines")),
    ("url", product(url="https://shop.example/" + "x" * 2028)),
    ("url", product(url="/shoe")),
    ("url", product(url="ftp://shop.example/shoe")),
    ("url", product(url="javascript:alert(1)")),
    ("url", product(url="https://")),
    ("url", product(url="https:///shoe")),
    ("url", product(url="https://shop.example/a shoe")),
    ("url", product(url="https://shop.example/\x00")),
    ("url", product(url="https://shop.example/\u2028")),
    ("image_url", product(image_url="data:image/png;base64,AAAA")),
    ("image_url", product(image_url="https://shop.example/" + "x" * 2028)),
    ("price.minor_units", product(price=Money(minor_units=-1))),
    ("price.minor_units", product(price=Money(minor_units=10**12 + 1))),
    ("price.currency_code", product(price=Money(currency_code="eur"))),
    ("list_price.minor_units", product(list_price=Money(minor_units=-1))),
    ("list_price.currency_code", product(list_price=Money(currency_code="EURO"))),
    ("list_price.currency_code", product(price=EURO, list_price=Money(minor_units=1999, currency_code="USD"))),
    ("list_price.currency_code", product(price=EURO, list_price=Money(minor_units=1999))),
    ("categories", product(categories=[str(n) for n in range(11)])),
    ("categories[1]", product(categories=["Shoes", ""])),
    ("categories[0]", product(categories=["c" * 257])),
    ("categories[0]", product(categories=["Shoes\t> Running"])),
    ("brand", product(brand="b" * 129)),
    ("brand", product(brand="a\x7f")),
    ("attributes", product(attributes={str(n): AttributeValues(values=["x"]) for n in range(33)})),
    ("attributes", product(attributes=attributes("", "red"))),
    ("attributes", product(attributes=attributes("k" * 65, "red"))),
    ("attributes", product(attributes=attributes("k\n", "red"))),
    ("attributes['colour']", product(attributes=attributes("colour"))),
    ("attributes['colour']", product(attributes=attributes("colour", *"abcdefghijklmnopq"))),
    ("attributes['colour']", product(attributes=attributes("colour", "v" * 257))),
    ("attributes['colour']", product(attributes=attributes("colour", "red\n"))),
    ("published_at_ms", product(published_at_ms=-1)),
    ("published_at_ms", product(published_at_ms=NEVER_MS + 1)),
    ("expires_at_ms", product(expires_at_ms=-1)),
    ("expires_at_ms", product(expires_at_ms=NOON_MS // 1000)),
    ("expires_at_ms", product(expires_at_ms=NEVER_MS + 1)),
]

#: Each at the very edge of its rules.
SOUND = [
    product("p" * 128),
    product("\u20ac" * 42),
    product("_shoe"),
    product("a shoe, size 42"),
    product(changed_at_ms=EARLIEST_MS),
    product(changed_at_ms=NOON_MS + MAX_AHEAD_MS),
    product(changed_fields=sorted(PRODUCT_FIELDS)),
    product(changed_fields=["in_stock", "price"], in_stock=False),
    product(title="t" * 512),
    product(title="\u20ac" * 170),
    product(url="HTTPS://shop.example"),
    product(url="http://shop.example/" + "x" * 2028),
    product(url="https://shop.example/sch\u00f6n?a=b#c"),
    product(price=Money(minor_units=10**12, currency_code="EUR")),
    product(price=EURO, list_price=EURO),
    product(list_price=EURO),
    product(categories=["c" * 256] * 10),
    product(brand="b" * 128),
    product(attributes={str(n): AttributeValues(values=["", "v" * 256] * 8) for n in range(32)}),
    product(attributes=attributes("k" * 64, "x")),
    product(published_at_ms=NEVER_MS, expires_at_ms=NEVER_MS),
    product(published_at_ms=1, expires_at_ms=EARLIEST_MS),
]


def decode(record: Product, key: bytes | None = None) -> Product | Violation:
    return decode_product(record.SerializeToString(), product_key(record) if key is None else key, NOON_MS)


@pytest.mark.parametrize(("field", "record"), BROKEN)
def test_a_broken_rule_names_its_field(field: str, record: Product) -> None:
    violation = decode(record)
    assert isinstance(violation, Violation)
    assert violation.field == field
    assert violation.detail.startswith(field)
    assert violation.reason == DeadLetterReason.DEAD_LETTER_REASON_INVALID


@pytest.mark.parametrize("record", SOUND)
def test_what_stands_at_the_edge_of_a_rule_is_a_product(record: Product) -> None:
    assert decode(record) == record
    assert validate_product(record) is None


def test_every_field_has_a_rule_that_is_tested_or_no_rule() -> None:
    tested = {field.partition("[")[0].partition(".")[0] for field, _ in BROKEN}
    assert tested == {field.name for field in Product.DESCRIPTOR.fields}
    assert set(_CHECKS) == PRODUCT_FIELDS


@pytest.mark.parametrize(("field", "record"), BROKEN)
def test_a_change_is_held_to_the_same_rules(field: str, record: Product) -> None:
    """Each broken record again, as a change of the fields that it sets."""
    names = sorted(PRODUCT_FIELDS & {descriptor.name for descriptor, _ in record.ListFields()})
    if not names or record.changed_fields:
        return
    record = Product.FromString(record.SerializeToString())
    record.changed_fields[:] = names
    violation = decode(record)
    assert isinstance(violation, Violation)
    assert violation.field == field


def test_the_key_of_a_full_record_is_the_id_and_that_of_a_change_names_the_fields() -> None:
    assert product_key(product("sch\u00f6n")) == "sch\u00f6n".encode()
    change = product("p1", changed_fields=["in_stock", "price"])
    assert product_key(change) == b"p1\x1fin_stock,price"
    assert product_id_of(product_key(change)) == product_id_of(b"p1") == b"p1"


@pytest.mark.parametrize(
    ("field", "key", "record"),
    [
        ("product_id", b"p2", product("p1")),
        ("product_id", b"", product("p1")),
        ("product_id", b"p2\x1fprice", product("p1", changed_fields=["price"])),
        ("changed_fields", b"p1\x1fprice", product("p1")),
        ("changed_fields", b"p1", product("p1", changed_fields=["price"])),
        ("changed_fields", b"p1\x1ftitle", product("p1", changed_fields=["price"])),
    ],
)
def test_a_record_under_a_key_that_is_not_its_own_is_refused(field: str, key: bytes, record: Product) -> None:
    violation = decode(record, key)
    assert isinstance(violation, Violation)
    assert violation.field == field


def test_a_name_that_is_no_field_is_not_repeated_in_the_answer() -> None:
    violation = decode(product(changed_fields=["<script>"]))
    assert isinstance(violation, Violation)
    assert "<script>" not in violation.detail


def test_a_million_names_are_refused_and_not_remembered() -> None:
    remembered = _change.cache_info().misses
    for names in (["price"] * 100_000, [f"noise {n}" for n in range(100_000)]):
        violation = decode(product(changed_fields=names))
        assert isinstance(violation, Violation)
        assert (violation.field, len(violation.detail) < 300) == ("changed_fields", True)
    assert _change.cache_info().misses == remembered


def test_bytes_that_are_no_product_are_undecodable() -> None:
    violation = decode_product(b"\xff\xff", b"p1", NOON_MS)
    assert isinstance(violation, Violation)
    assert violation.reason == DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE


@settings(deadline=None)
@given(value=st.binary(max_size=300), key=st.binary(max_size=20))
def test_no_bytes_raise(value: bytes, key: bytes) -> None:
    assert isinstance(decode_product(value, key, NOON_MS), Product | Violation)
    assert isinstance(product_id_of(key), bytes)
