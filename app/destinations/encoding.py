"""A person's list as an e-mail platform can hold it: an array, a JSON text, flat fields or joined ids, cut by whole items to what fits.

Every value is a text, "" where nothing is known: platforms drop a whole update for one null, and a text that is not written keeps what it
was. Money is in major units ("12.99"). How answers are read is in answers.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from app.destinations.outcomes import Rejected
from app.destinations.requests import Part, Rendered
from app.domain.catalog import Catalog
from app.domain.json_values import MINOR_DIGITS
from app.domain.reasons import reason_text
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import Recommendation

#: Octets of an address (RFC 5321, 4.5.3.1.3, without the brackets around it).
MAX_EMAIL_BYTES = 254
#: Bytes of one value where a platform names no limit: no link of a catalog is longer.
MAX_VALUE_BYTES = 2_048


class Item(NamedTuple):
    """One recommendation; all texts, "" for what the catalog does not say."""

    product_id: str
    title: str = ""
    url: str = ""
    image_url: str = ""
    #: In major units, "12.99"; and the code of the currency, "" for the shop's own.
    price: str = ""
    currency: str = ""
    list_price: str = ""
    #: Why it is there: a sentence.
    reason: str = ""


#: The flat fields of one item, by the ends of their names, and what each holds.
SLOT_FIELDS: Mapping[str, str] = {
    "id": "product_id",
    "title": "title",
    "url": "url",
    "image": "image_url",
    "price": "price",
}


def items_of(rendered: Rendered, count: int, value_bytes: int = MAX_VALUE_BYTES) -> list[Item] | Rejected:
    """The first ``count`` recommendations that can be shown, best first; empty for an empty list.

    Title and reason are cut to ``value_bytes``. Half an id or half a link leads nowhere: an item with a longer one is left out, and the
    next takes its place; a longer address of an image is left empty. Rejected if that leaves nothing of a list that had something.
    """
    items: list[Item] = []
    for recommendation in rendered.update.recommendations:
        if len(items) == count:
            break
        item = _item(recommendation, rendered.catalog, value_bytes)
        if _size(item.product_id) <= value_bytes and _size(item.url) <= value_bytes:
            items.append(item)
    if not items and rendered.update.recommendations:
        return Rejected(outbox_pb2.DEAD_REASON_TOO_LARGE, f"no recommendation has an id and a link of at most {value_bytes} bytes")
    return items


def as_array(items: Sequence[Item], max_bytes: int) -> list[dict[str, str]] | Rejected:
    """Objects with the fields of ``Item``, as many as fit into ``max_bytes`` of JSON, best first."""
    kept: list[dict[str, str]] = []
    room = max_bytes - len(b"[]")
    for item in items:
        one = item._asdict()
        size = len(orjson.dumps(one)) + len(b",")
        # Of n items there are n - 1 commas.
        if size - (not kept) <= room:
            kept.append(one)
            room -= size - (len(kept) == 1)
    return _too_large(max_bytes) if items and not kept else kept


def array_of(rendered: Rendered, count: int, max_bytes: int, value_bytes: int = MAX_VALUE_BYTES) -> list[dict[str, str]] | Rejected:
    """``as_array`` of the ``items_of`` a person; Rejected if either is."""
    items = items_of(rendered, count, value_bytes)
    return items if isinstance(items, Rejected) else as_array(items, max_bytes)


def as_json_string(items: Sequence[Item], max_bytes: int) -> str | Rejected:
    """The array as a text of at most ``max_bytes`` bytes of UTF-8, for a field that takes no more than text."""
    kept = as_array(items, max_bytes)
    return kept if isinstance(kept, Rejected) else orjson.dumps(kept).decode()


def as_slots(items: Sequence[Item], prefix: str, count: int, fields: Mapping[str, str] = SLOT_FIELDS) -> dict[str, str]:
    """``rec_1_id`` to ``rec_N_price``: all of ``count`` slots, with "" in those without an item, so that what stood there is cleared.

    The bound of each value is that of ``items_of``, with the same ``count``.
    """
    slots: dict[str, str] = {}
    for number in range(1, count + 1):
        item = items[number - 1] if number <= len(items) else _NOTHING
        for end, name in fields.items():
            slots[f"{prefix}_{number}_{end}"] = getattr(item, name)
    return slots


def slot_names(prefix: str, count: int, fields: Mapping[str, str] = SLOT_FIELDS) -> Iterator[str]:
    """The names that ``as_slots`` writes, in its order."""
    return (f"{prefix}_{number}_{end}" for number in range(1, count + 1) for end in fields)


def as_joined_ids(items: Sequence[Item], max_bytes: int, separator: str = ",") -> str | Rejected:
    """The ids, as many as fit, best first. One that has the separator in it is left out: it would read as two."""
    kept: list[str] = []
    room = max_bytes
    for item in items:
        size = _size(item.product_id) + (len(separator) if kept else 0)
        if size <= room and separator not in item.product_id:
            kept.append(item.product_id)
            room -= size
    return _too_large(max_bytes) if items and not kept else separator.join(kept)


def email_of(rendered: Rendered, attribute: str) -> str | Rejected:
    """The person's address in lower case, if it may be one: one @ between a name and a domain with a dot, at most MAX_EMAIL_BYTES, nothing
    that needs quotes. Platforms refuse others, some of them with everyone else in the request.
    """
    email = attribute_text(rendered.profile, attribute).strip().lower()
    if not email:
        return Rejected(outbox_pb2.DEAD_REASON_NO_IDENTITY, f"the profile has no attribute {attribute} with an e-mail address")
    if _size(email) > MAX_EMAIL_BYTES or not email.isprintable() or not _EMAIL.fullmatch(email):
        return Rejected(outbox_pb2.DEAD_REASON_NO_IDENTITY, f"the profile's attribute {attribute} is not an e-mail address")
    return email


def attribute_text(profile: Profile, name: str) -> str:
    """A text attribute of the profile; "" if there is none of that name."""
    return next((attribute.text for attribute in profile.attributes if attribute.name == name), "")


def cut_text(text: str, max_bytes: int) -> str:
    """The beginning of a text in at most so many bytes of UTF-8, between two characters."""
    encoded = text.encode()
    return text if len(encoded) <= max_bytes else encoded[:max_bytes].decode("utf-8", "ignore")


def iso_time(moment_ms: int) -> str:
    """``2026-11-22T10:00:00Z``; "" for a time that was never set, or is none."""
    if not 0 < moment_ms <= _LAST_MS:
        return ""
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def body_of(person: Mapping[str, Any]) -> bytes:
    """What stands for a person in a request's body."""
    return orjson.dumps(person)


