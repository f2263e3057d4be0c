"""The fold of the products topic: what is known of one product after each record about it.

Records are applied in the order of the topic. The same record twice in a row changes nothing the second time, and a record that says what
is known already changes nothing at all, so that a full feed costs what is new in it.
"""

from __future__ import annotations

from app.domain.catalog import CatalogProduct
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

#: Prices remembered, the current one included; past it, the oldest is forgotten.
MAX_PRICES = 16
#: What shops change all day, thousands of times a second: folded in place.
_LIVELY = frozenset({("in_stock",), ("price",), ("in_stock", "price")})


def new_entry(product_id: str) -> CatalogEntry:
    """Nothing is known of the product, and it is not listed."""
    return CatalogEntry(product=Product(product_id=product_id))


def fold_product(entry: CatalogEntry, product: Product, received_at_ms: int) -> bool:
    """Apply a valid record about the entry's product; True if it changed anything.

    A full record lists the product and replaces what was known; one with ``changed_fields`` sets these. Changes are dated by
    ``changed_at_ms``, or by ``received_at_ms`` where the record says nothing.
    """
    if (names := tuple(product.changed_fields)) in _LIVELY:
        return _fold_price_and_stock(entry, product, names, received_at_ms)
    before = entry.product
    after = _after(before, product)
    lists = not product.changed_fields and not entry.is_listed
    if after == before and not lists:
        return False
    at_ms = product.changed_at_ms or max(0, received_at_ms)
    if lists:
        entry.is_listed = True
        entry.listed_at_ms = at_ms
    _note_price(entry, before.price.currency_code, after, at_ms)
    _note_stock(entry, is_in_stock(before), after, at_ms)
    before.CopyFrom(after)
    return True


def catalog_product(entry: CatalogEntry) -> CatalogProduct | None:
    """The product as ranking reads it; None when it is not listed."""
    if not entry.is_listed:
        return None
    product = entry.product
    return CatalogProduct(
        product_id=product.product_id,
        title=product.title,
        url=product.url,
        image_url=product.image_url,
        price=product.price.minor_units if product.HasField("price") else None,
        list_price=product.list_price.minor_units if product.HasField("list_price") else None,
        currency=(product.price if product.HasField("price") else product.list_price).currency_code,
        in_stock=is_in_stock(product),
        categories=tuple(dict.fromkeys(product.categories)),
        brand=product.brand,
        attributes={name: tuple(attribute.values) for name, attribute in product.attributes.items()},
        published_at_ms=product.published_at_ms,
        expires_at_ms=product.expires_at_ms,
        listed_at_ms=entry.listed_at_ms,
        prices=tuple(zip(entry.price_changed_at_ms, entry.price_minor_units, strict=True)),
        out_of_stock_since_ms=entry.out_of_stock_since_ms,
        back_in_stock_at_ms=entry.back_in_stock_at_ms,
    )


def is_in_stock(product: Product) -> bool:
    """A product that says nothing of it is."""
    return product.in_stock or not product.HasField("in_stock")


def encode_entry(entry: CatalogEntry) -> bytes:
    """The same bytes for the same entry, in whatever process: attributes are a map, which has no order of its own."""
    return entry.SerializeToString(deterministic=True)


def _fold_price_and_stock(entry: CatalogEntry, record: Product, names: tuple[str, ...], received_at_ms: int) -> bool:
    """What fold_product does for a record that changes nothing else, without a copy; a test holds the two against each other."""
    at_ms = record.changed_at_ms or max(0, received_at_ms)
    reprices = "price" in names and _set_price(entry, record, at_ms)
    restocks = "in_stock" in names and _set_stock(entry, record, at_ms)
    return reprices or restocks


def _set_price(entry: CatalogEntry, record: Product, at_ms: int) -> bool:
    product, price, has_price = entry.product, record.price, record.HasField("price")
    before, units, currency = product.price, price.minor_units, price.currency_code
    currency_before = before.currency_code
    if has_price == product.HasField("price") and units == before.minor_units and currency == currency_before:
        return False
    if has_price:
        before.minor_units, before.currency_code = units, currency
        if product.HasField("list_price") and product.list_price.currency_code != currency:
            product.ClearField("list_price")
    else:
        product.ClearField("price")
    _note_price(entry, currency_before, product, at_ms)
    return True


def _set_stock(entry: CatalogEntry, record: Product, at_ms: int) -> bool:
    product, is_said = entry.product, record.HasField("in_stock")
    if is_said == product.HasField("in_stock") and record.in_stock == product.in_stock:
        return False
    was_in_stock = is_in_stock(product)
    if is_said:
        product.in_stock = record.in_stock
    else:
        product.ClearField("in_stock")
    _note_stock(entry, was_in_stock, product, at_ms)
    return True


def _after(before: Product, record: Product) -> Product:
    """The fields as they stand after a record, without what belongs to the record alone."""
    after = Product()
    if record.changed_fields:
        after.CopyFrom(before)
        for name in record.changed_fields:
            after.ClearField(name)  # type: ignore[arg-type]  # validated: names of fields
    after.MergeFrom(record)
    after.ClearField("changed_fields")
    after.ClearField("changed_at_ms")
    if record.changed_fields:
        # What a newer version's change holds beside its named fields would pile up here, change after change.
        after.DiscardUnknownFields()
    if after.HasField("price") and after.HasField("list_price") and after.price.currency_code != after.list_price.currency_code:
        after.ClearField("list_price")
    return after


def _note_price(entry: CatalogEntry, currency_before: str, after: Product, at_ms: int) -> None:
    times, prices = entry.price_changed_at_ms, entry.price_minor_units
    has_price, price = after.HasField("price"), after.price
    if not has_price or (len(prices) and currency_before != price.currency_code):
        # Prices of two currencies cannot be compared, and nobody knows in which one a product without a price will come back.
        del times[:]
        del prices[:]
    if has_price and (not prices or prices[-1] != price.minor_units):
        # In the order of the topic, whatever the shop's clock says: a time never lies before the one it follows.
        times.append(max(at_ms, times[-1]) if times else at_ms)
        prices.append(price.minor_units)
        if len(prices) > MAX_PRICES:
            del times[:-MAX_PRICES]
            del prices[:-MAX_PRICES]


def _note_stock(entry: CatalogEntry, was_in_stock: bool, after: Product, at_ms: int) -> None:
    """A product that was not known counts as in stock."""
    comes_in_stock = is_in_stock(after)
    if was_in_stock and not comes_in_stock:
        entry.out_of_stock_since_ms = max(at_ms, entry.back_in_stock_at_ms)
    elif comes_in_stock and not was_in_stock:
        entry.back_in_stock_at_ms = max(at_ms, entry.out_of_stock_since_ms)
