"""A list of recommendations: what ranking answers, what an update carries, and whether a user would see a change.

Lists are digested and encoded by an optional extension (_ranked.c); in Python they say the same to the last byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple, Protocol, cast

from app.domain.compiled import compiled as extension
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1 import update_pb2
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

#: Of app/domain/_ranked.c.
INTERFACE = 1


class Compiled(Protocol):
    """What app/domain/_ranked.c offers; None: it leaves the list to Python."""

    def seen(self, recommendations: object, /) -> bytes | None:
        """What the digest of a list of Recommendation tuples is of."""

    def fields(self, recommendations: object, /) -> bytes | None:
        """The same list as a RecommendationUpdate has it."""


#: None: there is none that fits.
COMPILED = cast(Compiled | None, extension("app.domain._ranked", INTERFACE))

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


def list_digest(recommendations: Iterable[Recommendation | update_pb2.Recommendation], compiled: Compiled | None = COMPILED) -> int:
    """64 bits, equal for lists that read the same, on every platform; never 0, which means that there is no list yet.

    The products, their order and their reasons count; scores may move freely, and so may the counts of visits in a reason.
    """
    seen = compiled.seen(recommendations) if compiled is not None else None
    if seen is None:
        seen = _seen(recommendations)
    return int.from_bytes(blake2b(seen, digest_size=8).digest(), "little") or 1


def encode_update(
    profile: Profile,
    recommendations: Iterable[Recommendation],
    *,
    version: int,
    ranked_at_ms: int,
    caused_at_ms: int,
    compiled: Compiled | None = COMPILED,
) -> bytes:
    """The RecommendationUpdate that says what was just ranked for this person."""
    update = RecommendationUpdate(
        user_id=profile.user_id,
        version=version,
        ranked_at_ms=ranked_at_ms,
        caused_at_ms=caused_at_ms,
        current_to_ms=profile.last_event_at_ms,
    )
    fields = compiled.fields(recommendations) if compiled is not None else None
    if fields is not None:
        return update.SerializeToString() + fields  # they are its last
    add_recommendations(update, recommendations)
    return update.SerializeToString()


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


def _seen(recommendations: Iterable[Recommendation | update_pb2.Recommendation]) -> bytes:
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
    return "\x1e".join(parts).encode()


def _fill_reason(message: update_pb2.Reason, reason: Reason) -> None:
    message.together = reason.together
    message.visits = reason.visits
    message.category = reason.category
    message.interval_days = reason.interval_days
    for money, said in ((message.price_before, reason.price_before), (message.price_now, reason.price_now)):
        if said is not None:
            money.minor_units, money.currency_code = said
