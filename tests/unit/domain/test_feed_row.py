"""Rows of product feeds: which columns lead where, what is kept as an attribute, and what an empty cell says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.feed_row import LEFT_OUT, Cell, FeedRows, column_name
from app.domain.json_product import FIELD_OF
from app.domain.product_validation import validate_product
from app.domain.validation import Violation
from tidings.products.v1.product_pb2 import Product

NOW_MS = 1_714_300_000_000

#: The example of Google Merchant's product data specification, and what else feeds have.
GOOGLE: dict[str, Cell] = {
    "id": "TV_123456",
    "title": 'LG 22LB4510 - 22" LED TV',
    "description": "x" * 5_000,
    "link": "https://shop.example/electronics/tv/22LB4510.html",
    "image_link": "https://shop.example/TV_123456.png",
    "additional_image_link": ["https://shop.example/2.png", "https://shop.example/3.png"],
    "condition": "used",
    "availability": "in stock",
    "price": "159.00 USD",
    "sale_price": "119.00 USD",
    "gtin": "71919219405200",
    "brand": "LG",
    "mpn": "22LB4510/US",
    "google_product_category": "Electronics > Video > Televisions",
    "product_type": ["Consumer Electronics > TVs", "Deals"],
    "shipping": "US:::14.95 USD",
    "expiration_date": "2024-12-24T11:07+0100",
    "availability_date": "2024-05-01",
    "custom_label_0": "",
}


def product_of(row: dict[str, Cell], *, is_change: bool = False) -> Product:
    product = FeedRows(is_change=is_change).product(row, NOW_MS)
    assert isinstance(product, Product), product
    assert validate_product(product, NOW_MS) is None
    return product


def refused(row: dict[str, Cell], *, is_change: bool = False) -> Violation:
    violation = FeedRows(is_change=is_change).product(row, NOW_MS)
    assert isinstance(violation, Violation)
    return violation


def attributes_of(product: Product) -> dict[str, list[str]]:
    return {name: list(held.values) for name, held in product.attributes.items()}


def test_a_row_of_google_merchant_becomes_a_product():
    rows = FeedRows()
    product = rows.product(GOOGLE, NOW_MS)
    assert isinstance(product, Product)
    assert (product.product_id, product.title, product.brand) == ("TV_123456", 'LG 22LB4510 - 22" LED TV', "LG")
    assert (product.url, product.image_url) == (GOOGLE["link"], GOOGLE["image_link"])
    assert (product.price.minor_units, product.list_price.minor_units, product.price.currency_code) == (11_900, 15_900, "USD")
    assert product.in_stock
    assert list(product.categories) == ["Consumer Electronics > TVs", "Deals"]
    assert product.expires_at_ms == 1_735_034_820_000
    assert attributes_of(product) == {
        "condition": ["used"],
        "gtin": ["71919219405200"],
        "mpn": ["22LB4510/US"],
        "google_product_category": ["Electronics > Video > Televisions"],
        "availability_date": ["2024-05-01"],
    }
    assert set(rows.kept) == {"condition", "gtin", "mpn", "availability_date"}
    assert set(rows.left_out) == {"description", "additional_image_link", "shipping"}


def test_googles_own_category_is_taken_where_the_shop_names_none_and_it_is_no_number():
    assert list(product_of({"id": "p", "google_product_category": "Apparel > Shoes"}).categories) == ["Apparel > Shoes"]
    numbered = product_of({"id": "p", "google_product_category": "187"})
    assert not numbered.categories
    assert attributes_of(numbered) == {"google_product_category": ["187"]}


@pytest.mark.parametrize("heading", ["Image Link", "image_link", "image-link", "g:image_link", " IMAGE LINK ", "G:Image_Link"])
def test_headings_are_taken_as_people_write_them(heading: str):
    assert column_name(heading) == "image_link"


def test_a_sub_attribute_in_brackets_is_cut_off():
    assert column_name("shipping(country:price)") == "shipping"


def test_an_empty_cell_says_nothing_in_a_whole_product_and_in_a_change():
    row: dict[str, Cell] = {"id": "p", "title": " ", "price": "", "category": "", "brand": "", "colour": "", "in_stock": "", "expires": ""}
    whole = product_of(row)
    assert [field.name for field, _ in whole.ListFields()] == ["product_id"]
    change = product_of({**row, "price": "5"}, is_change=True)
    assert list(change.changed_fields) == ["price"]
    assert "names no field" in refused(row, is_change=True).detail


def test_an_empty_sale_price_ends_a_sale_in_a_change():
    change = product_of({"id": "p", "price": "5", "sale_price": ""}, is_change=True)
    assert list(change.changed_fields) == ["list_price", "price"]
    assert not change.HasField("list_price")
    assert refused({"id": "p", "sale_price": ""}, is_change=True).detail.startswith("the change names no field")


def test_several_categories_and_values_are_parted_by_a_bar():
    product = product_of({"id": "p", "category": "Shoes > Running | Sale", "size": "S|M||L", "title": "A | B"})
    assert list(product.categories) == ["Shoes > Running", "Sale"]
    assert attributes_of(product) == {"size": ["S", "M", "L"]}
    assert product.title == "A | B"


def test_attributes_come_as_columns_of_any_name_or_as_json():
    product = product_of({"id": "p", "attributes": '{"colour": ["red"], "vegan": true}', "attributes.size": "38", "Material": "wool"})
    assert attributes_of(product) == {"colour": ["red"], "vegan": ["true"], "size": ["38"], "Material": ["wool"]}
    for wrong in ("red", "[1]", "{'a': 1}"):
        assert refused({"id": "p", "attributes": wrong}).field == "attributes"


def test_a_change_does_not_set_one_attribute_since_that_would_take_the_others_away():
    assert refused({"id": "p", "price": "5", "colour": "red"}, is_change=True).field == "colour"
    change = product_of({"id": "p", "attributes": '{"colour": "red"}'}, is_change=True)
    assert list(change.changed_fields) == ["attributes"]


def test_a_text_too_long_for_an_attribute_is_left_out_and_counted():
    rows = FeedRows()
    product = rows.product({"id": "p", "story": "x" * 257, "note": "é" * 200}, NOW_MS)
    assert isinstance(product, Product)
    assert not product.attributes
    assert dict(rows.left_out) == {"story": 1, "note": 1}


def test_a_column_is_refused_by_its_name():
    assert refused({"id": "p", "price": "cheap"}).field == "price"
    assert refused({"id": "p", "link": "x"}).field == "link"
    assert refused({"id": "p", "availability": "perhaps"}).field == "availability"
    assert refused({"id": "p", "title": "caf\udce9"}).field == "title"
    assert refused({"id": ["p", "q"]}).field == "id"
    assert refused({"id": "p", "price": ["1", "2"]}).field == "price"
    assert refused({"title": "x"}).field == "product_id"


def test_milliseconds_and_dates_are_told_apart():
    assert product_of({"id": "p", "expires": "1735034820000"}).expires_at_ms == 1_735_034_820_000
    assert product_of({"id": "p", "expires": "20241224"}).expires_at_ms == 1_734_998_400_000
    assert product_of({"id": "p", "published": "1"}).published_at_ms == 0


@pytest.mark.parametrize(
    ("columns", "is_change", "says"),
    [
        (["id", "title", "colour"], False, []),
        (["id", "price", "in_stock", "description"], True, []),
        (["title"], False, ["no column 'product_id' or 'id'"]),
        (["id", "title", "title"], False, ["'title' stands twice"]),
        (["id", "product_id"], False, ["say the same"]),
        (["id", "link", "url"], False, ["say the same"]),
        (["id", "colour"], True, ["'colour' is no field"]),
        (["", "", "id"], False, []),
    ],
)
def test_what_is_wrong_with_the_columns_is_told_once(columns: list[str], is_change: bool, says: list[str]):
    problems = FeedRows(is_change=is_change).problems_of(columns)
    assert len(problems) == len(says)
    assert all(said in problem for said, problem in zip(says, problems, strict=True))


def test_nothing_that_is_left_out_is_a_field():
    assert not LEFT_OUT & FIELD_OF.keys()


_cells = st.text(max_size=30) | st.lists(st.text(max_size=10), max_size=3) | st.sampled_from(["5 EUR", "in stock", "a > b", "{}", "true"])


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*FIELD_OF, "colour", "description", "google_product_category", ""]), _cells), st.booleans())
def test_no_row_whatever_raises_and_what_is_taken_is_valid(row: dict[str, Cell], is_change: bool):
    for given_row in (row, {**row, "id": "p"}):
        found = FeedRows(is_change=is_change).product(given_row, NOW_MS)
        assert isinstance(found, Violation) or validate_product(found, NOW_MS) is None
