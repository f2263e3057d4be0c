"""What people, shops and operators do in a run: records for the source topics, some of them twice, some of them noise."""

from __future__ import annotations

from app.domain.fields import PERSONALISED_EMAIL, PROFILING
from app.domain.product_validation import product_key
from app.streams.publisher import partition_of
from tests.agents.worlds import NAMES, NOW_MS, consent, ordered, viewed
from tests.simulation.world import KeyValue, World
from tidings.events.v1.event_pb2 import CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.products.v1.product_pb2 import Product

Place = tuple[str, int, KeyValue]


def record_of(world: World, number: int, targets: list[str]) -> Place:
    """Topic, partition, key and value. ``number`` grows with each."""
    random, partitions, size = world.random, world.partitions, world.size
    kind = random.random()
    if kind < 0.15 and world.has_products:
        return _product(world, number)
    if 0.15 <= kind < 0.22 and world.has_commands:
        return _command(world, number, targets)
    user = f"u{random.randrange(size.users)}"
    value: bytes | None
    if 0.22 <= kind < 0.22 + size.noise:
        value = random.randbytes(random.randrange(40)) if random.random() < 0.8 else None
    elif 0.4 <= kind < 0.4 + world.consents:
        purpose = random.choice([PROFILING, PERSONALISED_EMAIL, PERSONALISED_EMAIL])
        value = consent(user, random.choice([CONSENT_STATE_DENIED, CONSENT_STATE_GRANTED]), number, purpose).SerializeToString()
    elif 0.33 <= kind < 0.4:
        value = ordered(user, [f"p{random.randrange(size.products)}" for _ in range(3)], number).SerializeToString()
    else:
        value = viewed(user, f"p{random.randrange(size.products)}", number).SerializeToString()
    return NAMES.events, partition_of(user.encode(), partitions), (user.encode(), value)


def _product(world: World, number: int) -> Place:
    random = world.random
    product = Product(product_id=f"p{random.randrange(world.size.products)}", changed_at_ms=NOW_MS + number)
    if random.random() < 0.5:
        product.title, product.price.minor_units, product.price.currency_code = f"title {number}", 100 + number, "EUR"
    else:
        product.changed_fields.append("in_stock")
        product.in_stock = random.random() < 0.5
    place = partition_of(product.product_id.encode(), world.partitions)
    value = None if random.random() < 0.15 else product.SerializeToString() if random.random() < 0.95 else b"\xff"
    return NAMES.products, place, (product_key(product), value)


def _command(world: World, number: int, targets: list[str]) -> Place:
    random = world.random
    user = f"u{random.randrange(world.size.users)}"
    command = DeliveryCommand(user_id=user, target=random.choice(targets), issued_at_ms=NOW_MS + number)
    getattr(command, random.choice(["retry", "drop", "resync", "resync"])).SetInParent()
    return NAMES.delivery_commands, partition_of(user.encode(), world.partitions), (user.encode(), command.SerializeToString())
