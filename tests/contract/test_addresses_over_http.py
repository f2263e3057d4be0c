"""Every way to write an address in a URL, against a server on 127.0.0.1 that must see no connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.delivery.addresses import AddressRefused, Guard, GuardedResolver, Lookup, system_lookup
from app.delivery.client import HttpClient, Missing, NoResponse
from app.destinations.requests import Request, Response
from tests.unit.delivery.worlds import real_clock

#: What getaddrinfo, or the URL's own rules (IDNA), make an address here of; the last: in full-width digits, in ideographic stops.
RESOLVED_HERE = [
    "127.0.0.1", "0x7f000001", "0x7F.0.0.0x1", "localhost", "LOCALHOST", "0.0.0.0", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "\uff11\uff12\uff17\uff0e\uff10\uff0e\uff10\uff0e\uff11", "127\u30020\u30020\u30021",
]  # fmt: skip
#: What getaddrinfo would, too, but the client takes for a misspelt IPv4 address before it asks.
MISSPELT = ["2130706433", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0"]
#: IPv6 that ends at this machine or on its link, or at a cloud's metadata.
REFUSED_V6 = [
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[fe80::1]", "[fe80::1%25lo]", "[2002:7f00:1::1]", "[fd00:ec2::254]",
]  # fmt: skip


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[int, list[str]]]:
    """Its port, and who connected."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peername")))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def sent(url: str, allow: tuple[str, ...] = (), lookup: Lookup = system_lookup) -> Response | NoResponse:
    client = HttpClient(guard=Guard(allow), timeout_seconds=5, concurrency=4, clock=real_clock, lookup=lookup)
    try:
        return await client.send(Request("POST", url, {}, b"{}"), lambda: True)
    finally:
        await client.close()


@pytest.mark.parametrize("host", [*RESOLVED_HERE, *MISSPELT])
async def test_no_spelling_of_this_machine_is_connected_to(host: str) -> None:
    async with a_server() as (port, seen):
        answer = await sent(f"http://{host}:{port}/")
        assert isinstance(answer, NoResponse)
        assert (answer.missing, seen) == (Missing.UNREACHABLE if host in MISSPELT else Missing.REFUSED, [])


@pytest.mark.parametrize("spelling", ["2130706433", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0x7f000001", "0"])
async def test_the_system_takes_each_number_for_an_address_and_the_resolver_refuses_it(spelling: str) -> None:
    found = system_lookup(spelling, 80, 0)
    assert [address in ("127.0.0.1", "0.0.0.0") for _, address in found] == [True]
    resolver = GuardedResolver(Guard())
    with pytest.raises(AddressRefused):
        await resolver.resolve(spelling, 80)
    await resolver.close()


@pytest.mark.parametrize("host", RESOLVED_HERE)
async def test_these_spellings_would_arrive_if_they_were_allowed(host: str) -> None:
    """So the first test tests something."""
    async with a_server() as (port, seen):
        answer = await sent(f"http://{host}:{port}/", allow=("127.0.0.0/8", "0.0.0.0/32", "::1/128"))
        assert (getattr(answer, "status", answer), len(seen)) == (204, 1)


@pytest.mark.parametrize("host", REFUSED_V6)
async def test_no_ipv6_detour_to_this_machine_or_its_link_is_connected_to(host: str) -> None:
    async with a_server() as (port, seen):
        answer = await sent(f"http://{host}:{port}/")
        assert isinstance(answer, NoResponse)
        assert (answer.missing in (Missing.REFUSED, Missing.UNREACHABLE), seen) == (True, [])


async def test_one_bad_address_among_good_ones_refuses_the_name_whatever_their_order() -> None:
    async with a_server() as (port, seen):
        for addresses in ([(2, "8.8.8.8"), (2, "127.0.0.1")], [(2, "127.0.0.1"), (2, "8.8.8.8")], [(10, "2606:4700::1"), (10, "::1")]):
            answer = await sent(f"http://two.example:{port}/", lookup=lambda host, p, family, found=addresses: found)  # type: ignore[misc]
            assert isinstance(answer, NoResponse)
            assert answer.missing is Missing.REFUSED
        assert seen == []


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """A name that changes between the check and the connection changes nothing: it is asked for once."""
    asked: list[str] = []

    def turning(host: str, port: int, family: int) -> list[tuple[int, str]]:
        asked.append(host)
        return [(2, "127.0.0.1" if len(asked) == 1 else "127.0.0.2")]

    async with a_server() as (port, seen):
        answer = await sent(f"http://turning.example:{port}/", allow=("127.0.0.1/32",), lookup=turning)
        assert (getattr(answer, "status", answer), len(seen), asked) == (204, 1, ["turning.example"])
