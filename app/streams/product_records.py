"""Records of the products topic: how a product, a change of one and its end are written there."""

from __future__ import annotations

from app.domain.product_validation import product_key
from app.streams.publisher import Record, partition_of
from tidings.products.v1.product_pb2 import Product


def record_of(product: Product, partitions: int) -> Record:
    """A full record or a change: its key says which, and the id alone decides its partition, so that both come in order."""
    return Record(product_key(product), product.SerializeToString(), partition_of(product.product_id.encode(), partitions))


def deletion_of(product_id: str, partitions: int) -> Record:
    """No value: the product is gone."""
    key = product_id.encode()
    return Record(key, None, partition_of(key, partitions))
