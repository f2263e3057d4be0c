"""One real request to a destination: about whom, how it went, and what became of the job if it became one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from app.cli.dead_deliveries import outbox_entry
from app.cli.latest_values import latest_values
from app.delivery.addresses import Guard
from app.delivery.client import Client, HttpClient, NoResponse
from app.delivery.outbox import delivery_of
from app.delivery.scrubbing import scrubbed
from app.destinations import Destination, JobBased
from app.destinations.outcomes import Accepted, PerPerson, Reading, Rejected, Running
from app.destinations.requests import Part, Rendered
from app.domain.catalog import CatalogProduct, NoCatalog
from app.domain.catalog_fold import catalog_product
from app.domain.fields import email_is_denied
from app.errors import CommandError
from app.settings import Settings
from app.streams.fold_products import PRODUCTS
from app.streams.topics import TopicNames
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import REASON_KIND_IN_THE_SHOP, RecommendationUpdate

#: Whom nobody is: the domain is reserved for examples (RFC 2606).
INVENTED_USER, INVENTED_EMAIL = "tidings-test", "tidings-test@example.com"
#: Of a question about a job to the next, whatever the destination says.
_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.5, 10.0

Sleep = Callable[[float], Awaitable[None]]


class ListedProducts(NoCatalog):
    """A catalog of a few products."""

    def __init__(self, products: list[CatalogProduct]) -> None:
        self._products = {product.product_id: product for product in products}
        self.is_empty = not products

    def product(self, product_id: str) -> CatalogProduct | None:
        return self._products.get(product_id)


@dataclass(frozen=True)
class Trial:
    """What was sent and what came of it. ``found`` is Rejected without a ``status`` if nothing could be said of the person."""

    found: Reading | Rejected | NoResponse
    #: (method, host) of the request; None if there was none.
    sent: tuple[str, str] | None = None
    status: int | None = None
    seconds: float = 0.0
    #: Questions about its job.
    polls: int = 0


def client_of(settings: Settings, target: Destination) -> HttpClient:
    """The client that a worker would use."""
    return HttpClient(
        guard=Guard(settings.delivery.allow_networks), timeout_seconds=target.timeout_seconds, concurrency=1,
        clock=lambda: time.time_ns() // 1_000_000, response_bytes=target.limits.response_bytes,
    )  # fmt: skip


async def try_out(target: Destination, rendered: Rendered, client: Client, *, wait_seconds: float, sleep: Sleep = asyncio.sleep) -> Trial:
    """Send one person's state, and ask about its job for ``wait_seconds`` at most."""
    part = target.encode(rendered)
    if isinstance(part, Rejected):
        return Trial(part)
    request = target.request([part])
    began = time.monotonic()
    answer = await client.send(request, lambda: True)
    sent, seconds = (request.method, host_of(request.url)), time.monotonic() - began
    if isinstance(answer, NoResponse):
        return Trial(answer, sent, None, seconds)
    trial = Trial(target.read([part], scrubbed(answer, request)), sent, answer.status, seconds)
    match trial.found:
        case PerPerson((Accepted(job),)) if isinstance(target, JobBased):
            return await _follow(target, job, part, client, trial, wait_seconds, sleep)
        case _:
            return trial


async def _follow(target: JobBased, job: str, part: Part, client: Client, trial: Trial, wait_seconds: float, sleep: Sleep) -> Trial:
    """Ask about the job until it says what became of the person, or the time is over."""
    began, polls, left = time.monotonic(), 0, wait_seconds
    while left > 0:
        poll = target.poll(job)
        answer = await client.send(poll, lambda: True)
        polls += 1
        seconds = trial.seconds + time.monotonic() - began
        if isinstance(answer, NoResponse):
            return replace(trial, found=answer, seconds=seconds, polls=polls)
        reading = target.read_poll(job, [part], scrubbed(answer, poll))
        if not isinstance(reading, Running):
            return replace(trial, found=reading, status=answer.status, seconds=seconds, polls=polls)
        job = reading.job or job
        pause = min(max(reading.after_ms / 1000, _MIN_POLL_SECONDS), _MAX_POLL_SECONDS, left)
        left -= pause
        await sleep(pause)
    return replace(trial, found=PerPerson((Accepted(job),)), seconds=trial.seconds + time.monotonic() - began, polls=polls)


def host_of(url: str) -> str:
    """``https://host:port``: the rest of an address may be a credential."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def invented(user_id: str, email: str, email_attribute: str, at_ms: int) -> Rendered:
    """A person with three products. ``at_ms``: now, which is also the version."""
    profile = Profile(user_id=user_id, event_count=3, first_event_at_ms=at_ms, last_event_at_ms=at_ms)
    profile.attributes.add(name=email_attribute, text=email)
    return Rendered(_invented_update(user_id, at_ms), profile, ListedProducts(_INVENTED))


async def as_known(settings: Settings, user_id: str, target: str, email: str | None, email_attribute: str, at_ms: int) -> Rendered:
    """The person with the list that they have, or with an invented one if they have none.

    Raises CommandError if the person is unknown, gave no consent, or is blocked there.
    """
    kafka, names = settings.kafka, TopicNames.of(settings.kafka)
    key = user_id.encode()
    async with latest_values(kafka, names.changelogs["profiles"], lambda _, value: value, keys=frozenset({key})) as found:
        profile = next((Profile.FromString(value) for _, value in found.items()), None)
    if profile is None:
        raise CommandError(f"no event of {user_id!r} was applied; without --user, somebody is invented")
    if email_is_denied(profile):
        raise CommandError(f"{user_id!r} gave no consent to personalised e-mail: nothing is sent about them, not even to try it")
    if email:
        _set_text(profile, email_attribute, email)
    entry = await outbox_entry(kafka, user_id)
    delivery = delivery_of(entry, target) if entry is not None else None
    if delivery is not None and delivery.blocked:
        raise CommandError(f"{user_id!r} is blocked at {target} ({delivery.last_error}): `tidings deliveries retry --user` would lift that")
    if entry is None or not entry.update.recommendations:
        return Rendered(_invented_update(user_id, at_ms), profile, ListedProducts(_INVENTED))
    ids = frozenset(one.product_id.encode() for one in entry.update.recommendations)
    async with latest_values(kafka, names.changelogs["products"], lambda _, value: value, keys=ids) as products:
        listed = [product for _, value in products.items() if (product := catalog_product(PRODUCTS.decode(value))) is not None]
    return Rendered(entry.update, profile, ListedProducts(listed))


def _set_text(profile: Profile, name: str, text: str) -> None:
    for attribute in profile.attributes:
        if attribute.name == name:
            attribute.text = text
            return
    profile.attributes.add(name=name, text=text)


_INVENTED = [
    CatalogProduct(
        f"test-{number}", f"{title} (a test)", f"https://shop.example/{number}", f"https://shop.example/{number}.jpg", price,
        currency="EUR", brand="Tidings", categories=("Tests",),
    )
    for number, (title, price) in enumerate([("Red mug", 1299), ("Green tea", 495), ("Blue kettle", 3900)], 1)
]  # fmt: skip


def _invented_update(user_id: str, at_ms: int) -> RecommendationUpdate:
    update = RecommendationUpdate(user_id=user_id, version=at_ms, ranked_at_ms=at_ms, caused_at_ms=at_ms, current_to_ms=at_ms)
    for place, product in enumerate(_INVENTED):
        one = update.recommendations.add(product_id=product.product_id, score=1.0 / (place + 1))
        one.reason.kind = REASON_KIND_IN_THE_SHOP
    return update
