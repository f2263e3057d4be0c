"""Every setting of Tidings, declared once: read from a TOML file and the environment, validated as a whole.

``load_settings(path)`` reads ``tidings.toml`` (or what TIDINGS_SETTINGS names); ``TIDINGS_KAFKA__PARTITIONS=16`` overrides one value.
Secrets are references, ``env:NAME`` or ``file:/path``, resolved as they are read and kept out of every repr.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, Discriminator, Field, SecretStr, Tag, ValidationError, field_validator, model_validator

from app.errors import SettingsError
from app.expressions import WrongExpressionError, compile_expression
from app.settings.kafka import KafkaSettings
from app.settings.section import SecretRef, Section
from app.settings.targets import (
    BrazeSettings,
    CustomerIoSettings,
    HubSpotSettings,
    IterableSettings,
    KlaviyoSettings,
    MailchimpSettings,
    PlatformSettings,
    SendGridSettings,
    TargetSettings,
    WebhookSettings,
)

__all__ = [
    "BrazeSettings",
    "CustomerIoSettings",
    "DeliverySettings",
    "HttpSettings",
    "HubSpotSettings",
    "IterableSettings",
    "KafkaSettings",
    "KlaviyoSettings",
    "MailchimpSettings",
    "PlatformSettings",
    "RankingSettings",
    "RuleSettings",
    "Scope",
    "SendGridSettings",
    "Settings",
    "SlotSettings",
    "StrategyName",
    "TargetSettings",
    "TokenSettings",
    "WebhookSettings",
    "WorkerSettings",
    "load_settings",
]  # fmt: skip

Scope = Literal["ingest", "read", "operate"]
#: Each is a function of app/domain/strategies.
StrategyName = Literal[
    "for_you", "recently_viewed", "left_in_cart", "also_bought", "similar", "trending", "trending_in_category",
    "new_arrivals", "price_dropped", "back_in_stock", "buy_again", "in_the_shop",
]  # fmt: skip


def _check_expression(text: str) -> str:
    try:
        compile_expression(text)
    except WrongExpressionError as exc:
        raise ValueError(f"{exc}: {text}") from None
    return text


#: A condition on products: app/expressions.py.
Condition = Annotated[str, AfterValidator(_check_expression)]
Category = Annotated[str, Field(min_length=1, max_length=256)]
Brand = Annotated[str, Field(min_length=1, max_length=128)]
ProductId = Annotated[str, Field(min_length=1, max_length=128)]

#: Of a rule or a slot.
_NAME = r"[a-z0-9_-]{1,40}"


class WorkerSettings(Section):
    """One worker process."""

    data_dir: Path = Path("data")
    #: Copies of each table partition kept warm on other workers.
    standby_replicas: int = Field(0, ge=0, le=3)
    #: Records handed to an agent at once.
    batch_max_records: int = Field(5000, ge=1, le=10_000)
    #: Bytes of changed state after which a batch is flushed, whatever is left of its records.
    batch_max_bytes: int = Field(2_000_000, ge=100_000, le=6_000_000)
    #: Decoded objects kept, of all tables together, by an estimate of the memory that they take.
    cache_bytes: int = Field(160 * 1024**2, ge=8 * 1024**2)
    #: Decoded products of the catalog kept, some 2 kB each; the whole catalog is on disk.
    catalog_cache_products: int = Field(50_000, ge=100)
    #: Of RocksDB, for all tables of the worker: blocks, indexes, and what is written and not flushed.
    block_cache_bytes: int = Field(96 * 1024**2, ge=8 * 1024**2)
    #: A worker that lives and does not go on ends itself after so long. 0: never.
    watchdog_seconds: float = Field(30, ge=0, le=3600)


class RankingSettings(Section):
    """When and how long lists are made."""

    #: The bound from a folded event to the ranking of its user; a busy worker takes up to 80 ms more, one that is behind still more.
    tick_ms: int = Field(100, ge=10, le=10_000)
    list_length: int = Field(20, ge=1, le=50)
    #: How often a partition publishes its share of the global models.
    share_interval_seconds: float = Field(5, gt=0, le=600)


class RuleSettings(Section):
    """What is never shown, in no list and in no fallback. Out of stock, unpublished and expired products never are."""

    exclude_products: list[ProductId] = Field([], max_length=10_000)
    #: With all levels below each.
    exclude_categories: list[Category] = Field([], max_length=1_000)
    #: Conditions on products, each under a name of your own.
    exclude_when: dict[str, Condition] = Field({}, max_length=50)
    #: 0: what was bought may be shown at once.
    bought_within_days: int = Field(0, ge=0, le=3_650)
    #: The user attribute that names a region, and the product attribute that lists those it is sold in: both or none.
    region_user_attribute: str = Field("", max_length=64)
    region_product_attribute: str = Field("", max_length=64)
    #: Minor units; a product without a price is below it. 0: none.
    price_floor: int = Field(0, ge=0)

    @field_validator("exclude_when")
    @classmethod
    def _names_are_short(cls, conditions: dict[str, str]) -> dict[str, str]:
        for name in conditions:
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"the name {name!r} must be of 1 to 40 small letters, digits, _ and -")
        return conditions

    @model_validator(mode="after")
    def _region_has_two_sides(self) -> RuleSettings:
        if bool(self.region_user_attribute) != bool(self.region_product_attribute):
            raise ValueError("region_user_attribute and region_product_attribute must both be set, or none")
        return self


class MixSettings(Section):
    """A strategy and how much of a slot it gets."""

    strategy: StrategyName
    weight: int = Field(1, ge=1, le=100)
    #: 0: no limit.
    at_most: int = Field(0, ge=0, le=50)


class FilterSettings(Section):
    """What one slot shows."""

    #: With all levels below each; empty: all.
    categories: list[Category] = Field([], max_length=1_000)
    exclude_categories: list[Category] = Field([], max_length=1_000)
    brands: list[Brand] = Field([], max_length=1_000)
    exclude_brands: list[Brand] = Field([], max_length=1_000)
    #: Minor units, both inclusive. 0: no limit.
    price_from: int = Field(0, ge=0)
    price_to: int = Field(0, ge=0)
    #: A condition that a product must fulfil; empty: none.
    when: Annotated[str, AfterValidator(lambda text: _check_expression(text) if text else text)] = ""

    @model_validator(mode="after")
    def _price_range_is_one(self) -> FilterSettings:
        if 0 < self.price_to < self.price_from:
            raise ValueError("price_to must not be below price_from")
        return self


class BoostSettings(Section):
    """What the condition holds for has its score multiplied."""

    when: Condition
    factor: float = Field(ge=0.01, le=100)


class SlotSettings(Section):
    """A place where products are shown: what is mixed, what may be in it, and what fills it up."""

    name: str = Field(pattern=f"^{_NAME}$")
    length: int = Field(20, ge=1, le=50)
    mix: list[MixSettings] = Field([MixSettings(strategy="for_you")], min_length=1, max_length=12)
    #: In this order; trending, new_arrivals and in_the_shop always follow.
    fallback: list[StrategyName] = Field([], max_length=12)
    filters: FilterSettings = FilterSettings()
    boosts: list[BoostSettings] = Field([], max_length=20)
    #: 0: no limit. Each of a product's categories counts, by its first level ("top") or as a whole ("full").
    max_per_brand: int = Field(0, ge=0, le=50)
    max_per_category: int = Field(0, ge=0, le=50)
    category_level: Literal["top", "full"] = "top"
    #: What is not in the catalog, once the catalog holds any product.
    uncatalogued: Literal["hide", "show"] = "hide"

    @model_validator(mode="after")
    def _strategies_are_mixed_once(self) -> SlotSettings:
        names = [part.strategy for part in self.mix]
        for name in sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"{name} is in the mix twice")
        return self


class HttpSettings(Section):
    """The worker's own HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    #: How other workers reach this one; http://<host>:<port> when empty.
    advertised_url: str = ""
    max_body_bytes: int = Field(2_097_152, ge=1024)
    max_events_per_request: int = Field(10_000, ge=1)
    #: How long a worker waits for the owner of a user.
    forward_timeout_seconds: float = Field(2, gt=0, le=30)


