"""Products for tests: short constructors, and a Hypothesis strategy for the records about one product."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from app.domain.product_validation import PRODUCT_FIELDS, validate_product
from tidings.events.v1.event_pb2 import Money
from tidings.products.v1.product_pb2 import AttributeValues, Product

NOON_MS = 1_714_219_200_000  # 2024-04-27T12:00:00Z


def full(product_id: str = "p1", price: int | None = None, currency: str = "EUR", **fields: Any) -> Product:
    """A full record."""
    if price is not None:
        fields["price"] = Money(minor_units=price, currency_code=currency)
    return Product(product_id=product_id, **fields)


def change(product_id: str = "p1", *cleared: str, **fields: Any) -> Product:
    """A record that sets ``fields`` and clears those that are only named."""
    if isinstance(fields.get("price"), int):
        fields["price"] = Money(minor_units=fields["price"], currency_code="EUR")
    names = sorted({*cleared, *(name for name in fields if name != "changed_at_ms")})
    return Product(product_id=product_id, changed_fields=names, **fields)


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": st.sampled_from(["", "Shoe", "Shoe, red"]),
    "url": st.sampled_from(["", "https://shop.example/p1"]),
    "image_url": st.sampled_from(["", "https://shop.example/p1.png"]),
    "price": st.sampled_from([None, *(Money(minor_units=n, currency_code=c) for n in (0, 900, 1_000) for c in ("EUR", "USD", ""))]),
    "list_price": st.sampled_from([None, Money(minor_units=1_500, currency_code="EUR"), Money(minor_units=2_000)]),
    "in_stock": st.sampled_from([None, True, False]),
    "categories": st.sampled_from([[], ["Shoes"], ["Shoes > Running", "Sale"], ["Sale", "Sale"]]),
    "brand": st.sampled_from(["", "Acme"]),
    "attributes": st.sampled_from([{}, {"colour": AttributeValues(values=["red"])}, {n: AttributeValues(values=["1"]) for n in "abcdef"}]),
    "published_at_ms": st.sampled_from([0, NOON_MS]),
    "expires_at_ms": st.sampled_from([0, NOON_MS + 1]),
}
assert set(_VALUES) == PRODUCT_FIELDS


@st.composite
def records(draw: st.DrawFn, product_id: str = "p1") -> Product:
    """A valid record about a product, full or a change."""
    named = draw(st.lists(st.sampled_from(sorted(PRODUCT_FIELDS)), unique=True, max_size=4))
    fields = {name: draw(_VALUES[name]) for name in (named or _VALUES)}
    at_ms = draw(st.sampled_from([0, NOON_MS - 5, NOON_MS, NOON_MS + 7]))
    record = Product(product_id=product_id, changed_at_ms=at_ms, changed_fields=sorted(named), **fields)
    if validate_product(record) is not None:  # the two prices are of different currencies
        record.ClearField("list_price")
    return record
