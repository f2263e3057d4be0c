"""The agent that folds what the shop says of its products into the products table.

The table's changelog is what every worker keeps its copy of the catalog from (catalog.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from app import metrics
from app.domain.catalog_fold import encode_entry, fold_product, new_entry
from app.domain.product_validation import decode_product, product_id_of
from app.domain.validation import Violation
from app.engine import Codec, Unit
from app.engine.store import HIDDEN_PREFIX
from app.streams.dead_letters import emit_dead_letter
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

PRODUCTS = Codec[CatalogEntry](CatalogEntry.FromString, encode_entry, lambda key: new_entry(key.decode()))

#: In another partition a change would never meet the record that it changes.
ASTRAY = Violation(
    DeadLetterReason.DEAD_LETTER_REASON_INVALID,
    "product_id",
    "product_id belongs to another partition: produce to that of Kafka's default partitioner (murmur2) for the id alone",
)


class FoldProducts:
    """``apply`` is the agent; ``home`` gives a product's partition."""

    def __init__(self, names: TopicNames, partitions: int, home: Callable[[bytes, int], int] = partition_of) -> None:
        self._names = names
        self._partitions = partitions
        self._home = home

    def apply(self, unit: Unit[CatalogEntry]) -> None:
        outcomes: Counter[str] = Counter()
        for record in unit.records():
            outcome = self._apply_one(unit, record)
            if isinstance(outcome, Violation):
                emit_dead_letter(unit, self._names.dead_letters, record, outcome)
                outcome = "dead_lettered"
            outcomes[outcome] += 1
        for name, count in outcomes.items():
            metrics.PRODUCTS.labels(name).inc(count)

    def _apply_one(self, unit: Unit[CatalogEntry], record: Any) -> str | Violation:
        """The outcome's name, or what is wrong with the record."""
        state = unit.state
        product_id = product_id_of(record.key or b"")
        # Looked at, not obtained: what a record does not change is not written.
        entry = None if product_id.startswith(HIDDEN_PREFIX) else state.get(product_id)
        if entry is None and record.key and self._home(product_id, self._partitions) != unit.partition:
            return ASTRAY
        if record.value is None:
            if entry is None or product_id != record.key:  # or only the trace of a change goes, which is in the entry since
                return "unchanged"
            state.delete(product_id)
            return "deleted"
        product = decode_product(record.value, record.key or b"", record.timestamp)
        if isinstance(product, Violation):
            return product
        if entry is None:
            entry = state.obtain(product_id)
        if not fold_product(entry, product, record.timestamp):
            return "unchanged"
        state.obtain(product_id)
        return "applied"
