"""From a JSON object to a product: the form that shops send over HTTP and load from files.

``{"id": "987", "title": "Trail shoe", "url": "https://shop.example/987", "image": "https://shop.example/987.jpg", "price": "299.99 EUR",
"in_stock": true, "category": "Shoes > Running", "brand": "Acme", "attributes": {"colour": ["red", "blue"]}}``. Each field goes by the
names that merchants give it (NAMES). What stands in JSON is strict: a field that is not known is refused, so that a typing error does not
pass in silence; what is free belongs into ``attributes``. ``null`` means "not said", and in a change "cleared".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.domain.json_values import Broken, kind_of, refuse_unknown
from app.domain.product_validation import PRODUCT_FIELDS, validate_product
from app.domain.product_values import (
    Price,
    read_attributes,
    read_categories,
    read_currency,
    read_id,
    read_in_stock,
    read_moment,
    read_price,
    read_published,
    read_words,
    sale_is_on,
)
from app.domain.validation import Violation
from tidings.events.v1.event_pb2 import Money
from tidings.products.v1.product_pb2 import Product

#: A field of the product to the names it goes by; the first of each is the one that the documentation uses. The last three are no fields:
#: ``sale_price`` becomes the price and makes ``price`` the list price, between the two times of the third if that is given.
NAMES: dict[str, tuple[str, ...]] = {
    "product_id": ("product_id", "id"),
    "title": ("title", "name"),
    "url": ("url", "link"),
    "image_url": ("image_url", "image", "image_link"),
    "price": ("price",),
    "list_price": ("list_price",),
    "in_stock": ("in_stock", "availability"),
    "categories": ("categories", "category", "product_type"),
    "brand": ("brand",),
    "attributes": ("attributes",),
    "published_at_ms": ("published", "published_at"),
    "expires_at_ms": ("expires_at", "expires", "expiration_date"),
    "changed_at_ms": ("changed_at", "updated_at"),
    "currency": ("currency",),
    "sale_price": ("sale_price",),
    "sale_dates": ("sale_price_effective_date",),
}
#: Every name to its field.
FIELD_OF = {name: field for field, names in NAMES.items() for name in names}


def product_from_json(obj: object, now_ms: int) -> Product | Violation:
    """The whole product that a parsed JSON value describes, valid by app.domain.product_validation; or what is wrong, ``field`` being the
    JSON path. What it does not say is not known. Numbers may be int, float or Decimal; ``now_ms`` decides whether a sale is on.
    """
    return _read(obj, now_ms, is_change=False)


def product_change_from_json(obj: object, now_ms: int) -> Product | Violation:
    """A change of the fields that are named, by the same rules: the others stay as they are, and ``null`` clears one."""
    return _read(obj, now_ms, is_change=True)


_NOTHING: frozenset[str] = frozenset()
_BOTH_PRICES = frozenset({"price", "list_price"})


def _read(obj: object, now_ms: int, *, is_change: bool) -> Product | Violation:
    names: dict[str, str] = {}
    try:
        if not isinstance(obj, dict):
            raise Broken("", f"a product is a JSON object, not {kind_of(obj)}")
        names = _names_given(obj)
        if names.get("product_id") is None or obj[names["product_id"]] is None:
            raise Broken(names.get("product_id", "product_id"), "is required")
        product = Product()
        for field, read in _READERS.items():
            if (name := names.get(field)) is not None and (value := obj[name]) is not None:
                _fill(product, field, read(value, name))
        decided = _fill_prices(product, obj, names, now_ms)
    except Broken as broken:
        return broken.violation()
    if is_change:
        changed = PRODUCT_FIELDS & names.keys() | decided
        if not changed:
            return Broken("", "the change names no field: give at least one beside the id").violation()
        product.changed_fields.extend(sorted(changed))
    violation = validate_product(product, now_ms)
    if violation is None:
        return product
    path = _json_path(violation.field, names)
    return Violation(violation.reason, path, f"{path} {violation.detail.removeprefix(violation.field).strip()}")


def _names_given(obj: dict[str, Any]) -> dict[str, str]:
    """Field to the name that it has in this object."""
    if not obj.keys() <= FIELD_OF.keys():
        refuse_unknown(obj, tuple(FIELD_OF), "")
    names: dict[str, str] = {}
    for name in obj:
        field = FIELD_OF[name]
        if field in names:
            raise Broken(name, f"says the same as {names[field]}: give one of them")
        names[field] = name
    return names


def _fill_prices(product: Product, obj: dict[str, Any], names: dict[str, str], now_ms: int) -> frozenset[str]:
    """Prices depend on each other: for their currency, and where one is the sale's. Returns the fields that they decide."""
    price, list_price, sale = _price(obj, names, "price"), _price(obj, names, "list_price"), _price(obj, names, "sale_price")
    currency = _currency(obj, names, price, list_price, sale)
    decided = _NOTHING
    if "sale_price" in names:
        if "list_price" in names:
            raise Broken(names["list_price"], "is what price becomes when there is a sale_price: leave one of them away")
        if price is None and sale is not None:
            raise Broken("sale_price", "needs the price that it reduces beside it")
        if "price" in names:
            decided = _BOTH_PRICES
        dates = obj.get(names.get("sale_dates", ""))
        is_on = dates is None or sale_is_on(dates, names["sale_dates"], now_ms)
        if sale is not None and price is not None and is_on and sale.minor_units(currency) < price.minor_units(currency):
            price, list_price = sale, price
    if price is not None:
        _fill_money(product.price, price, currency)
    if list_price is not None:
        _fill_money(product.list_price, list_price, currency)
    return decided


