"""Webhook delivery against real servers on 127.0.0.1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from app.delivery.addresses import Guard, Lookup, system_lookup
from app.delivery.client import MAX_RESPONSE_BYTES, HttpClient, Missing, NoResponse
from app.delivery.deliverer import Deliverer
from app.delivery.signing import signed_headers
from app.destinations.requests import Request, Response
from app.errors import NotOwnedError
from tests.contract.inbox import Delivered, Inbox
from tests.unit.delivery.worlds import SECRET, DictStore, People, a_deliverer, real_clock, until, webhook


@asynccontextmanager
async def _client(
    *, allow: tuple[str, ...] = ("127.0.0.0/8",), timeout_seconds: float = 2.0, lookup: Lookup = system_lookup
) -> AsyncIterator[HttpClient]:
    client = HttpClient(guard=Guard(allow), timeout_seconds=timeout_seconds, concurrency=4, clock=real_clock, lookup=lookup)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _raw_server(serve: object) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _always() -> bool:
    return True


def _post(url: str) -> Request:
    return Request("POST", url, {"content-type": "application/json"}, b"{}")


@asynccontextmanager
async def _running(deliverer: Deliverer) -> AsyncIterator[Deliverer]:
    await deliverer.start()
    try:
        yield deliverer
    finally:
        await deliverer.stop(0.5)


async def test_a_list_arrives_signed_as_the_reference_library_wants_it() -> None:
    store = DictStore()
    people = People(store, ["inbox"])
    people.change("änn ☕", "mug", "cup")
    async with Inbox() as inbox, _running(a_deliverer([webhook(url=inbox.url)], store, people)) as deliverer:
        deliverer.due(["änn ☕"])
        await until(lambda: store.delivery("änn ☕").confirmed_version == 1)
    [one] = inbox.got
    assert one.body["type"] == "recommendations.updated"
    assert [r["product_id"] for r in one.body["data"]["recommendations"]] == ["mug", "cup"]


async def test_a_worker_frozen_between_the_last_check_and_the_socket_sends_nothing_when_it_wakes() -> None:
    """Also over a kept connection, and also in the second try after the server closed one."""
    store, leases = DictStore(), [True]
    people = People(store, ["inbox"])
    people.change("ann", "mug")
    async with Inbox() as inbox:
        client = HttpClient(guard=Guard(("127.0.0.0/8",)), timeout_seconds=2, concurrency=4, clock=real_clock)
        target = webhook(url=inbox.url)
        rendered = people.render("ann")
        assert rendered is not None
        first = await client.send(target.request([target.encode(rendered)]), lambda: leases[0])
        leases[0] = False
        second = await client.send(target.request([target.encode(rendered)]), lambda: leases[0])
        await client.close()
    assert isinstance(first, Response)
    assert isinstance(second, NoResponse)
    assert len(inbox.got) == 1


def test_the_reference_library_refuses_a_changed_body() -> None:
    signed = signed_headers(Request("POST", "http://x", {"webhook-id": "msg_1"}, b'{"a":1}', sign_with=webhook().keys), real_clock())
    Verifier(SECRET).verify(b'{"a":1}', dict(signed))
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(b'{"a":2}', dict(signed))


async def test_retries_end_with_the_newest_list_at_the_receiver() -> None:
    store = DictStore()
    people = People(store, ["inbox"])
    is_up = False

    async def answer(request: web.Request, one: Delivered) -> web.StreamResponse:
        return web.Response(status=200 if is_up else 500)

    async with Inbox(answer) as inbox, _running(a_deliverer([webhook(url=inbox.url)], store, people)) as deliverer:
        for _ in range(3):
            people.change("ann")
            deliverer.due(["ann"])
            await until(lambda: inbox.versions("ann")[-1:] == [store.entries["ann"].update.version])
        is_up = True
        people.change("ann", "newest")
        deliverer.due(["ann"])
        await until(lambda: store.delivery("ann").confirmed_version == 4)
    assert inbox.got[-1].body["data"]["recommendations"][0]["product_id"] == "newest"
    assert all(len(ids) == 1 for ids in inbox.ids_by_version().values())


async def test_a_hanging_target_delays_no_other_and_is_timed_out() -> None:
    store = DictStore()
    people = People(store, ["hangs", "works"])
    users = [f"user-{i}" for i in range(100)]
    for user in users:
        people.change(user)
    never = asyncio.Event()

    async def hang(request: web.Request, one: Delivered) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with Inbox(hang) as hanging, Inbox() as working:
        targets = [webhook("hangs", hanging.url, timeout_seconds=2, concurrency=100), webhook("works", working.url)]
        async with _running(a_deliverer(targets, store, people, max_in_flight=20)) as deliverer:
            started = time.monotonic()
            deliverer.due(users)
            await until(lambda: all(store.delivery(user, "works").confirmed_version == 1 for user in users))
            # Ten rounds of ten at two seconds each is what waiting for the other would take.
            assert time.monotonic() - started < 10
            await until(lambda: any(store.delivery(user, "hangs").attempts for user in users))
            assert any("no answer within 2 s" in store.delivery(user, "hangs").last_error for user in users)
        never.set()


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(request: web.Request, one: Delivered) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": "/elsewhere"})

    store = DictStore()
    people = People(store, ["inbox"])
    people.change("ann")
    async with Inbox(redirect) as inbox, _running(a_deliverer([webhook(url=inbox.url)], store, people)) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: store.delivery("ann").attempts == 1)
        assert [one.path for one in inbox.got] == ["/hook"]
        assert "redirects are not followed" in store.delivery("ann").last_error


async def test_a_target_is_paused_for_the_seconds_it_asks_for() -> None:
    answers = iter([web.Response(status=503, headers={"retry-after": "1"})])

    async def answer(request: web.Request, one: Delivered) -> web.StreamResponse:
        return next(answers, None) or web.Response()

    store = DictStore()
    people = People(store, ["inbox"])
    people.change("ann")
    async with Inbox(answer) as inbox, _running(a_deliverer([webhook(url=inbox.url)], store, people)) as deliverer:
        started = time.monotonic()
        deliverer.due(["ann"])
        await until(lambda: store.delivery("ann").confirmed_version == 1)
    assert 1.0 <= time.monotonic() - started < 10


async def test_410_ends_all_requests_to_a_target() -> None:
    async def gone(request: web.Request, one: Delivered) -> web.StreamResponse:
        return web.Response(status=410)

    store = DictStore()
    people = People(store, ["inbox"])
    for i in range(10):
        people.change(f"user-{i}")
    async with Inbox(gone) as inbox, _running(a_deliverer([webhook(url=inbox.url, concurrency=1)], store, people)) as deliverer:
        deliverer.due(store.entries)
        await until(lambda: bool(inbox.got))
        await asyncio.sleep(0.1)
        assert len(inbox.got) == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[64:ff9b::7f00:1]", "127.0.0.1.",
     "2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "①②⑦.⓪.⓪.①", "169.254.169.254", "10.0.0.1", "[fe80::1]",
     "[fd00::1]"],
)
async def test_no_form_of_a_private_address_gets_a_request(host: str) -> None:
    async with Inbox() as inbox, _client(allow=(), timeout_seconds=1) as client:
        answer = await client.send(_post(f"http://{host}:{inbox.port}/hook"), _always)
        assert isinstance(answer, NoResponse)
        assert answer.missing is not Missing.TIMED_OUT, "refused, not tried"
        assert inbox.got == []


async def test_a_refused_address_is_a_named_outcome_and_retried_by_the_schedule() -> None:
    store = DictStore()
    people = People(store, ["inbox"])
    people.change("ann")
    async with Inbox() as inbox, _running(a_deliverer([webhook(url=inbox.url)], store, people, allow=())) as deliverer:
        deliverer.due(["ann"])
        await until(lambda: store.delivery("ann").attempts == 1)
        assert inbox.got == []
        assert "not a public address" in store.delivery("ann").last_error


async def test_a_name_that_turns_private_after_the_first_look_is_not_connected_to() -> None:
    lookups: list[str] = []

    def rebinding(host: str, port: int, family: int) -> list[tuple[int, str]]:
        lookups.append(host)
        # Allowed the first time, and where the inbox is; an address that is refused from then on.
        return [(2, "127.0.0.1" if len(lookups) == 1 else "127.0.0.2")]

    async with Inbox() as inbox:
        async with _client(allow=("127.0.0.1/32",), lookup=rebinding) as client:
            first = await client.send(_raw_signed(f"http://rebinding.example:{inbox.port}/hook"), _always)
            assert isinstance(first, Response)
            assert first.status == 204
        async with _client(allow=("127.0.0.1/32",), lookup=rebinding) as client:
            second = await client.send(_raw_signed(f"http://rebinding.example:{inbox.port}/hook"), _always)
        assert second == NoResponse(
            Missing.REFUSED, "rebinding.example is at 127.0.0.2, which is not a public address; delivery.allow_networks can allow it"
        )
        assert len(inbox.got) == 1
        assert len(lookups) == 2


def _raw_signed(url: str) -> Request:
    body = orjson.dumps({"type": "x", "data": {"user_id": "ann", "version": 1}})
    return Request("POST", url, {"content-type": "application/json", "webhook-id": "msg_1"}, body, sign_with=webhook().keys)


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    def nowhere(host: str, port: int, family: int) -> list[tuple[int, str]]:
        raise OSError(-2, "Name or service not known")

    async with _client(lookup=nowhere) as client:
        answer = await client.send(_post("http://nowhere.example/"), _always)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.UNRESOLVED
    assert "Name or service not known" in answer.reason


async def test_a_resolver_that_hangs_is_timed_out() -> None:
    def slow(host: str, port: int, family: int) -> list[tuple[int, str]]:
        time.sleep(0.6)
        return [(2, "127.0.0.1")]

    async with _client(timeout_seconds=0.2, lookup=slow) as client:
        answer = await client.send(_post("http://slow.example/"), _always)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.TIMED_OUT


async def test_an_endless_answer_is_read_up_to_the_limit() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 10000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            pass
        writer.close()

    async with _raw_server(endless) as port, _client() as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
        assert isinstance(answer, Response)
        assert (answer.status, len(answer.body)) == (500, MAX_RESPONSE_BYTES)
        await asyncio.sleep(0.05)
    assert sent < 20_000_000


async def test_a_success_whose_body_never_comes_is_a_success() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab")
        await asyncio.sleep(2)
        writer.close()

    async with _raw_server(drip) as port, _client(timeout_seconds=5) as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (200, b"ab")


@pytest.mark.parametrize(
    "noise", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, b"\x00" * 1000]
)
async def test_an_answer_that_is_not_http_is_a_failure(noise: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(noise)
        writer.close()

    async with _raw_server(serve) as port, _client() as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.UNREACHABLE


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_at_once() -> None:
    connections = 0

    async def one_answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 204 No\r\n\r\n")
        await writer.drain()
        # The next request on this connection is read and dropped, as when the server's idle time ends at that moment.
        await reader.read(1)
        writer.transport.abort()

    async with _raw_server(one_answer_each) as port, _client() as client:
        for _ in range(2):
            answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
            assert isinstance(answer, Response)
    assert connections == 2


async def test_a_connection_that_drops_each_request_is_a_failure_after_one() -> None:
    connections = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with _raw_server(drop) as port, _client() as client:
        assert isinstance(await client.send(_post(f"http://127.0.0.1:{port}/"), _always), NoResponse)
    assert connections == 1


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    async with Inbox() as inbox, _client() as client:
        answer = await client.send(_raw_signed(inbox.url), _always)
        assert isinstance(answer, Response)


async def test_a_cookie_is_not_sent_back() -> None:
    cookies: list[str | None] = []

    async def answer(request: web.Request, one: Delivered) -> web.StreamResponse:
        cookies.append(request.headers.get("cookie"))
        return web.Response(headers={"set-cookie": "a=b"})

    async with Inbox(answer) as inbox, _client() as client:
        for _ in range(2):
            await client.send(_raw_signed(inbox.url), _always)
    assert cookies == [None, None]


async def _serve(answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives the same answer to each request, whose body is {}."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.write(answer)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n", 200, b"okay!"),
        (b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hint\r\nlink: x\r\n\r\nHTTP/1.1 201 C\r\ncontent-length: 2\r\n\r\nok", 201, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", 500, b""),
    ],
    ids=["chunked", "informational first", "no content", "no body"],
)
async def test_whatever_form_an_answer_has_it_is_read_and_its_connection_serves_the_next_request(
    answer: bytes, status: int, body: bytes
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _serve(answer, reader, writer)

    async with _raw_server(serve) as port, _client() as client:
        for _ in range(3):
            response = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
            assert isinstance(response, Response)
            assert (response.status, response.body) == (status, body)
    assert connections == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"])
async def test_a_connection_that_the_server_means_to_close_is_not_kept(answer: bytes) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with _raw_server(serve) as port, _client() as client:
        for _ in range(3):
            response = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
            assert isinstance(response, Response)
            assert (response.status, response.body) == (200, b"ok")
    assert connections == 3


async def test_an_answer_that_nobody_asked_for_is_no_answer_to_the_next_request() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with _raw_server(serve) as port, _client() as client:
        for _ in range(2):
            response = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
            assert isinstance(response, Response)
            assert response.status == 204
            await asyncio.sleep(0.01)


async def test_a_head_that_drips_is_timed_out_as_a_whole() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
        writer.close()

    async with _raw_server(drip) as port, _client(timeout_seconds=0.5) as client:
        started = time.monotonic()
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.TIMED_OUT
    assert time.monotonic() - started < 2


async def test_endless_informational_answers_are_timed_out() -> None:
    async def never_done(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async with _raw_server(never_done) as port, _client(timeout_seconds=0.5) as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), _always)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.TIMED_OUT


async def test_no_more_connections_than_the_concurrency_and_idle_ones_are_used_again() -> None:
    open_now, most, connections = 0, 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most, connections
        open_now, connections = open_now + 1, connections + 1
        most = max(most, open_now)
        await _serve(b"HTTP/1.1 204 No\r\n\r\n", reader, writer)
        open_now -= 1

    async with _raw_server(serve) as port, _client() as client:
        for _ in range(20):
            await asyncio.gather(*(client.send(_post(f"http://127.0.0.1:{port}/"), _always) for _ in range(4)))
        assert (most, connections) == (4, 4)
    await until(lambda: open_now == 0)


async def test_a_connection_that_is_idle_for_long_is_closed() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve(b"HTTP/1.1 204 No\r\n\r\n", reader, writer)
        closed.set()

    client = HttpClient(guard=Guard(("127.0.0.0/8",)), timeout_seconds=2, concurrency=4, clock=real_clock, keep_alive_seconds=0.05)
    async with _raw_server(serve) as port:
        assert isinstance(await client.send(_post(f"http://127.0.0.1:{port}/"), _always), Response)
        await asyncio.wait_for(closed.wait(), 2)
        await client.close()


async def test_a_request_that_may_not_be_sent_leaves_nothing_on_the_wire() -> None:
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read())
        writer.close()

    async with _raw_server(serve) as port, _client() as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), lambda: False)
        await asyncio.sleep(0.02)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.FORBIDDEN
    assert got == b""


async def test_a_worker_frozen_before_the_socket_for_longer_than_the_request_may_take_sends_nothing_when_it_wakes() -> None:
    """It would be told at once that the time is over, and believe that the receiver has had all of it."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read())
        writer.close()

    def freeze() -> bool:
        time.sleep(0.3)
        return True

    async with _raw_server(serve) as port, _client(timeout_seconds=0.2) as client:
        answer = await client.send(_post(f"http://127.0.0.1:{port}/"), freeze)
        await asyncio.sleep(0.02)
    assert isinstance(answer, NoResponse)
    assert answer.missing is Missing.TIMED_OUT
    assert got == b""


