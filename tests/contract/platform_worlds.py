"""What the suite over HTTP stands on: a stand-in of each kind of destination that holds each request against its contract, and people."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook as Verifier

from app.delivery.addresses import Guard
from app.delivery.client import HttpClient
from app.destinations import Destination, HasFields, destination_of
from app.destinations.requests import Part, Rendered, Request, Response
from app.settings import (
    BrazeSettings,
    CustomerIoSettings,
    HubSpotSettings,
    IterableSettings,
    KlaviyoSettings,
    MailchimpSettings,
    SendGridSettings,
    WebhookSettings,
)
from app.web.demo.platforms import PLATFORMS, Platform
from app.web.demo.platforms.platform import Answer, Call, Check, Person, Route
from tests.unit.delivery.worlds import SECRET, DictStore, People, real_clock
from tidings.state.v1.outbox_pb2 import Delivery

CONTRACTS = Path(__file__).parents[2].parent / "shared" / "contracts"
KEY = SecretStr("demo-key")


class WebhookInbox(Platform):
    """A webhook's receiver with the faults of a platform."""

    kind: ClassVar[str] = "webhook"
    title: ClassVar[str] = "Webhook"

    def routes(self) -> Iterable[Route]:
        return [Route("POST", "/hook", self._receive, is_write=True)]

    def is_authorised(self, call: Call) -> bool:
        Verifier(SECRET).verify(call.body, dict(call.headers))
        return True

    def refusal(self, status: int, detail: str) -> Answer:
        return Answer(status, {"detail": detail})

    def throttled(self, wait_seconds: float) -> Answer:
        return Answer(429, {"detail": "slower"}, {"Retry-After": str(max(1, round(wait_seconds)))})

    def _receive(self, call: Call) -> Answer:
        data = call.document["data"]
        self.put({"user_id": data["user_id"]}, data)
        return Answer(204)


@cache
def _contract(kind: str) -> tuple[Any, str]:
    """The contract, and what its paths are below."""
    openapi_core = pytest.importorskip("openapi_core", reason="contracts are checked by openapi-core, a package of the dev extra")
    yaml = pytest.importorskip("yaml", reason="contracts are YAML")
    path = CONTRACTS / f"{kind}.yaml"
    if not path.exists():
        pytest.skip(f"no contract of {kind}: it is data beside the checkout, in ../shared/contracts")
    document = yaml.safe_load(path.read_text())
    base = document["servers"][0]["url"].rstrip("/")
    document["servers"] = [{"url": "/"}]
    return openapi_core.OpenAPI.from_dict(document), base


