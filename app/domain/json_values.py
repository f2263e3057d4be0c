"""The values in the JSON form of an event: texts, times, quantities, prices, attributes, each read by its rule or refused by its path."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any, NoReturn

from app.domain.validation import (
    EARLIEST_MS,
    MAX_ATTRIBUTE_KEY_BYTES,
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_ATTRIBUTES,
    MAX_QUANTITY,
    Violation,
)
from tidings.events.v1.event_pb2 import Event, Money
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason

#: Currencies whose minor unit is not a hundredth (ISO 4217, list one).
MINOR_DIGITS = {
    **dict.fromkeys(["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV"], 0),
    **dict.fromkeys(["XAF", "XOF", "XPF"], 0),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
    **dict.fromkeys(["CLF", "UYW"], 4),
}
MAX_AMOUNT = Decimal(10) ** 12
_AMOUNT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TIME_CHARACTERS = 40
#: Doubles hold every whole number up to here; a longer one is an id, and belongs into a text.
_MAX_EXACT = 2**53


class Broken(Exception):
    """A rule of the JSON form is broken; never leaves app.domain.json_event."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(field, detail)
        self.field, self.detail = field, detail

    def violation(self) -> Violation:
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_INVALID, self.field, f"{self.field} {self.detail}".strip())


def read_text(obj: dict[str, Any], name: str, at: str = "", *, required: bool = False) -> str:
    value = obj.get(name)
    if value is None:
        if required:
            raise Broken(at + name, "is required")
        return ""
    if not isinstance(value, str):
        raise Broken(at + name, f"must be text, not {kind_of(value)}")
    if required and not value:
        raise Broken(at + name, "must not be empty")
    return encodable(value, at + name)


def encodable(text: str, at: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Broken(at, "holds half of a surrogate pair, which is no character") from None
    return text


def read_quantity(obj: dict[str, Any], at: str = "") -> int:
    value = obj.get("quantity")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_QUANTITY:
        raise Broken(f"{at}quantity", f"must be a whole number from 1 to {MAX_QUANTITY:,}")
    return value


def read_time_ms(value: object, now_ms: int) -> int:
    match value:
        case None:
            return now_ms
        case int() if not isinstance(value, bool):
            if not EARLIEST_MS <= value <= _MAX_EXACT:
                raise Broken("timestamp", "must be milliseconds since 1970 UTC (not seconds), from 2000-01-01 up to a day from now")
            return value
        case str() if len(value) <= _MAX_TIME_CHARACTERS:
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                _refuse_time()
            if moment.utcoffset() is None:
                raise Broken("timestamp", "must say its zone: 2024-04-27T14:35:22Z or 2024-04-27T16:35:22+02:00")
            return (moment - _EPOCH) // timedelta(milliseconds=1) or -1  # 0 would read as "not said"
        case _:
            _refuse_time()


def _refuse_time() -> NoReturn:
    raise Broken("timestamp", "must be a time with a zone in ISO 8601, like 2024-04-27T14:35:22Z, or whole milliseconds since 1970 UTC")


def fill_price(money: Money, obj: dict[str, Any], attributes: dict[str, Any], at: str = "") -> tuple[str, ...]:
    """The price of one, from the object itself or else from its attributes, which then are used up. Rounded half-even to minor units."""
    source, at, used = (obj, at, ()) if obj.get("price") is not None else (attributes, "attributes.", ("price", "currency"))
    price = source.get("price")
    if price is None:
        if obj.get("currency") is not None:
            raise Broken(f"{at if source is obj else ''}currency", "says nothing without a price")
        return ()
    currency = read_text(source, "currency", at)
    if currency and not re.fullmatch("[A-Z]{3}", currency):
        raise Broken(f"{at}currency", "must be an ISO 4217 code of three capital letters")
    amount = read_amount(price, f"{at}price")
    money.SetInParent()
    money.minor_units = int(amount.scaleb(MINOR_DIGITS.get(currency, 2)).to_integral_value(ROUND_HALF_EVEN))
    money.currency_code = currency
    return used


def read_amount(value: object, at: str) -> Decimal:
    match value:
        case bool():
            raise Broken(at, "must be a number, not true or false")
        case int():
            amount = Decimal(value) if abs(value) <= _MAX_EXACT else MAX_AMOUNT
        case float():
            amount = Decimal(repr(value))
        case Decimal():
            amount = value
        case str() if _AMOUNT.fullmatch(value):
            amount = Decimal(value)
        case _:
            raise Broken(at, f"must be a number like 299.99, not {kind_of(value)}")
    if not amount.is_finite() or not 0 <= amount < MAX_AMOUNT:
        raise Broken(at, "must be from 0 up to, but not, 10^12")
    return amount


def read_double(value: int | float | Decimal, at: str) -> float:
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        raise Broken(at, "must be within 2^53, beyond which a number is not exact: send it as text")
    number = float(value) if not isinstance(value, Decimal) or value.is_finite() else inf
    if not isfinite(number):
        raise Broken(at, "must be finite")
    return number


def carry_attributes(event: Event, attributes: dict[str, Any], used: tuple[str, ...]) -> None:
    if len(attributes) > MAX_ATTRIBUTES + len(used):
        raise Broken("attributes", f"must have at most {MAX_ATTRIBUTES} entries")
    for name, value in attributes.items():
        if value is None or name in used:
            continue
        at = member_path("attributes", name)
        if not 1 <= len(encodable(name, at).encode()) <= MAX_ATTRIBUTE_KEY_BYTES:
            raise Broken(at, f"must have a name of 1 to {MAX_ATTRIBUTE_KEY_BYTES} bytes of UTF-8")
        text = attribute_text(value, at)
        if len(text.encode()) > MAX_ATTRIBUTE_VALUE_BYTES:
            raise Broken(at, f"must be at most {MAX_ATTRIBUTE_VALUE_BYTES} bytes of UTF-8")
        event.attributes[name] = text


def attribute_text(value: object, at: str) -> str:
    match value:
        case str():
            return encodable(value, at)
        case bool():
            return "true" if value else "false"
        case int():
            if abs(value) >= 10**30:
                raise Broken(at, "must be a number of at most 30 digits, or text")
            return str(value)
        case float() | Decimal():
            if not Decimal(value).is_finite():
                raise Broken(at, "must be finite")
            return repr(value) if isinstance(value, float) else str(value)
        case _:
            raise Broken(at, f"must be text, a number, true, false or null, not {kind_of(value)}")


def refuse_unknown(obj: dict[str, Any], known: tuple[str, ...], at: str) -> None:
    for name in obj:
        if name not in known:
            near = get_close_matches(name[:64], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}; anything else belongs into attributes"
            raise Broken(member_path(at.removesuffix("."), name), f"is not a known field: {hint}")


def member_path(of: str, name: str) -> str:
    """The path of a member, fit to be shown whatever its name is."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return f"{of}.{name}" if of else name
    return f"{of}[{name[:40]!a}{'...' if len(name) > 40 else ''}]"


def kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float() | Decimal():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__
