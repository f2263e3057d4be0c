"""The fold of products: full records, changes, price history, stock, and what a repeat does, one sentence each."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.catalog import CatalogProduct
from app.domain.catalog_fold import MAX_PRICES, catalog_product, encode_entry, fold_product, new_entry
from app.domain.product_validation import PRODUCT_FIELDS, product_key, validate_product
from tests.unit.domain.product_worlds import NOON_MS, change, full, records
from tidings.events.v1.event_pb2 import Money
from tidings.products.v1.product_pb2 import AttributeValues, Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

#: A busy machine is no failure.
PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

histories = st.lists(records(), max_size=25)


def folded(*products: Product, entry: CatalogEntry | None = None) -> CatalogEntry:
    """Received a second apart, from NOON_MS."""
    entry = entry or new_entry("p1")
    for number, product in enumerate(products):
        fold_product(entry, product, NOON_MS + number * 1_000)
    return entry


def listed(*products: Product) -> CatalogProduct:
    product = catalog_product(folded(*products))
    assert product is not None
    return product


def prices(*products: Product) -> list[tuple[int, int]]:
    """(seconds after noon, price)."""
    return [((at_ms - NOON_MS) // 1_000, price) for at_ms, price in listed(*products).prices]


# ---------------------------------------------------------------------- fields


def test_a_full_record_lists_the_product_with_all_that_it_says() -> None:
    product = listed(
        full(
            price=999, list_price=Money(minor_units=1_999, currency_code="EUR"), title="Shoe", url="https://shop.example/p1", brand="Acme",
            image_url="https://shop.example/p1.png", categories=["Shoes > Running", "Sale", "Sale"], published_at_ms=5, expires_at_ms=9,
            attributes={"colour": AttributeValues(values=["red", "blue"])}, in_stock=True,
        )
    )  # fmt: skip
    assert product == CatalogProduct(
        "p1", "Shoe", "https://shop.example/p1", "https://shop.example/p1.png", 999, 1_999, "EUR", True, ("Shoes > Running", "Sale"),
        "Acme", {"colour": ("red", "blue")}, 5, 9, NOON_MS, ((NOON_MS, 999),), 0, 0,
    )  # fmt: skip


def test_a_product_of_which_little_is_said_is_in_stock_and_costs_nobody_knows_what() -> None:
    assert listed(full()) == CatalogProduct("p1", listed_at_ms=NOON_MS)


def test_a_full_record_replaces_all_that_was_known() -> None:
    first = full(price=999, title="Shoe", categories=["Shoes"], attributes={"a": AttributeValues(values=["1"])})
    assert listed(first, full(title="Hat")) == CatalogProduct("p1", "Hat", listed_at_ms=NOON_MS)


def test_a_change_sets_the_fields_that_it_names_and_no_other() -> None:
    product = listed(full(price=999, title="Shoe", categories=["Shoes", "Sale"]), change(price=899, categories=["Shoes"]))
    assert (product.price, product.title, product.categories) == (899, "Shoe", ("Shoes",))


def test_a_named_field_that_is_absent_is_cleared() -> None:
    everything = full(
        price=999, title="Shoe", url="https://a.example", image_url="https://a.example", categories=["a"], brand="b", expires_at_ms=5,
        published_at_ms=5, list_price=Money(minor_units=5, currency_code="EUR"), attributes={"a": AttributeValues(values=["1"])},
        in_stock=False,
    )  # fmt: skip
    assert {field.name for field, _ in everything.ListFields()} == PRODUCT_FIELDS | {"product_id"}
    assert folded(everything, change("p1", *PRODUCT_FIELDS)).product == Product(product_id="p1")


def test_a_change_of_attributes_replaces_the_whole_map() -> None:
    product = listed(
        full(attributes={"a": AttributeValues(values=["1"]), "b": AttributeValues(values=["2"])}),
        change(attributes={"b": AttributeValues(values=["3"])}),
    )
    assert product.attributes == {"b": ("3",)}


def test_changes_of_a_product_that_nobody_listed_are_kept_but_show_nothing() -> None:
    entry = folded(change(price=899), change(title="Shoe"))
    assert catalog_product(entry) is None
    assert (entry.product.title, entry.product.price.minor_units) == ("Shoe", 899)
    assert not entry.is_listed


def test_a_full_record_after_changes_lists_the_product_and_replaces_them() -> None:
    assert listed(change(title="Shoe", price=899), full(price=999)) == CatalogProduct(
        "p1", price=999, currency="EUR", listed_at_ms=NOON_MS + 1_000, prices=((NOON_MS, 899), (NOON_MS + 1_000, 999))
    )


def test_an_empty_full_record_lists_a_product_of_which_nothing_was_known() -> None:
    entry = new_entry("p1")
    assert fold_product(entry, full(), NOON_MS)
    assert entry.is_listed


def test_a_list_price_of_another_currency_than_the_price_is_forgotten() -> None:
    whole = full(price=999, list_price=Money(minor_units=1_999, currency_code="EUR"))
    assert listed(whole, change(price=Money(minor_units=899, currency_code="USD"))).list_price is None
    assert listed(whole, change(list_price=Money(minor_units=899, currency_code="USD"))).list_price is None
    assert listed(whole, change(price=899)).list_price == 1_999


# ---------------------------------------------------------------------- prices


def test_each_change_of_the_price_is_remembered_with_its_time() -> None:
    assert prices(full(price=10), change(price=8), full(price=9)) == [(0, 10), (1, 8), (2, 9)]


def test_a_price_that_stays_is_no_change() -> None:
    assert prices(full(price=10), full(price=10, title="Shoe"), change(price=10), change(title="Hat")) == [(0, 10)]


def test_the_last_sixteen_prices_are_remembered() -> None:
    assert prices(full(price=0), *(change(price=n) for n in range(1, 40))) == [(n, n) for n in range(40 - MAX_PRICES, 40)]
    assert MAX_PRICES == 16


def test_prices_of_another_currency_are_forgotten() -> None:
    dollars = Money(minor_units=10, currency_code="USD")
    assert prices(full(price=10), change(price=9), change(price=dollars), change(price=Money(minor_units=11, currency_code="USD"))) == [
        (2, 10), (3, 11),
    ]  # fmt: skip


def test_prices_are_forgotten_with_the_price_since_nobody_knows_the_currency_it_comes_back_in() -> None:
    assert prices(full(price=10), change("p1", "price"), change(price=Money(minor_units=9, currency_code="USD"))) == [(2, 9)]


def test_a_change_is_dated_by_the_shop_or_else_by_its_receipt_and_never_before_the_one_it_follows() -> None:
    at = NOON_MS + 100_000
    assert prices(full(price=10), change(price=9, changed_at_ms=at), change(price=8)) == [(0, 10), (100, 9), (100, 8)]


def test_what_it_cost_at_a_time_is_told_by_the_prices() -> None:
    product = listed(full(price=10), change(price=8))
    assert [product.price_at(NOON_MS + at) for at in (-1, 0, 999, 1_000, 99_999)] == [None, 10, 10, 8, 8]


# ---------------------------------------------------------------------- stock


def test_going_out_of_stock_and_coming_back_are_dated() -> None:
    gone = listed(full(), change(in_stock=False), change(title="Shoe"), full(in_stock=False))
    assert (gone.in_stock, gone.out_of_stock_since_ms, gone.back_in_stock_at_ms) == (False, NOON_MS + 1_000, 0)
    back = listed(full(), change(in_stock=False), change(in_stock=True), change(in_stock=True), full())
    assert (back.in_stock, back.out_of_stock_since_ms, back.back_in_stock_at_ms) == (True, NOON_MS + 1_000, NOON_MS + 2_000)


def test_a_product_that_is_listed_out_of_stock_is_so_since_then() -> None:
    assert listed(full(in_stock=False)).out_of_stock_since_ms == NOON_MS


def test_a_full_record_that_does_not_mention_the_stock_brings_the_product_back() -> None:
    assert listed(full(in_stock=False), full()).back_in_stock_at_ms == NOON_MS + 1_000


def test_a_product_never_comes_back_before_it_went() -> None:
    product = listed(full(in_stock=False, changed_at_ms=NOON_MS + 50), change(in_stock=True, changed_at_ms=NOON_MS))
    assert product.out_of_stock_since_ms == product.back_in_stock_at_ms == NOON_MS + 50


# ---------------------------------------------------------------------- what always holds


@PATIENT
@given(history=histories, record=records())
def test_the_same_record_twice_changes_nothing_the_second_time(history: list[Product], record: Product) -> None:
    entry = folded(*history)
    fold_product(entry, record, NOON_MS)
    once = encode_entry(entry)
    assert not fold_product(entry, record, NOON_MS + 60_000)
    assert encode_entry(entry) == once


@PATIENT
@given(history=histories, record=records())
def test_the_fold_says_whether_it_changed_anything(history: list[Product], record: Product) -> None:
    entry = folded(*history)
    before = encode_entry(entry)
    assert fold_product(entry, record, NOON_MS + 99_000) == (encode_entry(entry) != before)


@PATIENT
@given(history=histories, record=records(), named=st.sampled_from([["price"], ["in_stock"], ["in_stock", "price"]]))
def test_a_change_of_price_and_stock_alone_does_what_it_does_beside_another_field(
    history: list[Product], record: Product, named: list[str]
) -> None:
    alone, beside = folded(*history), folded(*history)
    change_of = Product(product_id="p1", changed_at_ms=record.changed_at_ms, changed_fields=named)
    for name in named:
        if record.HasField(name):  # type: ignore[arg-type]  # both fields know whether they are there
            if name == "price":
                change_of.price.CopyFrom(record.price)
            else:
                change_of.in_stock = record.in_stock
    changed = fold_product(alone, change_of, NOON_MS)

    change_of.changed_fields.append("brand")
    change_of.brand = beside.product.brand
    assert fold_product(beside, change_of, NOON_MS) == changed
    assert alone == beside
    assert encode_entry(alone) == encode_entry(beside)


@PATIENT
@given(history=histories, cut=st.integers(0, 25))
def test_encoding_in_the_middle_of_a_fold_changes_nothing(history: list[Product], cut: int) -> None:
    straight = folded(*history)
    entry = new_entry("p1")
    for number, record in enumerate(history):
        if number == cut:
            entry = CatalogEntry.FromString(encode_entry(entry))
        fold_product(entry, record, NOON_MS + number * 1_000)
    assert encode_entry(entry) == encode_entry(straight)


@PATIENT
@given(history=st.lists(records(), min_size=20, max_size=40))
def test_bounds_hold(history: list[Product]) -> None:
    entry = new_entry("p1")
    for number, record in enumerate(history):
        fold_product(entry, record, NOON_MS + number)
        assert len(entry.price_minor_units) == len(entry.price_changed_at_ms) <= MAX_PRICES
        assert list(entry.price_changed_at_ms) == sorted(entry.price_changed_at_ms)
        assert not entry.product.changed_fields
        assert entry.product.changed_at_ms == 0
        assert validate_product(entry.product) is None
        assert all(earlier != later for earlier, later in zip(entry.price_minor_units, entry.price_minor_units[1:], strict=False))
        if entry.product.HasField("price"):
            assert entry.price_minor_units[-1] == entry.product.price.minor_units


@PATIENT
@given(history=histories)
def test_compaction_of_the_topic_takes_nothing_from_a_listed_products_fields(history: list[Product]) -> None:
    """The last record of each key, in order: what the topic holds once it is compacted. What is said of the past may be lost.

    A list price may come back: one that was forgotten for a currency of which nothing tells any more.
    """
    last = {product_key(record): number for number, record in enumerate(history)}
    compacted = [record for number, record in enumerate(history) if last[product_key(record)] == number]
    whole, short = folded(*history), folded(*compacted)
    assert whole.is_listed == short.is_listed
    if whole.is_listed:
        whole.product.ClearField("list_price")
        short.product.ClearField("list_price")
        assert whole.product == short.product


def test_what_a_newer_version_adds_to_changes_does_not_pile_up() -> None:
    entry = new_entry("p1")
    unknown = Product.FromString(change(title="Shoe").SerializeToString() + b"\xfa\x07\x03new")  # field 127
    for number in range(100):
        unknown.title = f"Shoe {number}"
        fold_product(entry, unknown, NOON_MS)
    assert len(encode_entry(entry)) < 40


@PATIENT
@given(history=histories)
def test_whoever_reads_the_product_gets_what_the_entry_says(history: list[Product]) -> None:
    entry = folded(*history)
    product = catalog_product(entry)
    assert (product is not None) == entry.is_listed
    if product is not None:
        assert product.price == (product.prices[-1][1] if product.prices else None)
        assert len(product.categories) == len(set(product.categories))
