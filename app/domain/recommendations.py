"""A list of recommendations: what ranking answers, what an update carries, and whether a user would see a change."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1 import update_pb2
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

#: Numbers as they are written in a list's digest: to format them takes a third of its time.
_SMALL = tuple(map(str, range(256)))


class Reason(NamedTuple):
    """The message of the same name as a plain value: most lists are ranked, found unchanged and forgotten."""

    kind: ReasonKind
    because_of: str = ""
    times_seen: int = 0
    #: Of ``visits`` visits to ``because_of``, so many went together with the product; 0 where it is not known.
    together: int = 0
    visits: int = 0
    category: str = ""
    #: Minor units and currency: what it cost when the person last looked, and what it costs now.
    price_before: tuple[int, str] | None = None
    price_now: tuple[int, str] | None = None
    interval_days: int = 0


def reason_of(message: update_pb2.Reason) -> Reason:
    """The plain value of a message."""
    before, now = message.price_before, message.price_now
    return Reason(
        message.kind,
        message.because_of,
        message.times_seen,
        message.together,
        message.visits,
        message.category,
        (before.minor_units, before.currency_code) if message.HasField("price_before") else None,
        (now.minor_units, now.currency_code) if message.HasField("price_now") else None,
        message.interval_days,
    )


class Recommendation(NamedTuple):
    """The message of the same name as a plain value."""

    product_id: str
    score: float
    reason: Reason


#: The rest of a reason that says no more than its kind, cause and times.
_NO_MORE = Reason(0)[3:]  # type: ignore[arg-type]  # the kind does not matter here


def list_digest(recommendations: Iterable[Recommendation | update_pb2.Recommendation]) -> int:
    """64 bits, equal for lists that read the same, on every platform; never 0, which means that there is no list yet.

    The products, their order and their reasons count; scores may move freely, and so may the counts of visits in a reason.
    """
    # Ids hold no control characters (app/domain/validation.py), so these separators cannot be mistaken for a part of one.
    parts = []
    for recommendation in recommendations:
        reason = recommendation.reason
        # Taken apart at once: to read its fields by name takes half as long again.
        kind, because_of, times, _, _, category, before, now, days = reason if isinstance(reason, Reason) else reason_of(reason)
        part = f"{recommendation.product_id}\x1f{_SMALL[kind]}\x1f{because_of}\x1f{_SMALL[times] if times < len(_SMALL) else times}"
        if category or before or now or days:
            part += f"\x1f{(category, before, now, days)}"
        parts.append(part)
    return int.from_bytes(blake2b("\x1e".join(parts).encode(), digest_size=8).digest(), "little") or 1


def fill_update(
    update: RecommendationUpdate,
    profile: Profile,
    recommendations: Iterable[Recommendation],
    *,
    version: int,
    ranked_at_ms: int,
    caused_at_ms: int,
) -> None:
    """Let the update say what was just ranked for this person, and nothing of what it said before."""
    update.Clear()
    update.user_id = profile.user_id
    update.version = version
    update.ranked_at_ms = ranked_at_ms
    update.caused_at_ms = caused_at_ms
    update.current_to_ms = profile.last_event_at_ms
    add_recommendations(update, recommendations)


def add_recommendations(update: RecommendationUpdate, recommendations: Iterable[Recommendation]) -> None:
    """Append them to the update's list."""
    add = update.recommendations.add
    # Field by field: half the time of constructors.
    for product_id, score, why in recommendations:
        kind, because_of, times_seen = why[:3]
        message = add()
        message.product_id = product_id
        message.score = score
        reason = message.reason
        reason.kind = kind
        if because_of:
            reason.because_of = because_of
        if times_seen:
            reason.times_seen = times_seen
        if why[3:] != _NO_MORE:
            _fill_reason(reason, why)


def recommendation_of(message: update_pb2.Recommendation) -> Recommendation:
    """The plain value of a message."""
    return Recommendation(message.product_id, message.score, reason_of(message.reason))


def _fill_reason(message: update_pb2.Reason, reason: Reason) -> None:
    message.together = reason.together
    message.visits = reason.visits
    message.category = reason.category
    message.interval_days = reason.interval_days
    for money, said in ((message.price_before, reason.price_before), (message.price_now, reason.price_now)):
        if said is not None:
            money.minor_units, money.currency_code = said
