"""The invented shop: its catalogue, the events that its buttons stand for, and the shoppers who came before you.

Pure: the same catalogue, time and seed give the same events.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

Action = Literal["view", "cart", "buy", "email_click"]
ACTIONS: tuple[Action, ...] = get_args(Action)

#: Invented shoppers and the seed of their behaviour: about 1,300 events.
SHOPPERS = 240
SEED = 20
#: Their visits are spread over this long before now, so that what trends is recent.
SPREAD_MS = 4 * 3_600_000
#: How often a shopper's next product comes from the family they are in, from its companion, or from anywhere.
STAY_IN_FAMILY, GO_TO_COMPANION = 0.78, 0.14


@dataclass(frozen=True)
class Product:
    product_id: str
    title: str
    family_id: str
    price_minor_units: int


@dataclass(frozen=True)
class Catalog:
    """``document`` is what the page gets; the rest is the same, typed."""

    document: dict[str, Any]
    products: dict[str, Product]
    companions: dict[str, str]

    def family(self, family_id: str) -> list[Product]:
        return [p for p in self.products.values() if p.family_id == family_id]


def load_catalog() -> Catalog:
    """The catalogue beside this file."""
    document = json.loads((Path(__file__).parent / "catalog.json").read_text(encoding="utf-8"))
    return Catalog(
        document=document,
        products={p["product_id"]: Product(**p) for p in document["products"]},
        companions={f["family_id"]: f["companion"] for f in document["families"]},
    )


def product_json(catalog: Catalog) -> list[dict[str, Any]]:
    """What the shop sells, as PUT /v1/products takes it."""
    families = {family["family_id"]: family["title"] for family in catalog.document["families"]}
    currency = catalog.document["shop"]["currency_code"]
    return [
        {
            "id": product.product_id,
            "title": product.title,
            "url": f"https://shop.example/{product.product_id}",
            "price": {"minor_units": product.price_minor_units, "currency_code": currency},
            "category": families[product.family_id],
        }
        for product in catalog.products.values()
    ]


def event_json(catalog: Catalog, action: Action, *, event_id: str, user_id: str, product_id: str, occurred_at_ms: int) -> dict[str, Any]:
    """The JSON form of one event, as POST /v1/events takes it."""
    product = catalog.products[product_id]
    price = product.price_minor_units / 100
    event: dict[str, Any] = {
        "event_id": event_id,
        "user_id": user_id,
        "timestamp": _iso(occurred_at_ms),
        "source": "demo-shop",
    }
    match action:
        case "view":
            event |= {"event": "product_viewed", "product_id": product_id, "attributes": {"category": product.family_id, "price": price}}
        case "cart":
            event |= {"event": "add_to_cart", "product_id": product_id, "attributes": {"category": product.family_id, "price": price}}
        case "buy":
            event |= {"event": "order_placed", "product_id": product_id, "attributes": {"category": product.family_id, "price": price}}
        case "email_click":
            event |= {"event": "email_clicked", "message_id": f"email-to-{user_id}", "product_id": product_id}
    return event


def arrival_json(*, event_id: str, user_id: str, name: str, address: str, occurred_at_ms: int) -> dict[str, Any]:
    """A new visitor gives a name and an address, and is known from then on; what trends is all there is to say to them."""
    return {
        "event_id": event_id,
        "user_id": user_id,
        "timestamp": _iso(occurred_at_ms),
        "source": "demo-shop",
        "event": "profile_changed",
        "changes": {"first_name": name, "email": address},
    }


def seed_events(catalog: Catalog, now_ms: int, seed: int = SEED, shoppers: int = SHOPPERS) -> list[dict[str, Any]]:
    """What earlier shoppers did, oldest first: sessions that stay mostly within a family, now and then a second look, a cart, an order."""
    chance = random.Random(seed)
    events: list[tuple[int, str, Action, str]] = []
    for shopper in range(shoppers):
        user_id = f"shopper-{shopper:03d}"
        at_ms = now_ms - chance.randrange(60_000, SPREAD_MS)
        for product_id in _session(catalog, chance):
            events.append((at_ms, user_id, "view", product_id))
            if chance.random() < 0.12:
                events.append((at_ms + 4_000, user_id, "cart", product_id))
                if chance.random() < 0.35:
                    events.append((at_ms + 9_000, user_id, "buy", product_id))
            at_ms = min(at_ms + chance.randrange(15_000, 90_000), now_ms - 1_000)
    events.sort(key=lambda e: e[0])
    return [
        event_json(catalog, action, event_id=f"seed-{seed}-{n}", user_id=user_id, product_id=product_id, occurred_at_ms=at_ms)
        for n, (at_ms, user_id, action, product_id) in enumerate(events)
    ]


def _session(catalog: Catalog, chance: random.Random) -> list[str]:
    family_ids = list(catalog.companions)
    family_id = chance.choices(family_ids, weights=range(len(family_ids) + 2, 2, -1))[0]
    seen: list[str] = []
    for _ in range(chance.randrange(3, 8)):
        throw = chance.random()
        if throw > STAY_IN_FAMILY:
            family_id = catalog.companions[family_id] if throw < STAY_IN_FAMILY + GO_TO_COMPANION else chance.choice(family_ids)
        products = [p.product_id for p in catalog.family(family_id)]
        # The first of a family is its best known. A second look is rare, so that the model learns to recommend what is new.
        fresh = [p for p in products if p not in seen] or products
        pool = fresh if chance.random() > 0.06 else products
        seen.append(chance.choices(pool, weights=range(len(pool) + 1, 1, -1))[0])
    return seen


def _iso(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
