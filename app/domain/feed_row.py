"""A row of a product feed, as a table or Google Merchant has it: columns of text become the JSON form of a product.

A column that is no field of a product is kept as an attribute, since a table has no other place for it. An empty cell says nothing: a
product loaded whole has no such field, and a change leaves the field as it stands. ``|`` parts the values of a category or an attribute.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from app.domain.json_product import FIELD_OF, NAMES, product_change_from_json, product_from_json
from app.domain.json_values import Broken
from app.domain.product_validation import MAX_ATTRIBUTE_TEXT_BYTES
from app.domain.strict_json import NotJson, parse_json
from app.domain.validation import Violation
from tidings.products.v1.product_pb2 import Product

#: One cell, or the texts of an element that stands more than once.
Cell = str | list[str]

#: Columns of well-known feeds that say nothing of use here: texts without bound, what is only for ads, and what a feed says of itself.
LEFT_OUT = frozenset(
    {
        "description", "short_description", "long_description", "additional_image_link", "mobile_link", "lifestyle_image_link",
        "shipping", "tax", "shipping_label", "shipping_weight", "shipping_length", "shipping_width", "shipping_height",
        "min_handling_time", "max_handling_time", "ships_from_country", "transit_time_label", "tax_category",
        "product_highlight", "product_detail", "ads_redirect", "promotion_id", "installment", "subscription_cost", "loyalty_program",
        "certification", "structured_title", "structured_description", "virtual_model_link", "canonical_link", "link_template",
        "mobile_link_template", "checkout_link_template", "included_destination", "excluded_destination", "pause",
        "guid", "pubdate", "comments", "author", "source", "enclosure", "summary", "content", "rights", "contributor",
    }
)  # fmt: skip
#: Google's own category: taken where the shop names none, if it is a name and not a number.
_GOOGLE_CATEGORY = "google_product_category"
_ATTRIBUTE_PREFIX = re.compile(r"attributes?[.:]")
_WORD_BREAKS = re.compile(r"[\s-]+")
_SEPARATOR = "|"
#: Fields that a cell may say in more than one way; of the others it is the text.
_OF_SEVERAL_FORMS = frozenset({"categories", "attributes", "changed_at_ms", "expires_at_ms", "published_at_ms"})
_ALL_AT_ONCE = "is no field of a product, and a change sets all attributes at once: leave it away, or name the column attributes"
#: Names of columns remembered for the report; an XML feed may have any.
_MAX_NAMES = 200


def column_name(heading: str) -> str:
    """``Image Link``, ``image-link`` and ``g:image_link`` are ``image_link``; sub-attributes in brackets are cut off."""
    return _WORD_BREAKS.sub("_", heading.strip().partition("(")[0].strip().lower().removeprefix("g:"))


class FeedRows:
    """Reads the rows of one feed. ``kept`` and ``left_out`` count, by column, what became an attribute and what has no place."""

    def __init__(self, *, is_change: bool = False) -> None:
        self._is_change = is_change
        self.kept: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def problems_of(self, columns: Iterable[str]) -> list[str]:
        """What is wrong with a table's columns, told once instead of for each row."""
        names = list(columns)
        fields: dict[str, str] = {}
        problems: list[str] = []
        for name in names:
            field = FIELD_OF.get(name)
            if field is None:
                if self._is_change and self._is_attribute(name):
                    problems.append(f"the column {name!r} {_ALL_AT_ONCE}")
                continue
            if field in fields and name != fields[field]:
                problems.append(f"the columns {fields[field]!r} and {name!r} say the same: leave one of them away")
            fields[field] = name
        problems += [f"the column {name!r} stands twice" for name, count in Counter(names).items() if name and count > 1]
        if "product_id" not in fields:
            problems.append(f"there is no column {' or '.join(map(repr, NAMES['product_id']))}")
        return problems

    def product(self, row: Mapping[str, Cell], now_ms: int) -> Product | Violation:
        """The product of a row whose keys are column names; ``field`` of a violation is the column."""
        try:
            obj = self._json_form(row)
        except Broken as broken:
            return broken.violation()
        return product_change_from_json(obj, now_ms) if self._is_change else product_from_json(obj, now_ms)

    def _json_form(self, row: Mapping[str, Cell]) -> dict[str, Any]:
        obj: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        for name, cell in row.items():
            field = FIELD_OF.get(name)
            if field is not None:
                if value := cell.strip() if type(cell) is str and field not in _OF_SEVERAL_FORMS else _value(name, field, cell):
                    obj[name] = value
                elif name == "sale_price":
                    obj[name] = None  # that there is no sale is said by an empty cell
            elif not cell or not name or name == _GOOGLE_CATEGORY:
                pass  # the category is taken below, when the shop's own is known
            elif name in LEFT_OUT:
                self._count(self.left_out, name)
            elif texts := _all_parts(cell):
                self._take_attribute(attributes, name, texts)
        self._take_google_category(obj, row, attributes)
        if attributes:
            obj["attributes"] = {**attributes, **_object(obj.get("attributes"))}
        if obj.get("price") is None and obj.get("sale_price") is None:
            obj.pop("sale_price", None)
        return obj

    def _take_attribute(self, attributes: dict[str, Any], name: str, texts: list[str]) -> None:
        for text in texts:
            # A character takes 1 to 4 bytes, so most texts are decided without encoding them.
            if len(text) * 4 > MAX_ATTRIBUTE_TEXT_BYTES and len(text.encode(errors="replace")) > MAX_ATTRIBUTE_TEXT_BYTES:
                return self._count(self.left_out, name)
        if self._is_change:
            raise Broken(name, _ALL_AT_ONCE)
        self._count(self.kept, name)
        named = name if name[0] != "a" else _ATTRIBUTE_PREFIX.sub("", name, count=1)
        attributes[named] = texts if len(texts) > 1 else texts[0]

    def _is_attribute(self, name: str) -> bool:
        return bool(name) and name not in LEFT_OUT and name != _GOOGLE_CATEGORY

    def _take_google_category(self, obj: dict[str, Any], row: Mapping[str, Cell], attributes: dict[str, Any]) -> None:
        cell = row.get(_GOOGLE_CATEGORY)
        if not cell:
            return
        text = _single(_GOOGLE_CATEGORY, cell)
        if not text.isdigit() and not any(name in obj for name in NAMES["categories"]):
            obj["categories"] = [text]
        elif not self._is_change:
            attributes[_GOOGLE_CATEGORY] = [text]

    def _count(self, counter: Counter[str], name: str) -> None:
        if name in counter or len(counter) < _MAX_NAMES:
            counter[name] += 1


