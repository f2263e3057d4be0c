"""What people, shops and operators do in a run: records for the source topics, some of them twice, some of them noise."""

from __future__ import annotations

from random import Random

from app.domain.fields import PERSONALISED_EMAIL, PROFILING
from app.domain.product_validation import product_key
from app.streams.publisher import partition_of
from tests.agents.worlds import NAMES, NOW_MS, consent, ordered, viewed
from tests.simulation.world import KeyValue
from tidings.events.v1.event_pb2 import CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.products.v1.product_pb2 import Product

USERS, PRODUCTS = 5, 6


def record_of(random: Random, number: int, partitions: int, targets: list[str]) -> tuple[str, int, KeyValue]:
    """Topic, partition, key and value. ``number`` grows with each."""
    kind = random.random()
    if kind < 0.15:
        return _product(random, number, partitions)
    if kind < 0.22:
        return _command(random, number, partitions, targets)
    user = f"u{random.randrange(USERS)}"
    value: bytes | None
    if kind < 0.26:
        value = random.randbytes(random.randrange(40)) if random.random() < 0.8 else None
    elif kind < 0.36:
        purpose = random.choice([PROFILING, PERSONALISED_EMAIL, PERSONALISED_EMAIL])
        value = consent(user, random.choice([CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED]), number, purpose).SerializeToString()
    elif kind < 0.43:
        value = ordered(user, [f"p{random.randrange(PRODUCTS)}" for _ in range(3)], number).SerializeToString()
    else:
        value = viewed(user, f"p{random.randrange(PRODUCTS)}", number).SerializeToString()
    return NAMES.events, partition_of(user.encode(), partitions), (user.encode(), value)


def _product(random: Random, number: int, partitions: int) -> tuple[str, int, KeyValue]:
    product = Product(product_id=f"p{random.randrange(PRODUCTS)}", changed_at_ms=NOW_MS + number)
    if random.random() < 0.5:
        product.title, product.price.minor_units, product.price.currency_code = f"title {number}", 100 + number, "EUR"
    else:
        product.changed_fields.append("in_stock")
        product.in_stock = random.random() < 0.5
    place = partition_of(product.product_id.encode(), partitions)
    value = None if random.random() < 0.15 else product.SerializeToString() if random.random() < 0.95 else b"\xff"
    return NAMES.products, place, (product_key(product), value)


def _command(random: Random, number: int, partitions: int, targets: list[str]) -> tuple[str, int, KeyValue]:
    user = f"u{random.randrange(USERS)}"
    command = DeliveryCommand(user_id=user, target=random.choice(targets), issued_at_ms=NOW_MS + number)
    getattr(command, random.choice(["retry", "drop", "resync", "resync"])).SetInParent()
    return NAMES.delivery_commands, partition_of(user.encode(), partitions), (user.encode(), command.SerializeToString())
