"""What many people touch now: counts by product over the latest events, in blocks that are closed and forgotten as a whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.domain.compiled import SHARE_EXTENSION

#: Events that the trend is taken over, all shares together.
WINDOW_EVENTS = 20_000
BLOCK_EVENTS = 2_500
#: Past it, the oldest block is forgotten: a single share holds the whole window.
MAX_BLOCKS = WINDOW_EVENTS // BLOCK_EVENTS
#: The open block keeps its best 256 products, ties by id, when they pass 512; a closed block its best 64.
MAX_OPEN_PRODUCTS = 512
KEPT_OPEN_PRODUCTS = 256
KEPT_CLOSED_PRODUCTS = 64
#: Products in the list of what trends.
MAX_TRENDING = 60
#: Products in the wider list, in which newer touches count more: after so many events of all shares together, half.
MAX_TRENDS = 1_000
TRENDS_HALF_LIFE_EVENTS = 5_000


@dataclass(slots=True)
class TrendingBlock:
    """The message of the same name as a working object: two lists of one length, sorted by product id."""

    event_count: int = 0
    product_ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    #: Of a closed block, which changes no more: what app/domain/share.py made of it.
    encoded: bytes = field(default=b"", compare=False, repr=False)


@dataclass(slots=True)
class Trending:
    """The message of the same name as a working object: blocks, oldest first, of which the last one is open."""

    blocks: list[TrendingBlock] = field(default_factory=list)


def count_touch(trending: Trending, product_id: str, compiled: Any = SHARE_EXTENSION) -> None:
    """Count one touch in the open block. Compiled (_share.c) it counts the same."""
    if compiled is not None and compiled.count_touch(trending, product_id):
        return
    blocks = trending.blocks
    if not blocks:
        blocks.append(TrendingBlock())
    block = blocks[-1]
    if block.event_count >= BLOCK_EVENTS:
        _keep_best(block, KEPT_CLOSED_PRODUCTS)
        block = TrendingBlock()
        blocks.append(block)
        if len(blocks) > MAX_BLOCKS:
            del blocks[0]
    block.event_count += 1
    ids = block.product_ids
    place = bisect_left(ids, product_id)
    if place < len(ids) and ids[place] == product_id:
        block.counts[place] += 1
        return
    ids.insert(place, product_id)
    block.counts.insert(place, 1)
    if len(ids) > MAX_OPEN_PRODUCTS:
        _keep_best(block, KEPT_OPEN_PRODUCTS)


def trending_shares(trendings: Iterable[Trending]) -> list[tuple[str, float]]:
    """The best 60 products and their shares of the touches, best first, ties by id.

    Each partition gives its newest blocks, as many as cover its part of the window.
    """
    parts = [trending for trending in trendings if trending.blocks]
    counts: dict[str, int] = {}
    event_count = 0
    for trending in parts:
        covered = 0
        for block in reversed(trending.blocks):
            for product_id, count in zip(block.product_ids, block.counts, strict=True):
                counts[product_id] = counts.get(product_id, 0) + count
            covered += block.event_count
            if covered * len(parts) >= WINDOW_EVENTS:
                break
        event_count += covered
    best = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_TRENDING]
    return [(product_id, count / event_count) for product_id, count in best]


def decayed_trends(trendings: Iterable[Trending]) -> list[tuple[str, float]]:
    """The best 1,000 products of the same blocks and their decayed shares of the touches, best first, ties by id.

    A block counts by how many events came after it, in steps of blocks: what is newest counts whole.
    """
    parts = [trending for trending in trendings if trending.blocks]
    weights: dict[str, float] = {}
    total = 0.0
    for trending in parts:
        covered = 0
        for block in reversed(trending.blocks):
            worth = 0.5 ** (covered * len(parts) / TRENDS_HALF_LIFE_EVENTS)
            for product_id, count in zip(block.product_ids, block.counts, strict=True):
                weights[product_id] = weights.get(product_id, 0.0) + worth * count
            covered += block.event_count
            total += worth * block.event_count
            if covered * len(parts) >= WINDOW_EVENTS:
                break
    best = sorted(weights.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_TRENDS]
    return [(product_id, weight / total) for product_id, weight in best]


def _keep_best(block: TrendingBlock, kept_products: int) -> None:
    ids, counts = block.product_ids, block.counts
    kept = sorted(sorted(range(len(ids)), key=counts.__getitem__, reverse=True)[:kept_products])
    block.product_ids = [ids[place] for place in kept]
    block.counts = [counts[place] for place in kept]