def _value(name: str, field: str, cell: Cell) -> Any:
    match field:
        case "categories":
            return _all_parts(cell)
        case "attributes":
            text = _single(name, cell)
            parsed = parse_json(text) if text else None
            if isinstance(parsed, NotJson):
                raise Broken(name, f'must be a JSON object like {{"colour": ["red", "blue"]}}: {parsed.detail}')
            return parsed
        case "changed_at_ms" | "expires_at_ms" | "published_at_ms" if isinstance(cell, str) and len(cell) > 8 and cell.strip().isdigit():
            return int(cell) if len(cell) < 20 else cell  # milliseconds; eight digits are a date
        case _:
            return _single(name, cell)


def _single(name: str, cell: Cell) -> str:
    if isinstance(cell, str):
        return cell.strip()
    texts = [text for text in dict.fromkeys(text.strip() for text in cell) if text]
    if len(texts) > 1:
        raise Broken(name, "stands more than once, with different values")
    return texts[0] if texts else ""


def _all_parts(cell: Cell) -> list[str]:
    if isinstance(cell, str):
        if _SEPARATOR not in cell:
            return [text] if (text := cell.strip()) else []
        cell = [cell]
    return [text for part in cell for piece in part.split(_SEPARATOR) if (text := piece.strip())]


def _object(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Broken("attributes", 'must be a JSON object like {"colour": ["red", "blue"]}')
    return value
