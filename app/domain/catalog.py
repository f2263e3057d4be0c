"""The catalog: what the shop says of its products, as ranking reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

#: `published_at_ms` of a product that is never shown: the end of the year 9999.
NEVER_MS = 253_402_300_799_999
#: Between the levels of a category.
LEVEL = " > "

_NO_ATTRIBUTES: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CatalogProduct:
    """One listed product as it stands. Money in minor units of ``currency`` ("" is the shop's own); times in ms since 1970, 0 for never."""

    product_id: str
    title: str = ""
    url: str = ""
    image_url: str = ""
    #: None: not known.
    price: int | None = None
    list_price: int | None = None
    currency: str = ""
    in_stock: bool = True
    categories: tuple[str, ...] = ()
    brand: str = ""
    attributes: Mapping[str, Sequence[str]] = field(default_factory=lambda: _NO_ATTRIBUTES)
    published_at_ms: int = 0
    expires_at_ms: int = 0
    listed_at_ms: int = 0
    #: (since when, price), oldest first, at most 16.
    prices: tuple[tuple[int, int], ...] = ()
    out_of_stock_since_ms: int = 0
    back_in_stock_at_ms: int = 0
    #: What rules found out about this state of the product, by rule: a place to remember it in, not a part of the product.
    verdicts: dict[Any, bool] = field(default_factory=dict, compare=False, repr=False)

    def price_at(self, at_ms: int) -> int | None:
        """What it cost at a time; None if that is not known (any more)."""
        found = None
        for since_ms, price in self.prices:
            if since_ms > at_ms:
                break
            found = price
        return found


class Catalog(Protocol):
    """The shop's products as this worker knows them (app/streams/catalog.py). Every list is bounded by ``limit``."""

    @property
    def is_empty(self) -> bool:
        """No product is listed: ids are all there is, and lists are made of ids."""

    def product(self, product_id: str) -> CatalogProduct | None:
        """None if it is not listed."""

    def newest(self, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        """Listed products, the one published last first, ties by id; a product that does not say when, by when it was listed.

        Left out is what is never published, and what is published after ``until_ms``, which counts by the minute begun: who wants what is
        published exactly still looks at each.
        """

    def in_category(self, category: str, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        """The same, of one category (the whole string, as a product names it)."""


class NoCatalog:
    """A shop that has told of no product."""

    is_empty = True

    def product(self, product_id: str) -> CatalogProduct | None:
        return None

    def newest(self, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return ()

    def in_category(self, category: str, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return ()


NO_CATALOG: Catalog = NoCatalog()
