"""What readers fetch ahead has a bound, however many partitions there are."""

from __future__ import annotations

import pytest

from app.engine import changelog_reader, source


@pytest.mark.parametrize("reader", [source, changelog_reader])
def test_few_partitions_are_fetched_in_large_pieces_and_many_in_small_ones(reader: source) -> None:  # type: ignore[valid-type]  # a module
    assert reader.fetch_bytes(1) == reader.FETCH_BYTES
    for partitions in (2, 20, 40, 160):
        assert partitions * reader.fetch_bytes(partitions) <= max(reader.READ_AHEAD_BYTES, partitions * reader.LEAST_FETCH_BYTES)
    assert reader.fetch_bytes(10_000) == reader.LEAST_FETCH_BYTES
    assert reader.fetch_bytes(0) == reader.FETCH_BYTES
