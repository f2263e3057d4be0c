"""The values in the JSON form of a product, as merchants write them: prices, stock, times, categories and attributes, exact or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from app.domain.catalog import LEVEL, NEVER_MS
from app.domain.json_values import MAX_AMOUNT, MINOR_DIGITS, Broken, attribute_text, encodable, kind_of, member_path, read_amount
from app.domain.product_validation import MAX_ATTRIBUTE_VALUES, MAX_CATEGORIES, MAX_PRODUCT_ATTRIBUTES
from app.domain.validation import EARLIEST_MS, MAX_MINOR_UNITS

#: An amount with a point or, where two digits at most follow it, a comma; a currency before or after it.
_PRICE = re.compile(r"(?:([A-Za-z]{3})\s*)?([0-9]{1,13})(?:\.([0-9]{1,15})|,([0-9]{1,2}))?(?:\s*([A-Za-z]{3}))?")
_CURRENCY = re.compile("[A-Za-z]{3}")
_MAX_PRICE_CHARACTERS = 48

_TRUE = frozenset({"true", "yes", "y", "1"})
_FALSE = frozenset({"false", "no", "n", "0"})
#: Google's and schema.org's names. What can be ordered counts as in stock, so the goods that come later do.
_AVAILABLE = _TRUE | {
    "instock", "available", "availablefororder", "limitedavailability", "onlineonly", "preorder", "presale", "backorder", "madetoorder",
}  # fmt: skip
_UNAVAILABLE = _FALSE | {"outofstock", "soldout", "unavailable", "discontinued", "oos"}
_SCHEMA_ORG = re.compile(r"https?://schema\.org/", re.IGNORECASE)
_WORD_BREAKS = re.compile(r"[\s_-]+")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TIME_CHARACTERS = 40
_MAX_EXACT = 2**53
#: Longer than any text of a product may be, so that white space is not looked through without bound.
_MAX_TEXT_CHARACTERS = 65_536


class Price(NamedTuple):
    """A price as it was given; which number of minor units it is depends on a currency that may stand elsewhere ("" here)."""

    amount: Decimal
    in_minor_units: bool
    currency: str

    def minor_units(self, currency: str) -> int:
        """Of its own currency, or else of the one given; rounded half-even where the price is finer than that."""
        if self.in_minor_units:
            return int(self.amount)
        return int(self.amount.scaleb(MINOR_DIGITS.get(self.currency or currency, 2)).to_integral_value(ROUND_HALF_EVEN))


def read_price(value: object, at: str) -> Price:
    """``299.99``, ``"299.99"``, ``"299.99 EUR"``, ``"EUR 299,99"`` in major units, ``{"amount": 299.99, "currency": "EUR"}``, or
    ``{"minor_units": 29999, "currency_code": "EUR"}`` (also amount_minor and currency) as Tidings itself shows a price."""
    match value:
        case str():
            return _price_in_text(value, at)
        case dict():
            return _price_in_object(value, at)
        case list() | None:
            raise Broken(at, f'must be a number like 299.99 or a text like "299.99 EUR", not {kind_of(value)}')
        case _:
            return Price(read_amount(value, at), False, "")


def read_currency(value: object, at: str) -> str:
    if isinstance(value, str) and _CURRENCY.fullmatch(text := value.strip()):
        return text.upper()
    raise Broken(at, "must be an ISO 4217 code of three letters")


def _price_in_text(text: str, at: str) -> Price:
    found = _PRICE.fullmatch(text.strip()) if len(text) <= _MAX_PRICE_CHARACTERS else None
    if found is None:
        raise Broken(at, 'must be an amount like "299.99" or "299.99 EUR": digits, no thousands separator, no sign')
    before, whole, point, comma, after = found.groups()
    if before and after and before.upper() != after.upper():
        raise Broken(at, "names two currencies")
    amount = Decimal(f"{whole}.{point or comma or '0'}")
    if amount >= MAX_AMOUNT:
        raise Broken(at, "must be from 0 up to, but not, 10^12")
    return Price(amount, False, (before or after or "").upper())


def _price_in_object(value: dict[str, Any], at: str) -> Price:
    minor = [name for name in ("minor_units", "amount_minor") if name in value]
    codes = [name for name in ("currency_code", "currency") if name in value]
    if len(minor) + ("amount" in value) != 1 or len(codes) > 1 or len(value) != 1 + len(codes):
        raise Broken(at, 'must be an object like {"minor_units": 29999, "currency_code": "EUR"} or {"amount": 299.99, "currency": "EUR"}')
    code = value[codes[0]] if codes else None
    currency = "" if code is None or code == "" else read_currency(code, f"{at}.{codes[0]}")
    if not minor:
        return Price(read_amount(value["amount"], f"{at}.amount"), False, currency)
    units = value[minor[0]]
    if isinstance(units, bool) or not isinstance(units, int) or not 0 <= units <= MAX_MINOR_UNITS:
        raise Broken(f"{at}.{minor[0]}", f"must be a whole number from 0 to {MAX_MINOR_UNITS:,}")
    return Price(Decimal(units), True, currency)


def read_id(value: object, at: str) -> str:
    """Text, or the whole number that many shops have: 987 is "987"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return attribute_text(value, at)
    if not isinstance(value, str):
        raise Broken(at, f"must be text or a whole number, not {kind_of(value)}")
    return encodable(value.strip(), at)


