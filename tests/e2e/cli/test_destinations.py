"""`tidings destinations` makes the fields that are missing, tries a destination out and explains what it answers, pauses and resumes it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from app.cli import cli
from app.domain.catalog_fold import fold_product, new_entry
from app.streams.publisher import Publisher, Record
from app.streams.topics import TopicNames
from app.web.demo.inbox import Inbox
from app.web.demo.platforms import PLATFORMS, Platform
from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.mailchimp import Mailchimp
from tidings.events.v1.event_pb2 import ConsentState
from tidings.internal.v1.destination_state_pb2 import Breaker, DestinationState
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.profile_pb2 import Profile

from .conftest import Installation
from .outbox_worlds import dead, entry, fine, now_ms, records_of, with_targets, write_outbox, write_profiles, write_table

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
KEY = "a-key-that-nobody-may-see"
#: What each kind must be told beside its address and key.
REQUIRED = {
    "sendgrid": [f"api_key = {KEY!r}"],
    "mailchimp": [f"api_key = {KEY!r}", 'list_id = "demo"', 'data_center = "us6"'],
    "hubspot": [f"access_token = {KEY!r}"],
    "klaviyo": [f"api_key = {KEY!r}"],
    "braze": [f"api_key = {KEY!r}"],
    "customerio": ['site_id = "demo-site"', f"api_key = {KEY!r}"],
    "iterable": [f"api_key = {KEY!r}"],
}
WITH_FIELDS = ("sendgrid", "mailchimp", "hubspot")


class Desk:
    """A settings file with one destination, and the command line over it, in a thread of its own: what it talks to is in this one."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "tidings.toml"
        self.key = directory / "key"
        self.key.write_text(KEY)
        self.networks = ["127.0.0.0/8"]

    def describe(self, kind: str, url: str, *lines: str) -> None:
        told = [f'base_url = "{url}"', *REQUIRED[kind]] if kind != "webhook" else [f'url = "{url}"', f"secret = {SECRET!r}"]
        (self.file.parent / "secret").write_text(SECRET)
        for value, file in ((KEY, self.key), (SECRET, self.file.parent / "secret")):
            told = [line.replace(repr(value), f'"file:{file}"') for line in told]
        head = f"[delivery]\nallow_networks = {json.dumps(self.networks)}\n[[targets]]\n"
        self.file.write_text(head + "\n".join(['name = "crm"', f'kind = "{kind}"', "allow_http = true", *told, *lines]) + "\n")

    async def __call__(self, *arguments: str) -> Result:
        environment = {"TIDINGS_SETTINGS": str(self.file)}
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["destinations", *arguments], env=environment)
        assert KEY not in result.output
        assert SECRET not in result.output
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@asynccontextmanager
async def platform_at(desk: Desk, kind: str, *lines: str) -> AsyncIterator[Platform]:
    platform = PLATFORMS[kind](key=KEY)
    async with platform.serve() as url:
        desk.describe(kind, url, *lines)
        yield platform


@asynccontextmanager
async def receiver(desk: Desk, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], *lines: str) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?token=in-the-address"
        desk.describe("webhook", url, *lines)
        yield url
    finally:
        await runner.cleanup()


# setup ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_FIELDS)
async def test_setup_makes_what_is_missing_and_a_second_one_makes_nothing(desk: Desk, kind: str) -> None:
    async with platform_at(desk, kind) as platform:
        before = await desk("setup", "crm", "--check")
        assert (before.exit_code, platform.violations) == (1, type(platform.violations)()), before.output
        assert "fields are missing" in before.stderr
        first = await desk("setup", "crm")
        assert first.exit_code == 0, first.output
        assert first.stdout.count("made ") >= 15
        second = await desk("setup", "crm")
        assert (second.exit_code, second.stdout.count("made ")) == (0, 0), second.output
        after = await desk("setup", "crm", "--check")
        assert after.exit_code == 0, after.output
        assert "\tno" not in after.stdout
        assert "tidings destinations test crm" in after.stderr


