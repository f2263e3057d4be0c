"""The JSON form of a product: each name and form that is taken, what it becomes, and that anything else is refused by name."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.catalog import NEVER_MS
from app.domain.json_product import FIELD_OF, NAMES, product_change_from_json, product_from_json
from app.domain.json_values import MINOR_DIGITS
from app.domain.product_validation import PRODUCT_FIELDS, product_key, validate_product
from app.domain.strict_json import parse_json
from app.domain.validation import Violation
from tidings.products.v1.product_pb2 import Product

NOW_MS = 1_714_300_000_000  # 2024-04-28T10:26:40Z


def accepted(obj: object) -> Product:
    product = product_from_json(obj, NOW_MS)
    assert isinstance(product, Product), product
    assert validate_product(product, NOW_MS) is None
    assert not product.changed_fields
    return product


def changed(obj: object) -> Product:
    product = product_change_from_json(obj, NOW_MS)
    assert isinstance(product, Product), product
    assert validate_product(product, NOW_MS) is None
    return product


def refused(obj: object, read: Any = product_from_json) -> Violation:
    violation = read(obj, NOW_MS)
    assert isinstance(violation, Violation), violation
    assert violation.field in violation.detail
    return violation


def of(**fields: object) -> dict[str, object]:
    return {"id": "p", **fields}


def price_of(price: object, **fields: object) -> tuple[int, str]:
    money = accepted(of(price=price, **fields)).price
    return money.minor_units, money.currency_code


def test_a_whole_product_comes_out_as_it_went_in():
    product = accepted(
        parse_json(
            '{"id": "987", "title": " Trail\\n shoe ", "url": "https://shop.example/987", "image": "https://shop.example/987.jpg", '
            '"price": 299.99, "list_price": "349.00", "currency": "EUR", "in_stock": false, "category": ["Shoes>Running", "Sale"], '
            '"brand": "Acme", "attributes": {"colour": ["red", "blue"], "vegan": true, "size": 38, "none": null}, '
            '"published": "2024-04-27T14:35:22Z", "expires_at": "2025-01-01", "updated_at": 1714228522000}'
        )
    )
    assert (product.product_id, product.title) == ("987", "Trail shoe")
    assert (product.url, product.image_url) == ("https://shop.example/987", "https://shop.example/987.jpg")
    assert (product.price.minor_units, product.list_price.minor_units) == (29_999, 34_900)
    assert product.price.currency_code == product.list_price.currency_code == "EUR"
    assert product.HasField("in_stock")
    assert not product.in_stock
    assert list(product.categories) == ["Shoes > Running", "Sale"]
    assert product.brand == "Acme"
    attributes = {name: list(a.values) for name, a in product.attributes.items()}
    assert attributes == {"colour": ["red", "blue"], "vegan": ["true"], "size": ["38"]}
    assert (product.published_at_ms, product.expires_at_ms) == (1_714_228_522_000, 1_735_689_600_000)
    assert product.changed_at_ms == 1_714_228_522_000


_EXAMPLES: dict[str, object] = {
    "product_id": "q",
    "title": "Shoe",
    "url": "https://shop.example/q",
    "image_url": "https://shop.example/q.jpg",
    "price": 5,
    "list_price": 6,
    "in_stock": False,
    "categories": "Shoes",
    "brand": "Acme",
    "attributes": {"a": "b"},
    "published_at_ms": "2024-01-01",
    "expires_at_ms": "2024-01-01",
    "changed_at_ms": "2024-01-01",
}


@pytest.mark.parametrize("name", [name for name, field in FIELD_OF.items() if field in _EXAMPLES])
def test_each_name_leads_to_its_field_and_two_names_of_one_are_refused(name: str):
    field = FIELD_OF[name]
    given = {"id": "p", name: _EXAMPLES[field]} if field != "product_id" else {name: "q"}
    product = accepted(given)
    assert field in {descriptor.name for descriptor, _ in product.ListFields()}
    for other in NAMES[field]:
        if other != name:
            assert refused({**given, other: _EXAMPLES[field]}).field in (name, other)


def test_every_field_of_a_product_has_a_name():
    assert PRODUCT_FIELDS | {"product_id", "changed_at_ms"} == set(_EXAMPLES)
    assert set(_EXAMPLES) <= set(NAMES)


@pytest.mark.parametrize(
    ("price", "currency", "expected"),
    [
        (299.99, None, (29_999, "")),
        (299, "EUR", (29_900, "EUR")),
        ("299.99", "EUR", (29_999, "EUR")),
        ("299.99 EUR", None, (29_999, "EUR")),
        ("299.99EUR", None, (29_999, "EUR")),
        ("EUR 299.99", None, (29_999, "EUR")),
        (" 299,9 eur ", None, (29_990, "EUR")),
        ("EUR 5 EUR", None, (500, "EUR")),
        ("299.99 EUR", "EUR", (29_999, "EUR")),
        ("299.99", "eur", (29_999, "EUR")),
        (Decimal("0.29"), None, (29, "")),
        (0.1 + 0.2, None, (30, "")),
        (89.97000000000001, None, (8_997, "")),
        ("1500 JPY", None, (1_500, "JPY")),
        (1500, "JPY", (1_500, "JPY")),
        ("1.5 JPY", None, (2, "JPY")),
        ("2.5 JPY", None, (2, "JPY")),
        ("1.234 KWD", None, (1_234, "KWD")),
        ({"minor_units": 29_999, "currency_code": "EUR"}, None, (29_999, "EUR")),
        ({"amount_minor": 1_500, "currency": "JPY"}, None, (1_500, "JPY")),
        ({"amount": "299.99", "currency": "EUR"}, None, (29_999, "EUR")),
        ({"amount": 1500}, "JPY", (1_500, "JPY")),
        ({"minor_units": 5, "currency_code": None}, None, (5, "")),
        (0, None, (0, "")),
    ],
)
def test_a_price_is_exact_in_each_form(price: object, currency: str | None, expected: tuple[int, str]):
    assert price_of(price, **({"currency": currency} if currency else {})) == expected


@pytest.mark.parametrize(
    "price",
    [
        "12 apples", "1,299.00", "1.299,00", "1,299", "-5", "5 EURO", "EUR", "", "€5", "5 EUR USD", "EUR 5 USD", "1e3", "NaN", "9" * 40,
        True, [], -1, 10**12, 1e400, float("nan"), Decimal("Infinity"), {"amount": 5, "minor_units": 5}, {"currency": "EUR"}, {},
        {"minor_units": 5.0}, {"minor_units": -1}, {"minor_units": True}, {"minor_units": 5, "currency_code": "EURO"},
        {"amount": 5, "tax": 1}, {"minor_units": 5, "currency": "EUR", "currency_code": "EUR"}, {"minor_units": 10**13},
    ],
)  # fmt: skip
def test_what_is_no_price_is_refused_by_the_field(price: object):
    assert refused(of(price=price)).field.startswith("price")


def test_a_product_has_one_currency():
    assert refused(of(price="5 EUR", list_price="6 USD")).field == "price"
    assert refused(of(price="5 EUR", currency="USD")).field == "currency"
    assert refused(of(currency="EUR")).field == "currency"
    assert refused(of(price=5, currency="Euro")).field == "currency"
    product = accepted(of(price="5 JPY", list_price=600))
    assert (product.list_price.minor_units, product.list_price.currency_code) == (600, "JPY")


def test_a_sale_price_is_the_price_and_the_price_the_list_price():
    product = accepted(of(price="100 EUR", sale_price="80 EUR"))
    assert (product.price.minor_units, product.list_price.minor_units) == (8_000, 10_000)
    for no_sale in (None, 100, 120):
        product = accepted(of(price="100 EUR", sale_price=no_sale))
        assert product.price.minor_units == 10_000
        assert not product.HasField("list_price")
    assert refused(of(sale_price=80)).field == "sale_price"
    assert refused(of(price=100, list_price=120, sale_price=80)).field == "list_price"


@pytest.mark.parametrize(
    ("dates", "price"),
    [
        ("2024-04-01T00:00+0100/2024-05-01T00:00+0100", 8_000),
        ("2024-04-28T10:26:40Z/2024-04-28T10:26:41Z", 8_000),
        ("2024-04-01/2024-04-28T10:26:40Z", 10_000),
        ("2024-04-29/2024-05-01", 10_000),
    ],
)
def test_a_sale_price_holds_between_its_dates(dates: str, price: int):
    assert accepted(of(price=100, sale_price=80, sale_price_effective_date=dates)).price.minor_units == price


@pytest.mark.parametrize("dates", ["2024-04-01", "a/b", "2024/04/01", 5, "/"])
def test_dates_of_a_sale_that_are_none_are_refused(dates: object):
    assert refused(of(price=100, sale_price=80, sale_price_effective_date=dates)).field == "sale_price_effective_date"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), (False, False), ("in stock", True), ("in_stock", True), ("In-Stock", True), ("out of stock", False),
        ("OUT_OF_STOCK", False), ("preorder", True), ("pre-order", True), ("backorder", True), ("sold out", False), ("discontinued", False),
        ("https://schema.org/InStock", True), ("http://schema.org/OutOfStock", False), ("yes", True), ("no", False), ("1", True),
        ("0", False),
    ],
)  # fmt: skip
def test_stock_is_taken_in_the_words_of_merchants(value: object, expected: bool):
    product = accepted(of(availability=value))
    assert product.HasField("in_stock")
    assert product.in_stock is expected


@pytest.mark.parametrize("value", [1, 0, "maybe", "", [], {}, 3.5, "x" * 1_000])
def test_any_other_word_for_stock_is_refused(value: object):
    assert refused(of(in_stock=value)).field == "in_stock"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 0), (False, NEVER_MS), ("true", 0), ("no", NEVER_MS), ("2024-04-27T14:35:22Z", 1_714_228_522_000),
        ("2024-04-27T16:35:22+02:00", 1_714_228_522_000), ("2024-04-27T14:35:22", 1_714_228_522_000), ("2024-04-27", 1_714_176_000_000),
        (1_714_228_522_000, 1_714_228_522_000), ("9999-12-31T23:59:59.999Z", NEVER_MS), ("9999-12-31T23:59:59-01:00", NEVER_MS),
    ],
)  # fmt: skip
def test_publication_is_yes_no_or_a_time(value: object, expected: int):
    assert accepted(of(published=value)).published_at_ms == expected


@pytest.mark.parametrize("value", [1, 0, "soon", "", 1_714_228_522, 1.5, [], "1969-12-31", 10**18, "9" * 100])
def test_what_is_no_time_is_refused(value: object):
    assert refused(of(published=value)).field == "published"
    assert refused(of(expires=value)).field == "expires"
    assert refused(of(changed_at=value)).field == "changed_at"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Shoes", ["Shoes"]),
        ("Shoes>Running >  Trail", ["Shoes > Running > Trail"]),
        (["Shoes", "Shoes", " Sale "], ["Shoes", "Sale"]),
        (["", " > "], []),
        (187, ["187"]),
        ("Hats, Gloves & Scarves | Wool", ["Hats, Gloves & Scarves | Wool"]),
    ],
)
def test_categories_are_levels_with_one_separator(value: object, expected: list[str]):
    assert list(accepted(of(category=value)).categories) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"category": ["a"] * 11}, "category"),
        ({"category": [["a"]]}, "category"),
        ({"category": ["a", "b" * 300]}, "category[1]"),
        ({"category": {"a": 1}}, "category"),
        ({"title": "x" * 513}, "title"),
        ({"title": "x" * 100_000}, "title"),
        ({"title": 5}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"link": "ftp://x.example"}, "link"),
        ({"link": "https://x.example/a b"}, "link"),
        ({"image": "x.jpg"}, "image"),
        ({"brand": "x" * 129}, "brand"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {f"a{n}": 1 for n in range(33)}}, "attributes"),
        ({"attributes": {"a": ["b"] * 17}}, "attributes.a"),
        ({"attributes": {"a": {"b": 1}}}, "attributes.a"),
        ({"attributes": {"a": [["b"]]}}, "attributes.a"),
        ({"attributes": {"a": float("inf")}}, "attributes.a"),
        ({"attributes": {"x" * 65: "a"}}, "attributes"),
        ({"attributes": {"": "a"}}, "attributes"),
        ({"attributes": {"a": "\ud800"}}, "attributes.a"),
        ({"attributes": {"\ud800": "a"}}, "attributes['\\ud800']"),
        ({"attributes": {"a": "b" * 257}}, "attributes['a']"),
        ({"titel": "x"}, "titel"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_the_name_it_was_given(fields: dict[str, object], field: str):
    assert refused(of(**fields)).field == field


def test_an_unknown_field_is_told_what_it_may_have_been_meant_to_be():
    assert "did you mean title?" in refused(of(titel="x")).detail
    assert "attributes" in refused(of(zzzzzz="x")).detail


@pytest.mark.parametrize("obj", [None, [], "p", 5, True, {}, {"id": None}, {"title": "x"}])
def test_what_is_no_product_is_refused(obj: object):
    refused(obj)
    refused(obj, product_change_from_json)


@pytest.mark.parametrize("value", ["", "__x", "x" * 129, True, 1.5, [], "a\tb", 10**40])
def test_an_id_that_is_none_is_refused(value: object):
    assert refused({"id": value}).field == "id"


def test_an_id_may_be_a_whole_number():
    assert accepted({"id": 987}).product_id == "987"


def test_a_change_names_what_is_given_and_null_clears():
    change = changed(of(price="5 EUR", availability="in stock", brand=None, updated_at=NOW_MS))
    assert list(change.changed_fields) == ["brand", "in_stock", "price"]
    assert change.brand == ""
    assert product_key(change) == b"p\x1fbrand,in_stock,price"
    assert change.changed_at_ms == NOW_MS


def test_a_change_without_a_field_is_refused():
    for obj in ({"id": "p"}, {"id": "p", "updated_at": NOW_MS}):
        assert "names no field" in refused(obj, product_change_from_json).detail


def test_a_change_with_a_sale_price_decides_both_prices_and_so_does_its_end():
    begun, ended = changed(of(price=100, sale_price=80)), changed(of(price=100, sale_price=None))
    assert list(begun.changed_fields) == list(ended.changed_fields) == ["list_price", "price"]
    assert (begun.price.minor_units, begun.list_price.minor_units) == (8_000, 10_000)
    assert ended.price.minor_units == 10_000
    assert not ended.HasField("list_price")


def test_every_field_can_be_cleared_by_its_name():
    for field in PRODUCT_FIELDS:
        change = changed({"id": "p", NAMES[field][0]: None})
        assert list(change.changed_fields) == [field]
        assert [f.name for f, _ in change.ListFields()] == ["product_id", "changed_fields"]


# ---------------------------------------------------------------------- properties

_codes = st.sampled_from(["", "EUR", "USD", *sorted(MINOR_DIGITS)])


@given(st.integers(0, 10**12 - 1), _codes)
def test_minor_units_survive_every_way_of_writing_them(units: int, code: str):
    digits = MINOR_DIGITS.get(code, 2)
    amount = Decimal(units).scaleb(-digits)
    currency = {"currency": code} if code else {}
    ways: list[tuple[object, dict[str, str]]] = [
        (f"{amount:f}", currency),
        (f"{amount:f} {code}".strip(), {}),
        (f"{code} {amount:f}".strip(), {}),
        (parse_json(f"{amount:f}"), currency),
        (float(amount), currency),  # doubles hold 15 digits
        ({"minor_units": units, "currency_code": code or None}, {}),
        ({"amount": f"{amount:f}", "currency": code}, {}),
    ]
    for price, more in ways:
        assert price_of(price, **more) == (units, code), (price, more)


_words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters=">|"), min_size=1, max_size=12)


@given(
    st.fixed_dictionaries(
        {"id": st.from_regex(r"[a-zA-Z0-9./ -]{0,20}[a-z0-9]", fullmatch=True).map(str.strip)},
        optional={
            "title": _words,
            "brand": _words,
            "url": st.just("https://shop.example/p?x=1"),
            "in_stock": st.booleans(),
            "categories": st.lists(_words, max_size=10, unique=True),
            "attributes": st.dictionaries(_words, st.lists(_words, min_size=1, max_size=4, unique=True), max_size=8),
            "price": st.integers(0, 10**9).map(lambda units: {"minor_units": units, "currency_code": "EUR"}),
            "expires_at": st.integers(946_684_800_000, 4_102_444_800_000),
        },
    )
)
def test_what_goes_in_comes_out(obj: dict[str, Any]):
    product = accepted(json.loads(json.dumps(obj)))
    change = product_change_from_json(obj, NOW_MS)
    for found in (product, change) if len(obj) > 1 else (product,):
        assert isinstance(found, Product)
        assert found.product_id == obj["id"]
        assert (found.title, found.brand, found.url) == (obj.get("title", ""), obj.get("brand", ""), obj.get("url", ""))
        assert list(found.categories) == obj.get("categories", [])
        assert {name: list(a.values) for name, a in found.attributes.items()} == obj.get("attributes", {})
        assert (found.in_stock if found.HasField("in_stock") else None) == obj.get("in_stock")
        assert found.price.minor_units == obj.get("price", {}).get("minor_units", 0)
        assert found.expires_at_ms == obj.get("expires_at", 0)
        assert Product.FromString(found.SerializeToString()) == found


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.long
@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELD_OF)) | st.text(max_size=6), _values, max_size=6), st.booleans())
def test_no_value_whatever_raises_and_what_is_taken_is_valid(obj: dict[str, Any], is_change: bool):
    read = product_change_from_json if is_change else product_from_json
    for given_obj in (obj, {**{k: v for k, v in obj.items() if k not in ("id", "product_id")}, "id": "p"}):
        found = read(given_obj, NOW_MS)
        if isinstance(found, Violation):
            assert found.detail
        else:
            assert validate_product(found, NOW_MS) is None
            assert bool(found.changed_fields) == is_change
