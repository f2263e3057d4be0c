"""How many of the catalog's products are kept decoded: by their number, and by what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.streams.catalog import BYTES_A_PRODUCT, CatalogCopy
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

MOST = 100


@pytest.mark.parametrize(("attribute_bytes", "most", "least"), [(0, MOST, MOST // 3), (20_000, 3, 1)])
async def test_large_products_count_for_more_than_small_ones(tmp_path: Path, attribute_bytes: int, most: int, least: int) -> None:
    copy = CatalogCopy({}, "changelog", 1, tmp_path / "catalog.db", cache_products=MOST, block_cache_bytes=8 << 20)
    database = await copy.open()
    ids = [f"product-{n}" for n in range(500)]
    values: dict[bytes, bytes | None] = {}
    for product_id in ids:
        entry = CatalogEntry(is_listed=True, listed_at_ms=1, product=Product(product_id=product_id, title="t" * attribute_bytes))
        values[product_id.encode()] = entry.SerializeToString()
    database.write(values, {}, None)
    for product_id in ids:
        assert copy.product(product_id) is not None
        kept = len(copy._young) + len(copy._old)
        assert kept <= most
        assert len(copy._sizes) <= most + 1
    assert kept >= least
    assert sum(copy._sizes.values()) <= max(MOST * BYTES_A_PRODUCT, 4 * 6 * attribute_bytes)
    copy.close()
