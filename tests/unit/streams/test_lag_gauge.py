"""The gauge of lag tells of the partitions that this worker reads, and of no others."""

from __future__ import annotations

from app.metrics import REGISTRY
from app.streams.views import show_lags


def _shown(topic: str, partition: int) -> float | None:
    return REGISTRY.get_sample_value("tidings_lag_records", {"topic": topic, "partition": str(partition)})


def test_a_partition_that_went_to_another_worker_is_not_said_to_lag_for_ever() -> None:
    shown = show_lags({("lag-test", 0): 5, ("lag-test", 1): 7}, set())
    assert (_shown("lag-test", 0), _shown("lag-test", 1)) == (5, 7)
    shown = show_lags({("lag-test", 1): 0}, shown)
    assert (_shown("lag-test", 0), _shown("lag-test", 1)) == (None, 0)
    show_lags({}, shown)
    assert _shown("lag-test", 1) is None