class TokenSettings(Section):
    """A bearer token and what it may do."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    token: SecretRef
    scopes: list[Scope] = Field(min_length=1)

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        if len(token.get_secret_value()) < 16:
            raise ValueError("a token has at least 16 characters")
        return token


class DeliverySettings(Section):
    """What holds for all targets."""

    #: Networks that a target may resolve into although they are private, loopback or link-local.
    allow_networks: list[str] = Field([])
    #: Requests on the wire at once, over all targets.
    max_in_flight: int = Field(256, ge=1, le=10_000)
    #: People who are sent once more (``tidings resync``), at each target, over the whole fleet: while nobody has anything new.
    resync_per_second: float = Field(100, gt=0, le=100_000)

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks


def _kind_of(target: Any) -> Any:
    """A section without a kind is a webhook's."""
    return target.get("kind", "webhook") if isinstance(target, dict) else getattr(target, "kind", None)


class Settings(Section):
    """All of it."""

    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    ranking: RankingSettings = RankingSettings()
    rules: RuleSettings = RuleSettings()
    slots: list[SlotSettings] = Field([], max_length=50)
    http: HttpSettings = HttpSettings()
    delivery: DeliverySettings = DeliverySettings()
    tokens: list[TokenSettings] = Field([])
    targets: list[
        Annotated[
            Annotated[WebhookSettings, Tag("webhook")]
            | Annotated[SendGridSettings, Tag("sendgrid")]
            | Annotated[MailchimpSettings, Tag("mailchimp")]
            | Annotated[HubSpotSettings, Tag("hubspot")]
            | Annotated[KlaviyoSettings, Tag("klaviyo")]
            | Annotated[BrazeSettings, Tag("braze")]
            | Annotated[CustomerIoSettings, Tag("customerio")]
            | Annotated[IterableSettings, Tag("iterable")],
            Discriminator(_kind_of),
        ]
    ] = Field([])

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        named: dict[str, list[str]] = {
            "targets": [t.name for t in self.targets], "tokens": [t.name for t in self.tokens], "slots": [s.name for s in self.slots],
        }  # fmt: skip
        for what, names in named.items():
            for name in sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"two {what} are named {name!r}")
        return self


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings from a TOML file, then the environment, then ``overrides`` (nested dict), the later winning.

    Raises SettingsError with every problem found, each naming its setting.
    """
    named = path or (Path(p) if (p := os.environ.get("TIDINGS_SETTINGS")) else None)
    file = named or Path("tidings.toml")
    data: dict[str, Any] = {}
    if named is not None or file.exists():
        try:
            data = tomllib.loads(file.read_text())
        except OSError as exc:
            raise SettingsError([f"cannot read it: {exc.strerror}"], str(file)) from None
        except tomllib.TOMLDecodeError as exc:
            raise SettingsError([f"not TOML: {exc}"], str(file)) from None
    _merge(data, _from_environment())
    _merge(data, overrides or {})
    try:
        return Settings.model_validate(data)
    except ValidationError as exc:
        raise SettingsError(
            [_describe(e, data) for e in exc.errors(include_input=False, include_url=False)], str(file) if data else "the settings"
        ) from None


def _from_environment() -> dict[str, Any]:
    """TIDINGS_SECTION__KEY=value, for the scalar settings; a list of strings is separated by commas."""
    found: dict[str, Any] = {}
    sections = {name: field.annotation for name, field in Settings.model_fields.items() if name not in ("tokens", "targets", "slots")}
    for variable, value in os.environ.items():
        head, _, key = variable.removeprefix("TIDINGS_").lower().partition("__")
        if variable.startswith("TIDINGS_") and key and head in sections:
            section: Any = sections[head]
            is_list = key in section.model_fields and get_origin(section.model_fields[key].annotation) is list
            found.setdefault(head, {})[key] = [v.strip() for v in value.split(",") if v.strip()] if is_list else value
    return found


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _describe(error: Any, data: Any) -> str:
    """Where it is and what is wrong; a table of a list is called by its name where that is right: slots.home.length."""
    place: list[str] = []
    for part in error["loc"]:
        if place[:1] == ["targets"] and len(place) == 2 and isinstance(data, dict) and part == _kind_of(data):
            continue  # which of the kinds it was held against
        try:
            data = data[part]
        except (LookupError, TypeError):
            data = None
        named = data.get("name") if isinstance(part, int) and isinstance(data, dict) else None
        place.append(named if isinstance(named, str) and re.fullmatch(_NAME, named) else str(part))
    return f"{'.'.join(place) or 'settings'}: {error['msg'].removeprefix('Value error, ')}"
