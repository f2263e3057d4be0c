"""A slot: a place where products are shown, and the list that a person gets there.

Strategies are mixed, products that a rule or a filter removes are left out, and what is missing comes from the fallback chain, which ends
in whatever the shop sells and obeys the same rules, filters and caps. A list may be shorter than the slot, for caps are never relaxed; but
it is empty only if nothing that was proposed may be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from typing import Literal, NamedTuple

from app.domain.catalog import LEVEL, Catalog, CatalogProduct
from app.domain.recommendations import Recommendation
from app.domain.rules import Filters, Person, Rules, holds
from app.domain.strategies import STRATEGIES, Query, Strategy
from app.domain.strategies.query import MAX_PROPOSED
from app.expressions import Expression, compile_expression
from app.settings import Settings, SlotSettings

#: Every fallback chain ends in these.
LAST_FALLBACKS = ("trending", "new_arrivals", "in_the_shop")
#: While there is nothing at all to show, the shop is looked through so far.
MAX_LAST_RESORT = 5_000
#: While caps leave a list short that is not empty, so many that a strategy proposes are looked at before it is given up, and not all: caps
#: that cannot be met would make every list as dear as a hundred.
MAX_UNDER_CAPS = 100
#: Boosts order the best so many that a strategy proposes; what comes after them stays where it is.
MAX_BOOSTED = 200
#: What was removed is told up to this number.
MAX_REMOVED = 100
_NEXT_ASKED = 4


@dataclass(frozen=True, slots=True)
class MixPart:
    """A strategy and how much of a list it gets."""

    strategy: str
    weight: int = 1
    #: 0: no limit. What the fallback chain adds does not count.
    at_most: int = 0


@dataclass(frozen=True, eq=False)
class Boost:
    """What the expression holds for has its score multiplied; where it fails, nothing happens."""

    when: Expression
    factor: float


@dataclass(frozen=True, eq=False)
class Slot:
    """Settings of a slot, ready to be used."""

    name: str
    length: int = 20
    mix: tuple[MixPart, ...] = (MixPart("for_you"),)
    #: Strategies, in this order; the last fallbacks follow.
    fallback: tuple[str, ...] = ()
    filters: Filters | None = None
    boosts: tuple[Boost, ...] = ()
    #: Products of one brand, and of one category: its first level, or the whole of it. Each of a product's categories counts. 0: no limit.
    max_per_brand: int = 0
    max_per_category: int = 0
    category_level: Literal["top", "full"] = "top"
    #: A product that is not in the catalog, once the catalog holds any.
    uncatalogued: Literal["hide", "show"] = "hide"

    #: The strategy of a slot that takes one as it is.
    only: Strategy | None = field(init=False, repr=False)
    chain: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        is_plain = len(self.mix) == 1 and not (
            self.mix[0].at_most or self.filters or self.boosts or self.max_per_brand or self.max_per_category
        )
        object.__setattr__(self, "only", STRATEGIES[self.mix[0].strategy] if is_plain else None)
        object.__setattr__(self, "chain", tuple(dict.fromkeys((*self.fallback, *LAST_FALLBACKS))))

    @classmethod
    def of(cls, settings: SlotSettings) -> Slot:
        return cls(
            name=settings.name,
            length=settings.length,
            mix=tuple(MixPart(part.strategy, part.weight, part.at_most) for part in settings.mix),
            fallback=tuple(settings.fallback),
            filters=Filters.of(settings.filters),
            boosts=tuple(Boost(compile_expression(boost.when), boost.factor) for boost in settings.boosts),
            max_per_brand=settings.max_per_brand,
            max_per_category=settings.max_per_category,
            category_level=settings.category_level,
            uncatalogued=settings.uncatalogued,
        )


def slots_of(settings: Settings) -> dict[str, Slot]:
    """The slots by name. ``for_you`` is always among them: it is the list that updates carry."""
    slots = {"for_you": Slot("for_you", settings.ranking.list_length)}
    slots.update((slot.name, Slot.of(slot)) for slot in settings.slots)
    return slots


class Removed(NamedTuple):
    """A product that a strategy proposed and that was not shown."""

    product_id: str
    rule: str
    strategy: str


class Selection(NamedTuple):
    """What a person gets in a slot."""

    #: Best first. Scores of different strategies cannot be compared: one above that of the product before is lowered to it, so that who
    #: sorts by score gets the list as it stands.
    recommendations: list[Recommendation]
    #: In the order in which they were proposed, each product once, at most 100; empty unless it was asked for.
    removed: Sequence[Removed] = ()


def recommend(query: Query, slot: Slot, rules: Rules, *, explain: bool = False) -> Selection:
    """The list of the slot for the person of the query, best first. ``explain``: tell what was removed, too."""
    if slot.only is not None and not explain and shows_everything(slot, rules, query.catalog):
        found = slot.only(query, slot.length)
        if len(found) == slot.length:
            return Selection(found)
    return _Choice(query, slot, rules, explain).made()


def shows_everything(slot: Slot, rules: Rules, catalog: Catalog) -> bool:
    """Whether neither rules nor filters can hide anything from anybody: nothing is known of any product, and nothing is asked."""
    return rules.admits_the_unknown and slot.filters is None and catalog.is_empty


def may_be_shown(product_id: str, slot: Slot, rules: Rules, person: Person, catalog: Catalog, now_ms: int) -> bool:
    """Whether rules and filters admit a product that was chosen before. Caps were kept when it was."""
    return _gate(slot, rules, person, catalog, now_ms)(product_id)


class _Choice:
    """A list while it is made."""

    def __init__(self, query: Query, slot: Slot, rules: Rules, explain: bool) -> None:
        self._query = query
        self._slot = slot
        self._rules = rules
        self._person = rules.person(query.profile, query.now_ms)
        self._admits = _gate(slot, rules, self._person, query.catalog, query.now_ms)
        self._is_capped = bool(slot.max_per_brand or slot.max_per_category)
        self._chosen: dict[str, Recommendation] = {}
        self._per_brand: dict[str, int] = {}
        self._per_category: dict[str, int] = {}
        self._removed: dict[str, Removed] | None = {} if explain else None

    def made(self) -> Selection:
        self._deal()
        slot, chosen = self._slot, self._chosen
        for name in slot.chain:
            if len(chosen) >= slot.length:
                break
            self._take(name, self._proposals(name), slot.length)
        if not chosen:
            newest = STRATEGIES["in_the_shop"](self._query, MAX_LAST_RESORT)
            self._take("in_the_shop", iter(newest[MAX_PROPOSED:]), slot.length)
        return Selection(_falling(chosen.values()), list(self._removed.values()) if self._removed is not None else ())

    def _deal(self) -> None:
        """Let the strategies of the mix take turns by their weights: smooth weighted round robin, the first of the mix at a tie."""
        slot, chosen = self._slot, self._chosen
        if len(slot.mix) == 1:
            part = slot.mix[0]
            self._take(part.strategy, self._proposals(part.strategy), min(slot.length, part.at_most or slot.length))
            return
        proposals = [self._proposals(part.strategy) for part in slot.mix]
        taken = [0] * len(slot.mix)
        credit = [0] * len(slot.mix)
        playing = list(range(len(slot.mix)))
        while playing and len(chosen) < slot.length:
            for turn in playing:
                credit[turn] += slot.mix[turn].weight
            turn = max(playing, key=credit.__getitem__)
            part = slot.mix[turn]
            before = len(chosen)
            self._take(part.strategy, proposals[turn], before + 1)
            taken[turn] += len(chosen) - before
            if len(chosen) == before or taken[turn] == part.at_most:
                playing.remove(turn)
            credit[turn] -= sum(slot.mix[other].weight for other in playing)

    def _take(self, strategy: str, proposals: Iterator[Recommendation], until: int) -> None:
        """Choose from the proposals until the list has so many products, or there are no more."""
        chosen, admits, is_capped = self._chosen, self._admits, self._is_capped
        if len(chosen) >= until:
            return
        for proposed in proposals:
            product_id = proposed.product_id
            if product_id in chosen:
                continue
            if admits(product_id) and not (is_capped and self._cap_of(product_id)):
                chosen[product_id] = proposed
                if is_capped:
                    self._count(product_id)
                if len(chosen) >= until:
                    return
            elif (removed := self._removed) is not None and product_id not in removed and len(removed) < MAX_REMOVED:
                removed[product_id] = Removed(product_id, self._rule_of(product_id) or "unknown", strategy)

    def _proposals(self, name: str) -> Iterator[Recommendation]:
        """What a strategy proposes, best first; it is asked for more when that is used up."""
        strategy, query, boosts = STRATEGIES[name], self._query, self._slot.boosts
        asked = self._slot.length + self._slot.length // 2
        if boosts:
            asked = max(asked, MAX_BOOSTED)
        given = 0
        while True:
            found = strategy(query, asked)
            count = len(found)
            if boosts and not given:
                boosted = [self._boosted(recommendation) for recommendation in found[:MAX_BOOSTED]]
                found[:MAX_BOOSTED] = sorted(boosted, key=lambda recommendation: -recommendation.score)
            yield from found[given:]
            if count < asked or asked >= MAX_PROPOSED or (count >= MAX_UNDER_CAPS and self._is_capped and self._chosen):
                return
            given, asked = count, min(_NEXT_ASKED * asked, MAX_PROPOSED)

    def _boosted(self, proposed: Recommendation) -> Recommendation:
        if (product := self._query.catalog.product(proposed.product_id)) is None:
            return proposed
        score = proposed.score
        for boost in self._slot.boosts:
            is_boosted = product.verdicts.get(boost)
            if is_boosted is None:
                is_boosted = product.verdicts[boost] = holds(boost.when, product) is True
            if is_boosted:
                score *= boost.factor
        return proposed._replace(score=score)

    def _rule_of(self, product_id: str) -> str | None:
        """Why a product is not chosen: the rule, the filter, or the cap that it would break."""
        catalog, filters = self._query.catalog, self._slot.filters
        if (product := catalog.product(product_id)) is None:
            if not _shows_uncatalogued(self._slot, catalog):
                return "uncatalogued"
            product = CatalogProduct(product_id)
        if (rule := self._rules.removed_by(product, self._person, self._query.now_ms)) is not None:
            return rule
        return (filters.removed_by(product) if filters is not None else None) or self._cap_of(product_id)

    def _cap_of(self, product_id: str) -> str | None:
        """The cap that the product would break."""
        slot = self._slot
        if (product := self._query.catalog.product(product_id)) is None:
            return None
        if slot.max_per_brand and product.brand and self._per_brand.get(product.brand, 0) >= slot.max_per_brand:
            return "max_per_brand"
        if slot.max_per_category and any(self._per_category.get(c, 0) >= slot.max_per_category for c in self._categories_of(product)):
            return "max_per_category"
        return None

    def _count(self, product_id: str) -> None:
        if (product := self._query.catalog.product(product_id)) is None:
            return
        if product.brand:
            self._per_brand[product.brand] = self._per_brand.get(product.brand, 0) + 1
        for category in self._categories_of(product):
            self._per_category[category] = self._per_category.get(category, 0) + 1

    def _categories_of(self, product: CatalogProduct) -> Collection[str]:
        return _capped_categories(product.categories, self._slot.category_level)


def _falling(chosen: Iterable[Recommendation]) -> list[Recommendation]:
    """No score above the one before."""
    least = inf
    falling = []
    for recommendation in chosen:
        if recommendation.score > least:
            recommendation = recommendation._replace(score=least)
        least = recommendation.score
        falling.append(recommendation)
    return falling


def _shows_uncatalogued(slot: Slot, catalog: Catalog) -> bool:
    return slot.uncatalogued == "show" or catalog.is_empty


def _gate(slot: Slot, rules: Rules, person: Person, catalog: Catalog, now_ms: int) -> Callable[[str], bool]:
    """Whether rules and filters admit a product. One function with all in reach, for it is asked of every product that is proposed."""
    product_of, bought, filters = catalog.product, person.bought, slot.filters
    shows_uncatalogued = _shows_uncatalogued(slot, catalog)
    admits_the_unknown = rules.admits_the_unknown and filters is None
    is_regional = bool(rules.region_product_attribute)

    def admits(product_id: str) -> bool:
        product = product_of(product_id)
        if product is None:
            if not shows_uncatalogued:
                return False
            if admits_the_unknown:
                return True
            product = CatalogProduct(product_id)
        removed = product.verdicts.get(rules)
        if removed is None:
            removed = rules.removes(product)
        if removed or product.published_at_ms > now_ms or 0 < product.expires_at_ms <= now_ms or product_id in bought:
            return False
        if is_regional and rules.is_sold_elsewhere(product, person):
            return False
        return filters is None or filters.admits(product)

    return admits


@lru_cache(maxsize=4096)
def _capped_categories(categories: tuple[str, ...], level: Literal["top", "full"]) -> frozenset[str]:
    return frozenset(category.split(LEVEL)[0] if level == "top" else category for category in categories)
