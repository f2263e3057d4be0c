"""A list of recommendations as a webhook shows it: JSON objects, and what of them counts when two lists are compared.

Compiled (_list_json.c) where the extension could be built when Tidings was installed; in Python it says the same to the last byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import orjson

from app.domain.catalog import Catalog, CatalogProduct
from app.domain.compiled import compiled as extension
from app.domain.reasons import OTHER_REASON, REASON_NAMES, reason_text
from app.domain.shown_product import shown_product
from tidings.updates.v1.update_pb2 import Reason, RecommendationUpdate

#: Of app/destinations/_list_json.c. An extension that was built from other sources has another number, and is not used.
INTERFACE = 2
#: Pieces of JSON that are kept of each kind, of some hundred bytes each: reasons and products recur from person to person.
MAX_PIECES = 16_384

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Compiled(Protocol):
    """What app/destinations/_list_json.c offers."""

    INTERFACE: int

    def list_json(
        self, update: bytes, reasons: dict[bytes, bytes], reason_of: Callable[[bytes], bytes], about: Callable[[str], bytes] | None,
        numbers: Callable[[list[float]], bytes], /,
    ) -> tuple[bytes, bytes] | None: ...


#: None: there is none that fits.
COMPILED = cast(Compiled | None, extension("app.destinations._list_json", INTERFACE))


def list_json(update: RecommendationUpdate, catalog: Catalog, compiled: Compiled | None = COMPILED) -> tuple[bytes, bytes]:
    """The list's JSON objects with commas between them, the best first, each with what the catalog says of the product.

    And what a reader would see of it, for a digest: without scores, which move with time.
    """
    if compiled is not None:
        reasons, reason_of, about = _pieces_of(catalog)
        made = compiled.list_json(update.SerializeToString(), reasons, reason_of, about, orjson.dumps)
        if made is not None:
            return made
    objects, seen = list_objects(update, catalog)
    return b",".join(objects), b"".join(seen)


def list_objects(update: RecommendationUpdate, catalog: Catalog) -> tuple[list[bytes], list[bytes]]:
    """The same, each by itself, in Python."""
    shown: list[bytes] = []
    seen: list[bytes] = []
    reasons, reason_of, about_of = _pieces_of(catalog)
    for one in update.recommendations:
        raw = one.reason.SerializeToString()
        named, why = orjson.dumps(one.product_id), reasons.get(raw) or reason_of(raw)
        about = about_of(one.product_id) if about_of is not None else b""
        shown.append(b'{"product_id":%b,"score":%b,"reason":%b%b}' % (named, orjson.dumps(one.score), why, about))
        # Where there is no catalog, the reason's own bytes say all that its JSON does, in less.
        seen += (named, why, about) if about_of is not None else (named, len(raw).to_bytes(4, "little"), raw)
    return shown, seen


# Pieces -----------------------------------------------------------------------------------------------------------------------


_Pieces = tuple[dict[bytes, bytes], Callable[[bytes], bytes], Callable[[str], bytes] | None]


def _pieces_of(catalog: Catalog) -> _Pieces:
    """Reasons' JSON by their messages' bytes, what answers when there is none, and what answers what is said about a product."""
    if catalog.is_empty:
        return _plain, _plain_reason, None
    title_of, product_of = _titles_of(catalog), catalog.product
    return {}, lambda raw: _titled_reason(raw, title_of), lambda product_id: _about(product_id, product_of(product_id))


_plain: dict[bytes, bytes] = {}
#: Under a reason's bytes: its cause, what that was called, and the JSON.
_titled: dict[bytes, tuple[str, str, bytes]] = {}
#: Under a product's id: what was known of it, and the JSON.
_products: dict[str, tuple[CatalogProduct, bytes]] = {}


def _plain_reason(raw: bytes) -> bytes:
    reason = Reason.FromString(raw)
    return _kept(_plain, raw, _reason_json(reason, reason.because_of))


def _titled_reason(raw: bytes, title_of: Callable[[str], str]) -> bytes:
    known = _titled.get(raw)
    cause = known[0] if known is not None else Reason.FromString(raw).because_of
    title = title_of(cause)
    if known is not None and known[1] == title:
        return known[2]
    return _kept(_titled, raw, (cause, title, _reason_json(Reason.FromString(raw), title)))[2]


def _titles_of(catalog: Catalog) -> Callable[[str], str]:
    def title_of(product_id: str) -> str:
        product = catalog.product(product_id) if product_id else None
        return product.title if product is not None and product.title else product_id

    return title_of


def _reason_json(reason: Reason, cause: str) -> bytes:
    made = orjson.dumps({
        "kind": REASON_NAMES.get(reason.kind, OTHER_REASON), "because_of": reason.because_of or None, "times_seen": reason.times_seen,
        "text": reason_text(reason, lambda _: cause),
    })
    return b"%b" % made  # orjson leaves its bytes in the 4 kB that it wrote them into, and this one stays


def _about(product_id: str, product: CatalogProduct | None) -> bytes:
    """The product's fields, each with a comma before it."""
    if product is None:
        return b""
    known = _products.get(product_id)
    if known is not None and known[0] is product:
        return known[1]
    return _kept(_products, product_id, (product, b"," + orjson.dumps(shown_product(product))[1:-1]))[1]


def _kept(pieces: dict[_Key, _Value], key: _Key, piece: _Value) -> _Value:
    if len(pieces) >= MAX_PIECES:
        pieces.clear()  # those that recur are soon back
    pieces[key] = piece
    return piece
