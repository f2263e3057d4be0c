"""Apache Kafka behind TLS and a login: a whole worker through it, and what each wrong key is told."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import BrokerError
from app.settings import KafkaSettings
from app.streams.publisher import Publisher
from app.streams.topics import create_topics, require_sound
from tests.brokers.apache_kafka import ApacheKafka, Doors
from tests.brokers.certificates import Authority
from tests.brokers.token_server import TokenServer, unsigned_token
from tests.conftest import on_apache_kafka
from tests.e2e.fleet import fleet_on
from tests.e2e.invented_log import write_invented_log
from tests.e2e.processes import spawn

pytestmark = pytest.mark.kafka

EVENTS = 200


class Castle:
    """A broker with its doors, and who may sign what."""

    def __init__(self, directory: Path, kafka: ApacheKafka, authority: Authority, doors: Doors) -> None:
        self.directory, self.kafka, self.authority, self.doors = directory, kafka, authority, doors
        self.stranger = Authority(directory, "stranger")
        self.sasl = f"127.0.0.1:{doors.sasl_port}"
        self.mutual = f"127.0.0.1:{doors.mutual_port}"
        (directory / "password").write_text(doors.password)
        (directory / "wrong").write_text("a wrong password " + secrets.token_hex(8))

    def login(self, password: str = "password") -> dict[str, Any]:
        return {
            "security_protocol": "SASL_SSL", "ca_file": str(self.authority.file), "sasl_username": self.doors.user,
            "sasl_password": f"file:{self.directory / password}",
        }

    def tokens(self, url: str, secret: str = "password") -> dict[str, Any]:
        return {
            "security_protocol": "SASL_SSL", "ca_file": str(self.authority.file), "sasl_mechanism": "OAUTHBEARER", "sasl_token_url": url,
            "sasl_client_id": "tidings", "sasl_client_secret": f"file:{self.directory / secret}", "sasl_scope": "kafka",
        }

    def settings(self, bootstrap_servers: str, **kafka: Any) -> KafkaSettings:
        name = f"doors-{secrets.token_hex(3)}"
        return KafkaSettings.model_validate({
            "bootstrap_servers": bootstrap_servers, "topic_prefix": name, "application_id": name, "partitions": 1,
            "request_timeout_seconds": 5, **kafka,
        })


@pytest.fixture(scope="module")
def castle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Castle]:
    directory = tmp_path_factory.mktemp("castle")
    authority = Authority(directory)
    doors = Doors(authority.key_and_certificate("broker"), authority.file, "tidings", "a-good-password-" + secrets.token_hex(8))
    with on_apache_kafka(directory / "kafka", doors) as kafka:
        yield Castle(directory, kafka, authority, doors)


async def test_a_worker_behind_tls_and_scram_folds_and_delivers_as_any_other(castle: Castle, tmp_path: Path) -> None:
    async with fleet_on(castle.sasl, tmp_path, kafka=castle.login()) as fleet:
        (worker,) = await fleet.start("a")
        replay = await fleet.replay(write_invented_log(tmp_path / "log.jsonl", EVENTS))
        assert (await replay.done())["acknowledged"] == EVENTS
        status, _ = await worker.post("/v1/events", b'{"user_id":"ann","event":"view","product_id":"mug"}')
        assert status == 202
        verdict = await fleet.exact(EVENTS + 1)
        assert (verdict.applied, verdict.dead_letters) == (EVENTS + 1, 0)
        assert verdict.users_at_inbox > 0
        listing = tmp_path / "listing.log"
        read = await spawn(["-m", "app", "dead-letters", "list", "--settings", str(fleet.settings_file)], listing)
        assert await read.wait() == 0, listing.read_text()
        await worker.terminate()
        logs = await asyncio.to_thread(lambda: {log: log.read_text(errors="replace") for log in tmp_path.rglob("*.log")})
        assert not [log for log, text in logs.items() if castle.doors.password in text]


async def test_a_worker_with_tokens_folds_and_delivers_as_any_other(castle: Castle, tmp_path: Path) -> None:
    async with TokenServer("tidings", (castle.directory / "password").read_text(), seconds=20) as server:
        async with fleet_on(castle.sasl, tmp_path, kafka=castle.tokens(server.url)) as fleet:
            (worker,) = await fleet.start("a")
            replay = await fleet.replay(write_invented_log(tmp_path / "log.jsonl", EVENTS))
            assert (await replay.done())["acknowledged"] == EVENTS
            assert (await fleet.exact(EVENTS)).applied == EVENTS
            await worker.terminate()
        assert {asked["scope"] for asked in server.asked} == {"kafka"}
        logs = await asyncio.to_thread(lambda: {log: log.read_text(errors="replace") for log in tmp_path.rglob("*.log")})
        secret = {castle.doors.password, *server.tokens}
        assert not [log for log, text in logs.items() if any(word in text for word in secret)]


async def test_a_token_that_is_not_given_or_not_taken_is_told_by_its_setting(castle: Castle) -> None:
    async with TokenServer("tidings", (castle.directory / "password").read_text()) as server:
        wrong = castle.settings(castle.sasl, **castle.tokens(server.url, "wrong"))
        with pytest.raises(BrokerError, match=r"wants a token, .* gives no token \(401 invalid_client\).*client_secret"):
            await create_topics(wrong)
        server.says = 200, json.dumps({"access_token": unsigned_token("tidings", -60), "expires_in": 60}).encode()
        with pytest.raises(BrokerError, match=r"refuses the token: look at kafka\.sasl_token_url"):
            await create_topics(castle.settings(castle.sasl, **castle.tokens(server.url)))
    with pytest.raises(BrokerError, match=r"the token endpoint cannot be reached .*kafka\.sasl_token_url"):
        await create_topics(castle.settings(castle.sasl, **castle.tokens(server.url)))


async def test_plain_passwords_and_certificates_open_their_doors_too(castle: Castle) -> None:
    cert_file, key_file = castle.authority.signed("client")
    ours = {"cert_file": str(cert_file), "key_file": str(key_file)}
    for settings in (
        castle.settings(castle.sasl, **castle.login(), sasl_mechanism="PLAIN"),
        castle.settings(castle.mutual, security_protocol="SSL", ca_file=str(castle.authority.file), **ours),
    ):
        require_sound(await create_topics(settings))


async def test_what_is_wrong_is_told_by_the_name_of_its_setting_and_no_password_is(castle: Castle) -> None:
    stranger, ca_file = str(castle.stranger.file), str(castle.authority.file)
    their_cert, their_key = castle.stranger.signed("strangers-client")
    theirs = {"cert_file": str(their_cert), "key_file": str(their_key)}
    for settings, said in (
        (castle.settings(castle.sasl, **castle.login("wrong")), "refuses the login: look at kafka.sasl_username and kafka.sasl_password"),
        (castle.settings(castle.sasl, **castle.login("wrong"), sasl_mechanism="PLAIN"), "refuses the login: .*kafka.sasl_password"),
        (castle.settings(castle.sasl, **castle.login(), sasl_mechanism="SCRAM-SHA-256"), "does not offer SCRAM-SHA-256: kafka.sasl_mech"),
        (castle.settings(castle.sasl, **{**castle.login(), "ca_file": stranger}), "certificate that does not hold .*kafka.ca_file"),
        (
            castle.settings(castle.sasl.replace("127.0.0.1", "localhost"), **castle.login()),
            "certificate that does not hold .*'localhost'.*kafka.bootstrap_servers",
        ),
        (castle.settings(castle.sasl), "speaks TLS, and kafka.security_protocol is PLAINTEXT"),
        (castle.settings(castle.kafka.bootstrap_servers, **castle.login()), "does not speak TLS, and kafka.security_protocol is SASL_SSL"),
        (castle.settings(castle.sasl, security_protocol="SSL", ca_file=ca_file), "hung up: .*kafka.sasl_username"),
        (castle.settings(castle.mutual, security_protocol="SSL", ca_file=ca_file), "hung up: .*kafka.cert_file"),
        (castle.settings(castle.mutual, security_protocol="SSL", ca_file=ca_file, **theirs), "hung up: .*kafka.cert_file"),
    ):
        with pytest.raises(BrokerError, match=said) as error:
            await create_topics(settings)
        assert not [file for file in ("wrong", "password") if (castle.directory / file).read_text() in str(error.value)]


async def test_a_publisher_with_a_wrong_password_says_so(castle: Castle) -> None:
    kafka = castle.settings(castle.sasl, **castle.login("wrong"))
    publisher = Publisher(kafka.bootstrap_servers, "any", 1, request_timeout_seconds=5, client=kafka.client())
    with pytest.raises(BrokerError, match=r"cannot write to any: .* refuses the login: .*kafka\.sasl_password"):
        await publisher.start()
    await publisher.stop()


async def test_a_worker_with_a_wrong_password_ends_with_the_reason(castle: Castle, tmp_path: Path) -> None:
    settings = tmp_path / "tidings.toml"
    lines = [f'{name} = "{value}"' for name, value in {"bootstrap_servers": castle.sasl, **castle.login("wrong")}.items()]
    settings.write_text("\n".join(["[kafka]", *lines]))
    log = tmp_path / "worker.log"
    worker = await spawn(["-m", "app", "worker", "--settings", str(settings), "--data-dir", str(tmp_path / "data")], log)
    assert await worker.wait() == 1
    said = log.read_text()
    assert "refuses the login: look at kafka.sasl_username and kafka.sasl_password" in said
    assert "Traceback" not in said
    assert (castle.directory / "wrong").read_text() not in said


