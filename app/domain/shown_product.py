"""How a product of the catalog reads in JSON: the same in a webhook's body and in an answer over HTTP."""

from __future__ import annotations

from typing import Any

from app.domain.catalog import CatalogProduct


def shown_product(product: CatalogProduct) -> dict[str, Any]:
    """What a template needs: title, links, price and what it was. Money in minor units; null for what the shop does not say."""
    return {
        "title": product.title or None,
        "url": product.url or None,
        "image_url": product.image_url or None,
        "price": shown_money(product.price, product.currency),
        "list_price": shown_money(product.list_price, product.currency),
        "brand": product.brand or None,
        "categories": list(product.categories),
    }


def shown_money(minor_units: int | None, currency: str) -> dict[str, Any] | None:
    """``{"minor_units": 29999, "currency_code": "EUR"}``; the code is null for the shop's own currency. None if the amount is not known."""
    return None if minor_units is None else {"minor_units": minor_units, "currency_code": currency or None}