def _fill_money(money: Money, price: Price, currency: str) -> None:
    money.SetInParent()  # a price of nothing is a price
    money.minor_units = price.minor_units(currency)
    money.currency_code = currency


def _price(obj: dict[str, Any], names: dict[str, str], field: str) -> Price | None:
    name = names.get(field)
    return None if name is None or obj[name] is None else read_price(obj[name], name)


def _currency(obj: dict[str, Any], names: dict[str, str], *prices: Price | None) -> str:
    """The one currency of a product: its own field's, or that of any of its prices; "" for the shop's own."""
    code = ""
    if "currency" in names and obj["currency"] is not None:
        if not any(prices):
            raise Broken("currency", "says nothing without a price")
        code = read_currency(obj["currency"], "currency")
    for price in prices:
        if price is not None and price.currency and price.currency != code:
            if code:
                told = f"is said to be in {code} and in {price.currency}: a product has one currency"
                raise Broken("currency" if "currency" in names else "price", told)
            code = price.currency
    return code


# ---------------------------------------------------------------------- fields that stand for themselves


#: In the order in which what is wrong is told.
_READERS: dict[str, Callable[[object, str], Any]] = {
    "product_id": read_id,
    "changed_at_ms": read_moment,
    "title": read_words,
    "url": read_words,
    "image_url": read_words,
    "in_stock": read_in_stock,
    "categories": read_categories,
    "brand": read_words,
    "attributes": read_attributes,
    "published_at_ms": read_published,
    "expires_at_ms": read_moment,
}


def _fill(product: Product, field: str, value: Any) -> None:
    match field:
        case "categories":
            product.categories.extend(value)
        case "attributes":
            for name, values in value:
                product.attributes[name].values.extend(values)
        case _:
            setattr(product, field, value)


def _json_path(field: str, names: dict[str, str]) -> str:
    """Where in the JSON a field of the product came from."""
    head = field.replace("[", ".").partition(".")[0]
    name = names.get(head) or names.get("sale_price" if head == "price" else "price" if head == "list_price" else "", head)
    rest = field.removeprefix(head)
    return name if rest.startswith(".") else name + rest
