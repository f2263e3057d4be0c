"""What a person bought, by product: when first and last, and how often. Part of the profile."""

from __future__ import annotations

from bisect import bisect_right

from tidings.state.v1.profile_pb2 import Profile

#: Past it, the product bought longest ago is forgotten.
MAX_PURCHASES = 256
#: Products that a purchase is linked to as bought together.
MAX_BOUGHT_LINKS = 5


def remember_purchase(profile: Profile, product_id: str, at_ms: int) -> None:
    """One order with the product, of whatever quantity. Orders may come in any order of their times.

    An order at the time of the first or the last one is the same order told twice; one between them counts.
    """
    purchases = profile.purchases
    ids, last = purchases.product_ids, purchases.last_at_ms
    known = ids[:]
    if product_id in known:
        place = known.index(product_id)
        first_ms, last_ms, count = purchases.first_at_ms[place], last[place], purchases.counts[place]
        if at_ms in (first_ms, last_ms):
            return
        if at_ms <= last_ms:
            purchases.counts[place] = count + 1
            purchases.first_at_ms[place] = min(first_ms, at_ms)
            return
        for column in (ids, purchases.first_at_ms, last, purchases.counts):
            del column[place : place + 1]
        count += 1
    else:
        first_ms, count = at_ms, 1
    place = bisect_right(last[:], at_ms)
    ids.insert(place, product_id)
    purchases.first_at_ms.insert(place, first_ms)
    last.insert(place, at_ms)
    purchases.counts.insert(place, count)
    if len(ids) > MAX_PURCHASES:
        for column in (ids, purchases.first_at_ms, last, purchases.counts):
            del column[:1]


def bought_before(profile: Profile, product_id: str) -> tuple[str, ...]:
    """The other products bought last, the latest last, at most 5."""
    others = profile.purchases.product_ids[-MAX_BOUGHT_LINKS - 1 :]
    if product_id in others:
        others.remove(product_id)
    return tuple(others[-MAX_BOUGHT_LINKS:])