async def test_who_may_send_is_asked_again_before_the_second_try() -> None:
    requests = 0

    async def drop_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                requests += 1
                if requests == 2:
                    break
                writer.write(b"HTTP/1.1 204 No\r\n\r\n")
        writer.transport.abort()

    answers = iter([True, True, False])
    async with _raw_server(drop_the_second) as port, _client() as client:
        first = await client.send(_post(f"http://127.0.0.1:{port}/"), lambda: next(answers))
        second = await client.send(_post(f"http://127.0.0.1:{port}/"), lambda: next(answers))
    assert isinstance(first, Response)
    assert isinstance(second, NoResponse)
    assert (second.missing, requests) == (Missing.FORBIDDEN, 2)


async def test_what_asking_raises_is_raised_and_the_connection_closed() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        closed.set()
        writer.close()

    def ask() -> bool:
        raise NotOwnedError("gone")

    async with _raw_server(serve) as port, _client() as client:
        with pytest.raises(NotOwnedError):
            await client.send(_post(f"http://127.0.0.1:{port}/"), ask)
        await asyncio.wait_for(closed.wait(), 2)


async def test_a_header_cannot_smuggle_in_another() -> None:
    async with Inbox() as inbox, _client() as client:
        request = Request("POST", inbox.url, {"webhook-id": "msg_1\r\nx-evil: 1"}, b"{}")
        answer = await client.send(request, _always)
        assert isinstance(answer, NoResponse)
        assert inbox.got == []


async def test_a_url_with_a_path_query_and_port_reaches_the_server_as_it_is() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No\r\n\r\n")
        writer.close()

    async with _raw_server(serve) as port, _client() as client:
        assert isinstance(await client.send(_post(f"http://localhost:{port}/hook/a%20b?x=1&y=%C3%A4#part"), _always), Response)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "POST /hook/a%20b?x=1&y=%C3%A4 HTTP/1.1"
    assert [line for line in lines if line.startswith("host:")] == [f"host: localhost:{port}"]
    assert "content-length: 2" in lines
    assert "user-agent: Tidings" in lines
