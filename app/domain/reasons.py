"""Why a product is in a list: the reason's name on the wire, and a sentence for the person who gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from app.domain.json_values import MINOR_DIGITS
from app.domain.ranking import NeighbourSource
from app.domain.recommendations import Reason, Recommendation, reason_of
from tidings.updates.v1 import update_pb2
from tidings.updates.v1.update_pb2 import ReasonKind

#: In webhooks, answers and pages. A kind that a newer worker wrote is "other".
REASON_NAMES: Mapping[int, str] = MappingProxyType(
    {kind: name.removeprefix("REASON_KIND_").lower() for name, kind in ReasonKind.items() if kind != ReasonKind.REASON_KIND_UNSPECIFIED}
)
OTHER_REASON = "other"


def reason_text(reason: Reason | update_pb2.Reason, title_of: Callable[[str], str]) -> str:
    """A sentence. ``title_of`` says how a product is called: by its title, or by its id where none is known."""
    why = reason if isinstance(reason, Reason) else reason_of(reason)
    cause = title_of(why.because_of) if why.because_of else ""
    match why.kind:
        case ReasonKind.REASON_KIND_ALSO_VIEWED:
            return _also_viewed(why, cause)
        case ReasonKind.REASON_KIND_SEEN_NOW:
            return f"You looked at this just now{_in_all(why.times_seen)}."
        case ReasonKind.REASON_KIND_SEEN_BEFORE:
            return f"You looked at this {_times(why.times_seen)}before."
        case ReasonKind.REASON_KIND_TRENDING:
            return "Popular right now."
        case ReasonKind.REASON_KIND_LEFT_IN_CART:
            return "You left this in your cart."
        case ReasonKind.REASON_KIND_ALSO_BOUGHT:
            return _also_bought(why, cause)
        case ReasonKind.REASON_KIND_SIMILAR:
            return f"Similar to {cause}, which you looked at." if cause else "Similar to what you looked at."
        case ReasonKind.REASON_KIND_TRENDING_IN_CATEGORY:
            return f"Popular right now in {why.category}." if why.category else "Popular right now."
        case ReasonKind.REASON_KIND_NEW_ARRIVAL:
            return "New in the shop."
        case ReasonKind.REASON_KIND_PRICE_DROPPED:
            return _price_dropped(why)
        case ReasonKind.REASON_KIND_BACK_IN_STOCK:
            return "Back in stock since you looked at it."
        case ReasonKind.REASON_KIND_BUY_AGAIN:
            return _buy_again(why.interval_days)
        case ReasonKind.REASON_KIND_IN_THE_SHOP:
            return "From the shop."
        case _:
            return "Picked for you."


def with_counts(recommendations: Iterable[Recommendation], source: NeighbourSource) -> list[Recommendation]:
    """The same list, and of whoever visited the cause, how many visited the product: told where it is known.

    It reads the cause's neighbours, so it is for lists that someone will see, not for each that is ranked.
    """
    known: dict[str, tuple[int, Mapping[str, int]]] = {}
    counted = []
    for recommendation in recommendations:
        reason = recommendation.reason
        if reason.kind == ReasonKind.REASON_KIND_ALSO_VIEWED and reason.because_of and not reason.visits:
            if reason.because_of not in known:
                known[reason.because_of] = source.together(reason.because_of)
            visits, shared = known[reason.because_of]
            if together := shared.get(recommendation.product_id, 0):
                recommendation = recommendation._replace(reason=reason._replace(together=together, visits=max(visits, together)))
        counted.append(recommendation)
    return counted


def money_text(minor_units: int, currency: str) -> str:
    """``12.99 EUR``; with as many decimals as the currency has, two for the shop's own ("")."""
    digits = MINOR_DIGITS.get(currency, 2)
    amount = f"{minor_units // 10**digits}.{minor_units % 10**digits:0{digits}d}" if digits else str(minor_units)
    return f"{amount} {currency}".rstrip()


def _also_viewed(reason: Reason, cause: str) -> str:
    if not cause:
        return "People like you viewed this."
    if reason.visits:
        return f"You viewed {cause}; {reason.together} of {reason.visits} who did also viewed this."
    return f"You viewed {cause}; others who did also viewed this."


def _also_bought(reason: Reason, cause: str) -> str:
    if not cause:
        return "People like you bought this."
    if reason.visits:
        return f"{reason.together} of {reason.visits} who bought {cause} also bought this."
    return f"Others who bought {cause} also bought this."


def _price_dropped(reason: Reason) -> str:
    if reason.price_before is None or reason.price_now is None:
        return "It costs less than when you last looked."
    return f"The price dropped from {money_text(*reason.price_before)} to {money_text(*reason.price_now)} since you last looked."


def _buy_again(days: int) -> str:
    if days < 1:
        return "You buy this again and again."
    return f"You buy this about every {days} days." if days > 1 else "You buy this about every day."


def _in_all(count: int) -> str:
    return "" if count < 2 else f", {_times(count)}in all"


def _times(count: int) -> str:
    return "" if count < 2 else "twice " if count == 2 else f"{count} times "
