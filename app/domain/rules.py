"""The rules that hold for every list, personal or fallback, and the filters of one slot: what may not be shown, and which rule says so.

Rules are closed: what cannot be checked is not shown. A product of which the catalog knows nothing is judged as one without price,
brand, category and attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.catalog import LEVEL, CatalogProduct
from app.domain.strategies.query import DAY_MS
from app.expressions import Expression, compile_expression
from app.settings import FilterSettings, RuleSettings
from tidings.state.v1.profile_pb2 import Profile

_NOBODY: frozenset[str] = frozenset()


class Person(NamedTuple):
    """What the rules ask of a person."""

    #: What was bought within the days that the rule names.
    bought: frozenset[str]
    #: Where the person is; None if that is not known.
    region: str | None


#: Compared by identity: a product remembers the verdict of these very rules.
@dataclass(frozen=True, eq=False)
class Rules:
    """Out of stock, unpublished and expired hold always; the others as far as they are set."""

    exclude_products: frozenset[str] = frozenset()
    #: With all levels below each.
    exclude_categories: tuple[str, ...] = ()
    #: With the names of the rules. What one holds for is excluded, and what it fails for.
    exclude_when: tuple[tuple[str, Expression], ...] = ()
    #: 0: what was bought may be shown at once.
    bought_within_days: int = 0
    #: The person's attribute that names a region, and the product's that lists regions; without the latter a product is sold everywhere.
    region_user_attribute: str = ""
    region_product_attribute: str = ""
    #: Minor units, whatever the currency; a product without a price is below it. 0: none.
    price_floor: int = 0

    #: Whether every product of which the catalog knows nothing may be shown to everybody.
    admits_the_unknown: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        says_something = self.exclude_products or self.exclude_when or self.price_floor or self.bought_within_days
        object.__setattr__(self, "admits_the_unknown", not says_something)

    @classmethod
    def of(cls, settings: RuleSettings) -> Rules:
        return cls(
            exclude_products=frozenset(settings.exclude_products),
            exclude_categories=tuple(settings.exclude_categories),
            exclude_when=tuple((name, compile_expression(text)) for name, text in settings.exclude_when.items()),
            bought_within_days=settings.bought_within_days,
            region_user_attribute=settings.region_user_attribute,
            region_product_attribute=settings.region_product_attribute,
            price_floor=settings.price_floor,
        )

    def person(self, profile: Profile | None, now_ms: int) -> Person:
        """What the rules ask of this person at this moment. They hold for someone who denied profiling, too."""
        bought, region = _NOBODY, None
        if profile is not None:
            if self.bought_within_days:
                since_ms = now_ms - self.bought_within_days * DAY_MS
                purchases = profile.purchases
                times = zip(purchases.product_ids, purchases.last_at_ms, strict=True)
                bought = frozenset([product_id for product_id, at_ms in times if at_ms >= since_ms])
            if self.region_product_attribute:
                said = [a.text for a in profile.attributes if a.name == self.region_user_attribute and a.HasField("text")]
                region = said[0] if said else None
        return Person(bought, region)

    def removed_by(self, product: CatalogProduct, person: Person, now_ms: int) -> str | None:
        """The name of the first rule that removes the product for this person at this moment; None if it may be shown."""
        if (rule := self._rule_of_product(product)) is not None:
            return rule
        if product.published_at_ms > now_ms:
            return "unpublished"
        if 0 < product.expires_at_ms <= now_ms:
            return "expired"
        if product.product_id in person.bought:
            return "bought"
        if self.is_sold_elsewhere(product, person):
            return "region"
        return None

    def removes(self, product: CatalogProduct) -> bool:
        """Whether a rule removes it for everybody and at all times; remembered by the product, for whoever asks for it often."""
        removed = product.verdicts[self] = self._rule_of_product(product) is not None
        return removed

    def is_sold_elsewhere(self, product: CatalogProduct, person: Person) -> bool:
        """Whether the product is sold in some regions only, and the person is in none of them, as far as is known."""
        regions = product.attributes.get(self.region_product_attribute, ()) if self.region_product_attribute else ()
        return bool(regions) and person.region not in regions

    def _rule_of_product(self, product: CatalogProduct) -> str | None:
        if product.product_id in self.exclude_products:
            return "excluded_product"
        if not product.in_stock:
            return "out_of_stock"
        if is_in_one_of(product, self.exclude_categories):
            return "excluded_category"
        if self.price_floor and (product.price is None or product.price < self.price_floor):
            return "price_floor"
        for name, expression in self.exclude_when:
            if holds(expression, product) is not False:
                return f"exclude_when.{name}"
        return None


@dataclass(frozen=True, eq=False)
class Filters:
    """What one slot shows; empty says nothing."""

    #: With all levels below each.
    categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    brands: frozenset[str] = frozenset()
    exclude_brands: frozenset[str] = frozenset()
    #: Minor units, whatever the currency, both inclusive; a product without a price is not in any range. 0: no limit.
    price_from: int = 0
    price_to: int = 0
    when: Expression | None = None

    @classmethod
    def of(cls, settings: FilterSettings) -> Filters | None:
        """None if they say nothing."""
        if settings == FilterSettings():
            return None
        return cls(
            categories=tuple(settings.categories),
            exclude_categories=tuple(settings.exclude_categories),
            brands=frozenset(settings.brands),
            exclude_brands=frozenset(settings.exclude_brands),
            price_from=settings.price_from,
            price_to=settings.price_to,
            when=compile_expression(settings.when) if settings.when else None,
        )

    def removed_by(self, product: CatalogProduct) -> str | None:
        """The name of the first filter that the product does not pass."""
        if self.categories and not is_in_one_of(product, self.categories):
            return "filters.categories"
        if is_in_one_of(product, self.exclude_categories):
            return "filters.exclude_categories"
        if self.brands and product.brand not in self.brands:
            return "filters.brands"
        if product.brand in self.exclude_brands:
            return "filters.exclude_brands"
        price = product.price
        if self.price_from and (price is None or price < self.price_from):
            return "filters.price_from"
        if self.price_to and (price is None or price > self.price_to):
            return "filters.price_to"
        if self.when is not None and holds(self.when, product) is not True:
            return "filters.when"
        return None

    def admits(self, product: CatalogProduct) -> bool:
        """Whether it passes all, remembered."""
        removed = product.verdicts.get(self)
        if removed is None:
            removed = product.verdicts[self] = self.removed_by(product) is not None
        return not removed


def is_in_one_of(product: CatalogProduct, categories: tuple[str, ...]) -> bool:
    """Whether one of the product's categories is one of these, or a level below one."""
    return any(has == category or has.startswith(category + LEVEL) for category in categories for has in product.categories)


def holds(expression: Expression, product: CatalogProduct) -> bool | None:
    """None if the expression fails for this product."""
    names = {
        "product_id": product.product_id,
        "title": product.title,
        "brand": product.brand,
        "price": product.price,
        "list_price": product.list_price,
        "currency": product.currency,
        "categories": product.categories,
    }
    return expression.holds(names, product.attributes)
