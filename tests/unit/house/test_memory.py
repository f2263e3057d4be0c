"""The page on memory says what the code says, and the bounds follow the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.memory import Bound, bounds_of, sum_of
from app.settings import Settings

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "memory.md").read_text()
PARTITIONS = 8
MIB = 1024**2


def by_name(settings: Settings, partitions: int = PARTITIONS) -> dict[str, Bound]:
    return {bound.name: bound for bound in bounds_of(settings, partitions)}


def test_the_page_lists_every_buffer_with_its_bound_and_what_happens_when_it_is_full() -> None:
    rows = re.findall(r"(?m)^\| (.+?) \| ([\d,]+) MiB \| (.+?) \|$", PAGE)
    assert rows == [(b.name, f"{b.bytes / MIB:,.0f}", b.when_full) for b in bounds_of(Settings(), PARTITIONS)]


def test_the_page_says_the_sum() -> None:
    assert f"**{sum_of(bounds_of(Settings(), PARTITIONS)) / MIB:,.0f} MiB if everything were full at once**" in PAGE


def test_what_is_set_is_what_bounds() -> None:
    small = by_name(Settings(worker={"cache_bytes": 64 * MIB, "block_cache_bytes": 32 * MIB}))
    assert small["decoded objects of the tables"].bytes == 64 * MIB
    assert by_name(Settings())["RocksDB"].bytes - small["RocksDB"].bytes == (96 - 32) * MIB


def test_more_partitions_take_more_only_where_each_has_its_own() -> None:
    few, many = by_name(Settings(), 8), by_name(Settings(), 32)
    grown = {name for name in few if many[name].bytes > few[name].bytes}
    assert "decoded objects of the tables" not in grown
    assert "made and not written" not in grown
    assert "users who wait for their ranking" in grown


def test_each_destination_has_a_bound_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", "whsec_" + "A" * 32)
    hook = {"url": "https://shop.example/hook", "secret": "env:SHOP_SECRET"}
    settings = Settings.model_validate({"targets": [hook | {"name": "one"}, hook | {"name": "two"}]})
    more = by_name(settings).keys() - by_name(Settings()).keys()
    assert more == {"the lane, claims and requests of one", "the lane, claims and requests of two"}
    assert 30 * MIB < sum_of(bounds_of(settings, PARTITIONS)) - sum_of(bounds_of(Settings(), PARTITIONS)) < 100 * MIB