def contract_check(kind: str, unjudged: Counter[str] | None = None) -> Check:
    """Says what of the platform's contract a request breaks. Operations that the contract does not describe are counted in ``unjudged``."""
    if kind == "webhook":
        return lambda *_: None
    openapi, base = _contract(kind)
    from openapi_core.templating.paths.exceptions import OperationNotFound, PathNotFound
    from openapi_core.testing import MockRequest

    def check(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        path, _, query = path.partition("?")
        args = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
        request = MockRequest(
            "http://127.0.0.1", method.lower(), path.removeprefix(base), args=args, headers=dict(headers), data=body,
            content_type=headers.get("content-type", ""),
        )
        for error in openapi.iter_request_errors(request):
            if isinstance(error, PathNotFound | OperationNotFound):
                if unjudged is not None:
                    unjudged[f"{method} {path}"] += 1
                return None
            return f"{method} {path}: {error}"[:500]
        # A header with a default counts as sent for openapi-core.
        return "the revision header is missing" if kind == "klaviyo" and "revision" not in headers else None

    return check


SETTINGS: dict[str, Callable[..., Any]] = {
    "webhook": lambda url, **more: WebhookSettings(url=f"{url}/hook", secrets=[SecretStr(SECRET)], **_common("webhook"), **more),
    "sendgrid": lambda url, **more: SendGridSettings(kind="sendgrid", base_url=url, api_key=KEY, **_common("sendgrid"), **more),
    "mailchimp": lambda url, **more: MailchimpSettings(
        kind="mailchimp", base_url=url, api_key=KEY, list_id="demo", data_center="us6", **_common("mailchimp"), **more
    ),
    "hubspot": lambda url, **more: HubSpotSettings(kind="hubspot", base_url=url, access_token=KEY, **_common("hubspot"), **more),
    "klaviyo": lambda url, **more: KlaviyoSettings(kind="klaviyo", base_url=url, api_key=KEY, **_common("klaviyo"), **more),
    "braze": lambda url, **more: BrazeSettings(kind="braze", base_url=url, api_key=KEY, **_common("braze"), **more),
    "customerio": lambda url, **more: CustomerIoSettings(
        kind="customerio", base_url=url, site_id="demo-site", api_key=KEY, **_common("customerio"), **more
    ),
    "iterable": lambda url, **more: IterableSettings(kind="iterable", base_url=url, api_key=KEY, **_common("iterable"), **more),
}


def _common(name: str) -> dict[str, Any]:
    return {"name": name, "allow_http": True}


class FastClock:
    """Time that passes ``speed`` times as fast as it does; in milliseconds, and in seconds for platforms."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._began_ms = real_clock()

    def __call__(self) -> int:
        return self._began_ms + round((real_clock() - self._began_ms) * self._speed)

    def seconds(self) -> float:
        return self() / 1000


class Addressed(People):
    """People whose profiles have an e-mail address."""

    def render(self, user_id: str) -> Rendered | None:
        rendered = super().render(user_id)
        if rendered is not None:
            rendered.profile.attributes.add(name="email", text=address_of(user_id))
        return rendered


def address_of(user_id: str) -> str:
    return f"{user_id}@example.com"


@dataclass
class World:
    """One destination and its stand-in, an outbox and the people in it."""

    kind: str
    platform: Platform
    destination: Destination
    store: DictStore
    people: Addressed
    clock: FastClock
    #: Operations that the contract does not describe.
    unjudged: Counter[str]
    #: (who, version before, version after) of each write that went back.
    regressions: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def users(self) -> list[str]:
        return list(self.store.entries)

    def know(self, users: Iterable[str]) -> None:
        """Where people are not created by a write, they are there already."""
        for user in users:
            if self.kind == "mailchimp":
                self.platform.introduce({"email": address_of(user)})
            if self.kind == "braze":
                self.platform.introduce({"external_id": user, "email": address_of(user)})

    def person(self, user_id: str) -> Person | None:
        return self.platform.person(user_id) or self.platform.person(address_of(user_id))

    def version_at_receiver(self, user_id: str) -> int:
        """Of the list that the receiver holds; 0 if it holds none."""
        found = self.person(user_id)
        return version_in(found.fields) if found else 0

    def version(self, user_id: str) -> int:
        """Of the list that is current."""
        return self.store.entries[user_id].update.version

    def delivery(self, user_id: str) -> Delivery:
        return self.store.delivery(user_id, self.kind)

    def is_confirmed(self, *users: str) -> bool:
        return all(self.delivery(user).confirmed_version == self.version(user) for user in users or self.users)

    def is_current(self, *users: str) -> bool:
        """Whether the receiver holds everybody's current list."""
        return all(self.version_at_receiver(user) == self.version(user) for user in users or self.users)

    def is_sound(self) -> bool:
        """Nothing broke the contract, touched a subscription or went back."""
        return not self.platform.violations and not self.platform.consent_writes and not self.regressions


def version_in(fields: Mapping[str, Any]) -> int:
    """Of a list that a World's people have: its products are called p1, p2, ... by its version, wherever the platform keeps them."""
    for name in ("rec_1_id", "REC1_ID"):
        if name in fields:
            return int(fields[name][1:])
    recs = fields.get("recs", fields.get("recommendations"))
    found = orjson.loads(recs) if isinstance(recs, str) else recs
    if not found:
        return 0
    first = found[0]["product_id"] if isinstance(found[0], dict) else found[0]
    return int(first[1:])


@asynccontextmanager
async def a_world(kind: str, *, users: int = 0, speed: float = 1.0, **settings: Any) -> AsyncIterator[World]:
    """A stand-in that listens, with the fields that ``tidings destinations setup`` would make, and people with a first list."""
    clock, unjudged = FastClock(speed), Counter[str]()
    platform_type: type[Platform] = WebhookInbox if kind == "webhook" else PLATFORMS[kind]
    versions: dict[str, int] = {}
    regressions: list[tuple[str, int, int]] = []

    def watch(person: Person) -> None:
        before, after = versions.get(person.identity, 0), version_in(person.fields)
        versions[person.identity] = after
        if after < before:
            regressions.append((person.identity, before, after))

    platform = platform_type(key=KEY.get_secret_value(), check=contract_check(kind, unjudged), on_written=watch, clock=clock.seconds)
    async with platform.serve() as url:
        destination = await _set_up(kind, url, settings)
        platform.counts.clear()
        store = DictStore()
        world = World(kind, platform, destination, store, Addressed(store, [kind]), clock, unjudged, regressions)
        names = [f"user-{i}" for i in range(users)]
        world.know(names)
        for name in names:
            world.people.change(name)
        yield world


async def _set_up(kind: str, url: str, settings: Mapping[str, Any]) -> Destination:
    destination = destination_of(SETTINGS[kind](url, **settings))
    if not isinstance(destination, HasFields):
        return destination
    async with a_client(destination) as client:
        there = await answer_to(client, destination.fields_request())
        missing = destination.missing_fields(there)
        assert isinstance(missing, Sequence), missing
        for one in missing:
            made = await answer_to(client, destination.create_field(one))
            assert made.status in (200, 201), (made.status, made.body)
        there = await answer_to(client, destination.fields_request())
        still = destination.missing_fields(there)
        assert isinstance(still, Sequence)
        hint = destination.settings_hint(there)
    return destination_of(SETTINGS[kind](url, **{**settings, **(tomllib.loads(hint) if hint else {})}))


@asynccontextmanager
async def a_client(destination: Destination) -> AsyncIterator[HttpClient]:
    client = HttpClient(
        guard=Guard(("127.0.0.0/8",)), timeout_seconds=destination.timeout_seconds, concurrency=4, clock=real_clock,
        response_bytes=destination.limits.response_bytes,
    )
    try:
        yield client
    finally:
        await client.close()


async def answer_to(client: HttpClient, request: Request) -> Response:
    answer = await client.send(request, lambda: True)
    assert isinstance(answer, Response), answer
    return answer


def parts_of(world: World, users: Sequence[str]) -> list[Part]:
    """Everybody's part of a request."""
    parts = []
    for user in users:
        rendered = world.people.render(user)
        assert rendered is not None
        part = world.destination.encode(rendered)
        assert isinstance(part, Part), part
        parts.append(part)
    return parts