def read_words(value: object, at: str) -> str:
    """Text on one line, with single spaces: feeds break lines and indent where they like."""
    if not isinstance(value, str):
        raise Broken(at, f"must be text, not {kind_of(value)}")
    return _squeezed(encodable(value, at), at)


def read_in_stock(value: object, at: str) -> bool:
    """true or false, or Google's and schema.org's words. What can be ordered now is in stock: preorder and backorder too."""
    match value:
        case bool():
            return value
        case str() if len(value) <= 64 and (found := _is_available(value)) is not None:
            return found
    raise Broken(at, 'must be true or false, or one of "in_stock", "out_of_stock", "preorder", "backorder"')


@lru_cache(maxsize=1_000)
def _is_available(text: str) -> bool | None:
    word = _WORD_BREAKS.sub("", _SCHEMA_ORG.sub("", text.strip())).lower()
    return True if word in _AVAILABLE else False if word in _UNAVAILABLE else None


def read_published(value: object, at: str) -> int:
    """When it is first shown: 0 for true (since ever), NEVER_MS for false, or a time."""
    if isinstance(value, bool):
        return 0 if value else NEVER_MS
    if isinstance(value, str) and len(value) <= _MAX_TIME_CHARACTERS:
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return 0 if word in _TRUE else NEVER_MS
    return read_moment(value, at, "true, false, or ")


def read_moment(value: object, at: str, otherwise: str = "") -> int:
    """Milliseconds since 1970 from ISO 8601 or from such a number. Without a zone it is UTC; a date is its first moment."""
    match value:
        case int() if not isinstance(value, bool) and EARLIEST_MS <= value <= NEVER_MS:
            return value
        case str() if len(value) <= _MAX_TIME_CHARACTERS:
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                pass
            else:
                since = (moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)) - _EPOCH
                return min(since // timedelta(milliseconds=1), NEVER_MS) or -1  # 0 would read as "not said"
    raise Broken(at, f"must be {otherwise}a time in ISO 8601 like 2024-04-27T14:35:22Z, or whole milliseconds since 1970 UTC")


def sale_is_on(value: object, at: str, now_ms: int) -> bool:
    """Google's ``start/end``: whether it is between the two now."""
    if not isinstance(value, str) or value.count("/") != 1:
        raise Broken(at, "must be two times with a slash between: 2024-04-27T00:00Z/2024-05-01T00:00Z")
    start, end = (read_moment(part, at) for part in value.split("/"))
    return start <= now_ms < end


def read_categories(value: object, at: str) -> list[str]:
    """One or more; the levels of each are parted by ``>``. Doubles are dropped."""
    entries = value if isinstance(value, list) else [value]
    if len(entries) == 1:
        category = _category(entries[0], at)
        return [category] if category else []
    if len(entries) > MAX_CATEGORIES:
        raise Broken(at, f"must have at most {MAX_CATEGORIES} entries")
    named = [_category(entry, f"{at}[{number}]") for number, entry in enumerate(entries)]
    return list(dict.fromkeys(filter(None, named)))


def _category(value: object, at: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Broken(at, f'must be text like "Shoes > Running", not {kind_of(value)}')
    levels = (level.strip() for level in _squeezed(attribute_text(value, at), at).split(">"))
    return LEVEL.join(level for level in levels if level)


def read_attributes(value: object, at: str) -> Iterator[tuple[str, list[str]]]:
    """Names and their values: text, numbers and truth values, or lists of them. One that is empty or null is not said."""
    if not isinstance(value, dict):
        raise Broken(at, f"must be an object of names and values, not {kind_of(value)}")
    if len(value) > MAX_PRODUCT_ATTRIBUTES:
        raise Broken(at, f"must have at most {MAX_PRODUCT_ATTRIBUTES} entries")
    for name, given in value.items():
        if type(given) is str and given.isascii() and name.isascii():  # as nearly always: nothing of it can be wrong but its length
            if text := _squeezed(given, at):
                yield name, [text]
        elif found := _values(given, member_path(at, name)):
            yield encodable(name, member_path(at, name)), found


def _values(given: object, path: str) -> list[str]:
    entries = given if isinstance(given, list) else [given]
    if len(entries) > MAX_ATTRIBUTE_VALUES:
        raise Broken(path, f"must have at most {MAX_ATTRIBUTE_VALUES} values")
    texts = [_squeezed(attribute_text(entry, path), path) for entry in entries if entry is not None]
    return list(dict.fromkeys(filter(None, texts)))


def _squeezed(text: str, at: str) -> str:
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise Broken(at, "is too long")
    return " ".join(text.split())