async def test_setup_prints_what_must_stand_in_the_settings_and_with_it_the_test_passes(desk: Desk) -> None:
    async with platform_at(desk, "sendgrid") as platform:
        made = await desk("setup", "crm")
        (hint,) = [line for line in made.stdout.splitlines() if line.startswith("field_ids = ")]
        without = await desk("test", "crm", "--email", "ada@example.com")
        assert without.exit_code == 1
        desk.describe("sendgrid", platform.url, hint)
        tried = await desk("test", "crm", "--email", "ada@example.com")
        assert tried.exit_code == 0, tried.output
        assert platform.fields_of("ada@example.com")


@pytest.mark.parametrize("kind", WITH_FIELDS)
async def test_setup_with_a_wrong_key_says_that_it_is_the_credentials(desk: Desk, kind: str) -> None:
    async with platform_at(desk, kind) as platform:
        platform.faults.is_key_expired = True
        result = await desk("setup", "crm")
    assert result.exit_code == 1
    assert "credentials refused" in result.output
    assert "What to do" in result.output


async def test_setup_of_a_destination_without_fields_or_of_none_says_so(desk: Desk) -> None:
    desk.describe("webhook", "https://crm.example/hook")
    result = await desk("setup", "crm")
    assert (result.exit_code, "nothing to set up" in result.output) == (1, True)
    absent = await desk("setup", "other")
    assert (absent.exit_code, "there is crm" in absent.output) == (1, True)


# test -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in PLATFORMS if kind != "sendgrid"])
async def test_a_platform_that_works_is_told_to_work_and_has_the_products(desk: Desk, kind: str) -> None:
    async with platform_at(desk, kind) as platform:
        if kind in WITH_FIELDS:
            assert (await desk("setup", "crm")).exit_code == 0
        if kind in ("mailchimp", "braze"):  # they write only whom they know
            platform.introduce({"external_id": "tidings-test", "email": "ada@example.com"})
        result = await desk("test", "crm", "--email", "ada@example.com")
        assert result.exit_code == 0, result.output
        assert "outcome: confirmed" in result.stdout
        assert any("test-1" in str(person.fields) for person in platform.people.values())
        assert not platform.violations
        assert not platform.consent_writes


@pytest.mark.parametrize("kind", list(PLATFORMS))
async def test_refused_credentials_are_explained(desk: Desk, kind: str) -> None:
    async with platform_at(desk, kind) as platform:
        platform.faults.is_key_expired = True
        result = await desk("test", "crm")
    assert result.exit_code == 1
    assert "credentials refused" in result.stdout
    assert "region or data center" in result.stdout


@pytest.mark.parametrize("kind", ["mailchimp", "hubspot"])
async def test_a_missing_field_leads_to_setup(desk: Desk, kind: str) -> None:
    async with platform_at(desk, kind) as platform:
        platform.introduce({"email": "ada@example.com"})
        if isinstance(platform, Mailchimp):
            platform.create_field("FNAME")  # as every audience has from its beginning
        result = await desk("test", "crm", "--email", "ada@example.com")
    assert result.exit_code == 1
    assert "not set up" in result.stdout
    assert "tidings destinations setup crm" in result.stdout


async def test_a_platform_that_ignores_strangers_in_silence_is_told_to_do_so(desk: Desk) -> None:
    async with platform_at(desk, "braze") as platform:
        result = await desk("test", "crm")
        assert not platform.people
    assert "in silence" in result.stderr
    assert "--user" in result.stderr


async def test_a_job_is_followed_to_its_end_and_no_longer_than_asked(desk: Desk) -> None:
    async with platform_at(desk, "klaviyo") as platform:
        platform.faults.job_seconds = 0.1
        done = await desk("test", "crm", "--email", "ada@example.com", "--json")
        assert json.loads(done.stdout)["outcome"] == "confirmed"
        platform.faults.job_seconds = 60
        began = time.monotonic()
        waiting = await desk("test", "crm", "--email", "ada@example.com", "--wait", "1")
        assert time.monotonic() - began < 15
        assert "--wait" in waiting.stdout


async def test_a_person_whom_the_platform_does_not_take_is_told_why(desk: Desk) -> None:
    async with platform_at(desk, "iterable", 'identify_by = "email"') as platform:
        platform.faults.people["ada@example.com"] = Trouble.FORGOTTEN
        result = await desk("test", "crm", "--email", "ada@example.com")
    assert result.exit_code == 1
    assert "rejected: suppressed" in result.stdout
    assert "--email" in result.stdout


