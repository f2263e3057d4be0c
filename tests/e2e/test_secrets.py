"""No secret of the settings is ever seen again: not in a topic, a log, a metric, an answer or a file of the worker's."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.streams.topics import topic_specs
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.waiting import until

pytestmark = pytest.mark.kafka

API_KEY = "SG.a-key-that-nobody-may-see-0123456789"
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes, yes!").decode()
PRIVATE_KEY = "whsk_" + base64.b64encode(b"a seed of exactly 32 bytes, yes!").decode()


@asynccontextmanager
async def a_parrot() -> AsyncIterator[str]:
    """A server that refuses everything and answers with all it was sent, headers first."""

    async def repeat(request: web.Request) -> web.Response:
        said = {name: value for name, value in request.headers.items() if name.lower() in ("authorization", "webhook-signature", "api-key")}
        return web.json_response({"errors": [{"message": f"not like this: {said}"}]}, status=400, headers={"Retry-After": str(said)[:150]})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", repeat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def forms_of(secret: str) -> Iterator[bytes]:
    """As it stands, and decoded, and as others would write it."""
    plain = secret.partition("_")[2] or secret
    yield secret.encode()
    yield plain.encode()
    yield base64.b64encode(secret.encode()).rstrip(b"=")
    if secret.startswith("wh"):
        yield base64.b64decode(plain)


async def everything_in_kafka(fleet: Fleet) -> bytes:
    """Every byte of every record of all topics and changelogs."""
    places = [TopicPartition(spec.name, p) for spec in topic_specs(fleet.settings.kafka) for p in range(spec.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=fleet.settings.kafka.bootstrap_servers, enable_auto_commit=False)
    found = bytearray()
    await consumer.start()
    try:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while batches := await consumer.getmany(timeout_ms=2000):
            for record in (record for records in batches.values() for record in records):
                found += (record.key or b"") + b"\0" + (record.value or b"") + b"\0" + repr(record.headers).encode()
    finally:
        await consumer.stop()
    return bytes(found)


async def poison(fleet: Fleet) -> None:
    """What nobody can read, so that there is a dead letter too."""
    producer = AIOKafkaProducer(bootstrap_servers=fleet.settings.kafka.bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(fleet.names.events, b"\xff not an event", b"ann", partition=0)
    finally:
        await producer.stop()


async def test_no_secret_is_in_topics_logs_metrics_answers_or_files(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    secrets = {"key": API_KEY, "other": OTHER_SECRET, "private": PRIVATE_KEY}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret)
    async with a_parrot() as url:
        targets = [
            {"name": "parrot", "url": f"{url}/hook", "secrets": ["file:secret", "file:other", "file:private"], "allow_http": True},
            {"kind": "klaviyo", "name": "platform", "base_url": url, "api_key": "file:key", "allow_http": True},
            {"kind": "customerio", "name": "basic", "base_url": url, "api_key": "file:key", "site_id": "site", "allow_http": True},
        ]
        async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, targets=targets) as fleet:
            (worker,) = await fleet.start("a")
            body = b'[{"user_id":"ann","event":"view","product_id":"mug"},{"user_id":"ann","event":"view","product_id":"cup"}]'
            assert (await worker.post("/v1/events", body))[0] == 202
            await poison(fleet)

            async def all_refused() -> bool:
                return all([await worker.metric("tidings_deliveries_total", target=target["name"]) > 0 for target in targets])

            await until(all_refused, 30, "an answer of every target")
            await fleet.log.read_on("dead_letters")
            assert fleet.log.dead_letters
            seen = [await everything_in_kafka(fleet)]
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {fleet.token}"}) as http:
                for path in ("/metrics", "/v1/users/ann", "/v1/users/ann/deliveries", "/v1/destinations", "/readyz", "/openapi.json", "/"):
                    async with http.get(worker.url + path) as answer:
                        seen.append(await answer.read())
            await worker.terminate()
            files = await asyncio.to_thread(lambda: {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()})
        kept_where_they_belong = {"token", "secret", *secrets}
        seen += [content for file, content in files.items() if file.name not in kept_where_they_belong]
        for secret in [*secrets.values(), files[tmp_path / "secret"].decode(), files[tmp_path / "token"].decode()]:
            for form in forms_of(secret):
                assert not [part[max(0, at - 80) : at + 20] for part in seen if (at := part.find(form)) >= 0], "a secret was seen"
