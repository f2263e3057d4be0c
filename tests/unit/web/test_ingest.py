"""POST /v1/events over real HTTP: what is accepted, what is refused, and that nothing makes it fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket

import pytest

from app.web.intake import MAX_BODIES_AT_ONCE, MAX_BODY_BYTES_AT_ONCE

from .worlds import INGEST, READ, is_problem, settings_with, view, world


async def test_the_form_that_shops_send_is_accepted_as_it_stands():
    body = (
        '{"user_id":"12345","event":"add_to_cart","product_id":"987","timestamp":"2024-04-27T14:35:22Z",'
        '"attributes":{"category":"electronics","price":299.99}}'
    )
    async with world() as w:
        status, document, _ = await w.post(body)
    assert (status, document) == (202, {"accepted": 1, "positions": [{"partition": 0, "offset": 0}]})
    assert w.log.events[0].added_to_cart.unit_price.minor_units == 29_999


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps([view("a"), view("b")]), "application/json"),
        (json.dumps([view("a"), view("b")]), "application/json; charset=utf-8"),
        (json.dumps([view("a"), view("b")]), None),
        (json.dumps(view("a")) + "\n" + json.dumps(view("b")) + "\n", "application/x-ndjson"),
        (json.dumps(view("a")) + "\r\n\r\n" + json.dumps(view("b")), "application/jsonl"),
        (json.dumps(view("a")) + "\n" + json.dumps(view("b")), "application/json"),
        ("\ufeff" + json.dumps([view("a"), view("b")], indent=2), "application/json"),
    ],
)
async def test_an_array_and_lines_are_accepted_in_their_order(body, content_type):
    async with world() as w:
        status, document, _ = await w.post(body, content_type)
    assert status == 202, document
    assert [e.user_id for e in w.log.events] == ["a", "b"]


async def test_one_bad_event_and_none_is_published():
    async with world() as w:
        status, document, answer = await w.post([view(), view(user_id=""), view(prodct="x")])
    assert status == 400
    assert is_problem(answer, document)
    assert [(e["index"], e["field"]) for e in document["errors"]] == [(1, "user_id"), (2, "prodct")]
    assert "none was accepted" in document["detail"]
    assert w.log.events == []


async def test_a_line_that_is_no_json_is_named_by_its_line():
    async with world() as w:
        status, document, _ = await w.post(json.dumps(view()) + "\n\n{oops\n", "application/x-ndjson")
    assert status == 400
    assert document["errors"][0]["index"] == 1
    assert "line 3" in document["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"[]", "empty"),
        (b"{", "line 1"),
        (b"null", "object"),
        (b"7", "object"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe{}", "UTF-8: byte 0"),
        (b'{"user_id":"a","user_id":"b"}', "'user_id' stands twice"),
        (b'{"user_id": NaN}', "NaN is not a JSON value"),
        (b'{"user_id": -Infinity}', "Infinity"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"timestamp":' + b"9" * 5_000 + b"}", "too long"),
        (b'{"user_id":"\\ud800","event":"view","product_id":"p"}', "surrogate"),
        (b'{"event":"view","user_id":"a","product_id":"p","\\ud800":1}', "not a known field"),
        (b'{"event":"view","user_id":"a","product_id":"p","attributes":{"x":1e999999999}}', None),
        (b'{"event":"view"} {"event":"view"}', "Extra data"),
        (b'{"event":"view","user_id":"a","product_id":"p","timestamp":1e400}', "timestamp"),
        (b'{"user_id":"a\x00"}', "control character"),
        (b'{"event":"add_to_cart","user_id":"a","product_id":"p","attributes":{"price":1e999999999}}', "price"),
        (b'{"event":"add_to_cart","user_id":"a","product_id":"p","attributes":{"price":1E-999999999}}', None),
    ],
)
async def test_a_body_that_is_no_event_gets_a_400_that_says_what_is_wrong(body, says):
    async with world() as w:
        status, document, answer = await w.post(body)
        if says is None:
            assert status in (202, 400)
            return
    assert status == 400
    assert is_problem(answer, document)
    assert says in document["detail"]
    assert w.log.events == []


@pytest.mark.long
async def test_ten_thousand_malformed_bodies_are_each_refused_by_name_and_change_nothing():
    rng = random.Random(7)
    whole = json.dumps(view(attributes={"category": "electronics", "price": 299.99})).encode()
    statuses: dict[int, int] = {}

    def malformed() -> bytes:
        match rng.randrange(6):
            case 0:
                return rng.randbytes(rng.randrange(1, 400))
            case 1:
                return whole[: rng.randrange(1, len(whole) - 1)]
            case 2:
                at = rng.randrange(len(whole))
                return b"\x00" + whole[:at] + rng.randbytes(2) + whole[at:]
            case 3:
                return json.dumps(
                    {**view(), rng.choice(["user_id", "product_id", "event", "timestamp"]): rng.choice([[], {}, 1.5, "", True])}
                ).encode()
            case 4:
                key = rng.choice(["user_id", "product_id", "event"])
                return json.dumps({k: v for k, v in view().items() if k != key}).encode()
            case _:
                return json.dumps(
                    view(timestamp=rng.choice([1, -1, 10**18, "1999-12-31T23:59:59Z", "2101-01-01T00:00:00Z", "now"]))
                ).encode()

    async with world() as w:
        for _ in range(100):
            for status, document, answer in await asyncio.gather(*(w.post(malformed()) for _ in range(50))):
                statuses[status] = statuses.get(status, 0) + 1
                assert status == 400, document
                assert is_problem(answer, document)
                assert document["errors"][0]["detail"]
        lines = b"\n".join(malformed().replace(b"\n", b"") or b"x" for _ in range(5_000))
        status, document, _ = await w.post(lines, "application/x-ndjson")
        assert status == 400
        assert w.log.events == []
        assert (await w.post(view()))[0] == 202
    assert statuses == {400: 5_000}


@pytest.mark.parametrize("seed", range(3))
async def test_a_megabyte_of_noise_is_refused(seed):
    noise = random.Random(seed).randbytes(1_000_000)
    async with world() as w:
        assert (await w.post(noise))[0] == 400
        assert (await w.post(noise.hex()[:1_000_000]))[0] == 400
        assert (await w.post(b'"' + noise.hex()[:1_000_000].encode() + b'"'))[0] == 400
        assert w.log.events == []


async def test_a_body_above_the_limit_gets_413_whether_it_says_its_length_or_not():
    async def chunks():
        for _ in range(64):
            yield b" " * 1024

    async with world(settings_with(max_body_bytes=10_000)) as w:
        told, document, answer = await w.post(b" " * 10_001)
        assert is_problem(answer, document)
        untold, _, _ = await w.post(gzip.compress(b" " * 100_000_000), **{"Content-Encoding": "gzip"})
        async with w.client.post(f"{w.url}/v1/events", data=chunks(), headers={"Content-Type": "application/json"}) as answer:
            chunked = answer.status
    assert (told, untold, chunked) == (413, 413, 413)


async def test_more_events_than_the_limit_get_413():
    async with world(settings_with(max_events_per_request=2)) as w:
        assert (await w.post([view()] * 2))[0] == 202
        status, document, _ = await w.post([view()] * 3)
    assert (status, document["type"]) == (413, "urn:tidings:problem:too-many-events")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "rubbish", "application/x-protobuf"]
)
async def test_another_content_type_gets_415_that_names_those_taken(content_type):
    async with world() as w:
        status, document, answer = await w.post(json.dumps(view()), content_type)
    assert status == 415
    assert is_problem(answer, document)
    assert "application/x-ndjson" in document["detail"]


async def test_a_compressed_body_is_read_and_a_broken_one_is_refused():
    body = json.dumps(view()).encode()
    async with world() as w:
        assert (await w.post(gzip.compress(body), **{"Content-Encoding": "gzip"}))[0] == 202
        for encoding in ("gzip", "deflate"):
            status, document, answer = await w.post(b"this is not compressed", **{"Content-Encoding": encoding})
            assert status == 400
            assert is_problem(answer, document)
        assert (await w.post(body, **{"Content-Encoding": "rot13"}))[0] in (202, 400, 415)
        assert (await w.post(gzip.compress(body)[:40], **{"Content-Encoding": "gzip"}))[0] == 400


async def test_when_kafka_does_not_answer_the_client_is_told_to_try_again():
    async with world() as w:
        w.log.away = True
        status, document, answer = await w.post(view())
    assert status == 503
    assert is_problem(answer, document)
    assert int(answer.headers["Retry-After"]) > 0
    assert "counts once" in document["detail"]


async def test_while_kafka_hangs_so_many_requests_wait_and_further_ones_are_told_at_once_to_try_again():
    async with world() as w:
        w.log.hangs = asyncio.Event()
        waiting = [asyncio.create_task(w.post(view())) for _ in range(MAX_BODIES_AT_ONCE)]
        status, document, answer = await until_refused(w, view())
        assert (status, document["type"]) == (503, "urn:tidings:problem:busy")
        assert is_problem(answer, document)
        assert int(answer.headers["Retry-After"]) > 0
        w.log.hangs.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [202] * MAX_BODIES_AT_ONCE
        assert (await w.post(view()))[0] == 202
    assert len(w.log.events) == MAX_BODIES_AT_ONCE + 1, "what was refused is not there"


async def test_large_bodies_are_taken_by_their_bytes_and_small_ones_go_on_beside_them():
    large = json.dumps(view()) + " " * 1_600_000
    fit = MAX_BODY_BYTES_AT_ONCE // len(large)
    async with world() as w:
        w.log.hangs = asyncio.Event()
        waiting = [asyncio.create_task(w.post(large)) for _ in range(fit)]
        status, document, answer = await until_refused(w, large)
        assert (status, document["type"]) == (503, "urn:tidings:problem:busy")
        assert int(answer.headers["Retry-After"]) > 0
        assert not any(request.done() for request in waiting)
        small = asyncio.create_task(w.post(view()))
        assert (await asyncio.wait({small}, timeout=0.2))[1], "it waits for Kafka like the others"
        w.log.hangs.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting, small)] == [202] * (fit + 1)
        assert (await w.post(large))[0] == 202


async def test_a_body_that_does_not_say_its_length_takes_the_largest_place_until_it_is_there():
    may_end = asyncio.Event()

    async def slow_body():
        yield json.dumps(view()).encode()
        await may_end.wait()

    settings = settings_with(max_body_bytes=MAX_BODY_BYTES_AT_ONCE)
    async with world(settings) as w:
        slow = asyncio.create_task(w.post(slow_body()))
        status, document, _ = await until_refused(w, view())
        assert (status, document["type"]) == (503, "urn:tidings:problem:busy")
        w.log.hangs = asyncio.Event()
        may_end.set()
        beside = asyncio.create_task(until_taken(w, view()))
        await asyncio.wait({beside}, timeout=0.3)
        w.log.hangs.set()
        assert (await slow)[0] == 202
        assert (await beside) == 202


async def test_one_body_is_taken_however_large_the_settings_let_it_be():
    async with world(settings_with(max_body_bytes=2 * MAX_BODY_BYTES_AT_ONCE)) as w:
        assert (await w.post(json.dumps(view()) + " " * MAX_BODY_BYTES_AT_ONCE))[0] == 202


async def until_taken(w, body):
    async with asyncio.timeout(10):
        while (status := (await w.post(body))[0]) == 503:  # noqa: ASYNC110  a client asks again
            await asyncio.sleep(0.02)
        return status


async def until_refused(w, body):
    """The first answer that is no 202; a request that is taken is left to wait."""
    async with asyncio.timeout(10):
        while True:
            request = asyncio.create_task(w.post(body))
            done, _ = await asyncio.wait({request}, timeout=0.5)
            if done:
                return request.result()
            request.cancel()


async def test_a_token_without_the_scope_gets_403_and_none_or_a_wrong_one_401():
    async with world(token=None) as w:
        for header, expected in [
            (None, 401),
            ("Bearer nonsense-nonsense", 401),
            ("Basic abc", 401),
            ("Bearer", 401),
            ("Bearer " + READ, 403),
            ("bearer " + INGEST, 202),
            ("Bearer \udcff\udcfe", 401),
        ]:
            status, document, answer = await w.post(view(), **({"Authorization": header} if header and header.isascii() else {}))
            assert status == expected, document
            if expected != 202:
                assert is_problem(answer, document)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert len(w.log.events) == 1


async def test_without_any_configured_token_a_protected_route_is_closed_and_says_how_to_open_it():
    async with world(settings_with({})) as w:
        status, document, _ = await w.post(view())
        open_routes = [(await w.client.get(w.url + path)).status for path in ("/healthz", "/readyz", "/openapi.json", "/metrics", "/")]
    assert status == 401
    assert "[[tokens]]" in document["detail"]
    assert open_routes == [200] * 5


async def test_a_body_that_does_not_arrive_in_time_gets_408_and_the_connection_is_closed():
    async with world(body_timeout_seconds=0.2) as w:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(w.url.rpartition(":")[2]))
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {INGEST}\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"user')
        answer = await asyncio.wait_for(reader.read(), 6)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:tidings:problem:slow-body" in answer


async def test_raw_noise_on_the_socket_never_hurts_the_server():
    rng = random.Random(3)
    async with world() as w:
        port = int(w.url.rpartition(":")[2])
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(raw, rng.randbytes(rng.randrange(1, 3_000)) + b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        assert (await w.post(view()))[0] == 202