async def test_a_webhook_that_works_is_told_to_work_by_a_receiver_that_verifies(desk: Desk) -> None:
    inbox = Inbox(SECRET)
    async with receiver(desk, inbox.handle):
        result = await desk("test", "crm", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["works"], told["status"], inbox.bad_signatures) == (True, 204, 0)
    assert inbox.last_body["tidings-test"]["data"]["recommendations"][0]["title"].startswith("Red mug")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, ["outcome: retry", "401", "with this secret"]),
        (410, {}, ["outcome: gone", "tidings destinations resume crm"]),
        (429, {"retry-after": "7"}, ["outcome: throttled", "for 7 s"]),
        (500, {}, ["outcome: unavailable", "an outage"]),
        (302, {"location": "https://elsewhere.example"}, ["redirects are not followed"]),
    ],
)
async def test_each_answer_of_a_webhook_is_explained(desk: Desk, status: int, headers: dict[str, str], words: list[str]) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="\x1b[31mno\x00")

    async with receiver(desk, answer):
        result = await desk("test", "crm")
    assert result.exit_code == 1
    told = " ".join(result.stdout.split())
    assert all(word in told for word in words), result.stdout
    assert "\x1b" not in result.stdout
    assert "in-the-address" not in result.output, "the rest of an address may be a credential"


async def test_credentials_that_an_answer_repeats_are_not_shown(desk: Desk) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"message": f"bad key {request.headers['Authorization']}"}, status=401)

    async with receiver(desk, answer) as url:
        desk.describe("hubspot", url.partition("/hook")[0])
        for command in ("test", "setup"):
            result = await desk(command, "crm")  # which looks for the key in all that is printed
            assert result.exit_code == 1
            assert "bad key" in result.output


async def test_a_receiver_that_is_away_slow_unknown_refused_or_speaks_no_tls_is_explained(desk: Desk, free_port: int) -> None:
    async def outcome(url: str, *lines: str) -> str:
        desk.describe("webhook", url, *lines)
        result = await desk("test", "crm", "--json")
        assert result.exit_code == 1
        told = json.loads(result.stdout)
        assert told["meaning"]
        assert told["to_do"]
        return str(told["outcome"])

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    assert await outcome(f"http://127.0.0.1:{free_port}/") == "nobody listens"
    assert await outcome("http://no-such-host.invalid/") == "no such name"
    assert await outcome("http://[::1]:9/") == "address refused"
    desk.networks = []
    assert await outcome(f"http://127.0.0.1:{free_port}/") == "address refused"
    desk.networks = ["127.0.0.0/8"]
    async with receiver(desk, slow) as url:
        assert await outcome(url, "timeout_seconds = 0.3") == "timed out"
        assert await outcome(url.replace("http:", "https:")) == "TLS failed"


# With what is known ---------------------------------------------------------------------------------------------------------


