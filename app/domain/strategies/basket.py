"""Strategies that go by the cart and by orders: left in the cart, also bought, buy again."""

from __future__ import annotations

from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import DAY_MS, Query, by_score, in_order, person_of
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import REASON_KIND_ALSO_BOUGHT, REASON_KIND_BUY_AGAIN, REASON_KIND_LEFT_IN_CART

#: Of what the person has, so many are asked for what was bought with them, the newest first. Answers hold at most 10 products each.
MAX_ASKED = 12
#: What the next one counts, compared with the one before it.
_NEXT_COUNTS = 0.8
#: A product is due from this part of the person's own interval after its last order, until that many intervals after it.
DUE_FROM = 0.8
DUE_UNTIL = 3.0
#: Orders closer together than this are no habit.
MIN_INTERVAL_DAYS = 1


def left_in_cart(query: Query, limit: int) -> list[Recommendation]:
    """The lines of the cart, at most 100, the newest first, ties by id."""
    if (profile := person_of(query)) is None:
        return []
    lines = sorted((-line.added_at_ms, line.product_id) for line in profile.cart)
    return in_order(((product_id, Reason(REASON_KIND_LEFT_IN_CART)) for _, product_id in lines), limit)


def also_bought(query: Query, limit: int) -> list[Recommendation]:
    """What others bought with what the person bought or has in the cart, without what the person has; at most 120 products.

    A product scores the part of the buyers, summed over what it was bought with, newer ones counting more; ties by id.
    """
    if (profile := person_of(query)) is None:
        return []
    has = _bought_or_in_cart(profile)
    scores: dict[str, float] = {}
    strongest: dict[str, tuple[float, Reason]] = {}
    worth = 1.0
    for cause in list(has)[:MAX_ASKED]:
        buyers, ids, counts = query.source.bought(cause)
        for product_id, count in zip(ids, counts, strict=True):
            if product_id in has or not count:
                continue
            part = worth * count / max(buyers, count)
            scores[product_id] = scores.get(product_id, 0.0) + part
            if product_id not in strongest or part > strongest[product_id][0]:
                strongest[product_id] = part, Reason(REASON_KIND_ALSO_BOUGHT, cause, together=count, visits=max(buyers, count))
        worth *= _NEXT_COUNTS
    return by_score(((product_id, score, strongest[product_id][1]) for product_id, score in scores.items()), limit)


def buy_again(query: Query, limit: int) -> list[Recommendation]:
    """What the person bought in at least two orders and is due by their own mean interval; of the 256 purchases that are remembered.

    The score is the time since the last order in intervals, of which 3 are the most: the most overdue first, ties by id.
    """
    if (profile := person_of(query)) is None:
        return []
    found = []
    purchases = profile.purchases
    columns = zip(purchases.product_ids, purchases.first_at_ms, purchases.last_at_ms, purchases.counts, strict=True)
    for product_id, first_ms, last_ms, count in columns:
        if count < 2 or (interval_ms := (last_ms - first_ms) / (count - 1)) < MIN_INTERVAL_DAYS * DAY_MS:
            continue
        intervals = (query.now_ms - last_ms) / interval_ms
        if DUE_FROM <= intervals <= DUE_UNTIL:
            reason = Reason(REASON_KIND_BUY_AGAIN, times_seen=count, interval_days=round(interval_ms / DAY_MS))
            found.append((product_id, intervals / DUE_UNTIL, reason))
    return by_score(found, limit)


def _bought_or_in_cart(profile: Profile) -> dict[str, None]:
    """Each product once, the one had last first, ties by id."""
    purchases = profile.purchases
    had = [(-at_ms, product_id) for product_id, at_ms in zip(purchases.product_ids, purchases.last_at_ms, strict=True)]
    had += [(-line.added_at_ms, line.product_id) for line in profile.cart]
    return dict.fromkeys(product_id for _, product_id in sorted(had))