def joined(head: bytes, parts: Sequence[Part], tail: bytes) -> bytes:
    """The body of a request: the people's parts as the members of a JSON array that ``head`` opens and ``tail`` closes."""
    return head + b",".join(part.body for part in parts) + tail


_NOTHING = Item("")
_EMAIL = re.compile(r"""[^\s@,;:<>()\[\]"\\]+@[^\s@,;:<>()\[\]"\\.]+(\.[^\s@,;:<>()\[\]"\\.]+)+""")
#: The end of the year 9999.
_LAST_MS = 253_402_300_799_999


def _item(recommendation: Recommendation, catalog: Catalog, value_bytes: int) -> Item:
    product_id = recommendation.product_id
    product = catalog.product(product_id)
    reason = cut_text(_one_line(reason_text(recommendation.reason, lambda cause: _title(cause, catalog))), value_bytes)
    if product is None:
        return Item(product_id, reason=reason)
    return Item(
        product_id,
        title=cut_text(_one_line(product.title), value_bytes),
        url=product.url,
        image_url=product.image_url if _size(product.image_url) <= value_bytes else "",
        price=_major_units(product.price, product.currency),
        currency=product.currency,
        list_price=_major_units(product.list_price, product.currency),
        reason=reason,
    )


def _title(product_id: str, catalog: Catalog) -> str:
    product = catalog.product(product_id)
    return product_id if product is None else product.title or product_id


def _one_line(text: str) -> str:
    """HubSpot's e-mails show no line breaks, and no field of an e-mail needs a control character."""
    return text if text.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _major_units(minor_units: int | None, currency: str) -> str:
    """``1299`` → ``12.99``, with as many decimals as the currency has: none for JPY, three for KWD, two for the shop's own."""
    return "" if minor_units is None else f"{Decimal(minor_units).scaleb(-MINOR_DIGITS.get(currency, 2)):f}"


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(outbox_pb2.DEAD_REASON_TOO_LARGE, f"not one recommendation fits into {max_bytes} bytes")