class Shop:
    """An installation with a webhook, and what it received."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def test(self, *arguments: str) -> Result:
        return self.installation.tidings("destinations", "test", "crm", *arguments)


@pytest.fixture
def shop(installation: Installation, tmp_path: Path) -> Shop:
    shop = Shop(with_targets(installation, tmp_path, "crm", "hook"))
    write_outbox(shop.installation, entry("ann", fine("crm")), entry("bob", dead("crm", "suppressed", blocked=True)))
    denied = Profile(user_id="dan")
    denied.consents.add(purpose="personalised_email", state=ConsentState.CONSENT_STATE_DENIED)
    write_profiles(shop.installation, Profile(user_id="ann"), Profile(user_id="bob"), Profile(user_id="eve"), denied)
    return shop


@pytest.mark.parametrize(("user", "words"), [("bob", "is blocked at crm"), ("dan", "no consent"), ("nobody", "no event of 'nobody'")])
def test_nothing_is_sent_about_who_is_blocked_denied_or_unknown(shop: Shop, user: str, words: str) -> None:
    result = shop.test("--user", user)
    assert result.exit_code == 1
    assert words in result.output


def test_a_known_person_is_sent_with_the_list_and_the_products_that_they_have(installation: Installation, desk: Desk) -> None:
    write_outbox(installation, entry("ann", fine("crm")))
    write_profiles(installation, Profile(user_id="ann"))
    product = new_entry("red-shoes")
    fold_product(product, Product(product_id="red-shoes", title="Red shoes", in_stock=True, changed_at_ms=1_700_000_000_000), 0)
    write_table(installation.settings.kafka, "products", [("red-shoes", product.SerializeToString())])
    inbox = Inbox(SECRET)

    async def send() -> Result:
        async with receiver(desk, inbox.handle):
            environment = {**installation.environment, "TIDINGS_SETTINGS": str(desk.file)}
            return await asyncio.to_thread(CliRunner().invoke, cli, ["destinations", "test", "crm", "--user", "ann"], env=environment)

    result = asyncio.run(send())
    assert result.exit_code == 0, result.output
    (only,) = inbox.last_body["ann"]["data"]["recommendations"]
    assert (only["product_id"], only["title"], inbox.versions["ann"]) == ("red-shoes", "Red shoes", 4)


# list, pause, resume --------------------------------------------------------------------------------------------------------


def listed(shop: Shop) -> dict[str, dict[str, str]]:
    result = shop.installation.tidings("destinations", "list", "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


def test_a_pause_is_told_to_the_workers_and_listed_until_it_is_resumed(shop: Shop) -> None:
    assert [row["state"] for row in listed(shop).values()] == ["closed", "closed"]
    paused = shop.installation.tidings("destinations", "pause", "crm", "--reason", "their\x1b import\nis broken" + "x" * 500)
    assert paused.exit_code == 0, paused.output
    again = shop.installation.tidings("destinations", "pause", "crm", "--reason", "still")
    assert again.exit_code == 0
    row = listed(shop)["crm"]
    assert (row["state"], row["cause"], row["by"], row["reason"]) == ("open", "operator", "operator", "still")
    assert row["address"] == "https://crm.example"
    assert listed(shop)["hook"]["state"] == "closed"
    assert shop.installation.tidings("destinations", "resume", "crm").exit_code == 0
    assert listed(shop)["crm"]["state"] == "closed"
    kafka = shop.installation.settings.kafka
    states = [DestinationState.FromString(value) for _, _, value in records_of(kafka, TopicNames.of(kafka).destinations)]
    assert [state.breaker for state in states] == [Breaker.BREAKER_OPEN_OPERATOR, Breaker.BREAKER_OPEN_OPERATOR, Breaker.BREAKER_CLOSED]
    assert states[0].at_ms < states[1].at_ms < states[2].at_ms
    assert len(states[0].reason) <= 200
    assert "\n" not in states[0].reason


def test_what_an_operator_says_is_later_than_what_is_known_whatever_the_clock_says(shop: Shop) -> None:
    kafka = shop.installation.settings.kafka
    ahead = DestinationState(target="crm", at_ms=now_ms() + 600_000, by="a", breaker=Breaker.BREAKER_OPEN_AUTH, reason="401")

    async def write() -> None:
        async with Publisher.of_destinations(shop.installation.settings) as publisher:
            await publisher.publish_records([Record(b"crm", ahead.SerializeToString()), Record(b"hook", b"\xff"), Record(b"gone", b"")])

    asyncio.run(write())
    row = listed(shop)["crm"]
    assert (row["state"], row["cause"], row["by"], row["reason"]) == ("open", "auth", "a", "401")
    told = shop.installation.tidings("destinations", "list")
    assert "mend them, then resume" in told.stderr
    assert shop.installation.tidings("destinations", "resume", "crm").exit_code == 0
    states = [DestinationState.FromString(value) for _, key, value in records_of(kafka, TopicNames.of(kafka).destinations) if key == b"crm"]
    assert [state.at_ms for state in states] == [ahead.at_ms, ahead.at_ms + 1]


@pytest.mark.parametrize("arguments", [["pause", "other", "--reason", "x"], ["resume", "other"], ["test", "other"], ["setup", "other"]])
def test_a_destination_that_is_not_in_the_settings_is_not_found(shop: Shop, arguments: list[str]) -> None:
    result = shop.installation.tidings("destinations", *arguments)
    assert result.exit_code == 1
    assert "there is crm, hook" in result.output


def test_a_pause_without_a_reason_is_wrong_usage(shop: Shop) -> None:
    assert shop.installation.tidings("destinations", "pause", "crm").exit_code == 2
    assert shop.installation.tidings("destinations", "pause", "crm", "--reason", " ").exit_code == 2
