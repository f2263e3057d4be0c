"""The address guard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.addresses import AddressRefused, Guard, GuardedResolver

_REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::8.8.8.8",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1",
    "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0",
    "fec0::1", "ff02::1", "4000::1",
    # Cloud metadata: Amazon, Google, Azure (two), Oracle, Alibaba.
    "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "192.0.0.192", "100.100.100.200",
    # AS112 and AMT, the 6bone, benchmarking, NAT64's local prefix, SRv6, dummy prefix; ISATAP inside of public networks.
    "192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1", "3ffe::1", "2001:2::1", "2001:3::1", "2001:4:112::1",
    "64:ff9b:1:ffff::7f00:1", "5f00:1::1", "100:0:0:1::1", "2606:4700::5efe:127.0.0.1", "2a00:1450:4001::200:5efe:10.0.0.1",
]
_NOT_CANONICAL = [
    "2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.1.", " 127.0.0.1", "127.0.0.1\n",
    "[::1]", "localhost", "", "8.8.8.8/32", "1.1.1", "\u0661\u0662\u0667.0.0.1", "①②⑦.⓪.⓪.①",
]
_PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
           "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15",
           "2606:4700:4700::1111", "2606:4700::100:5efe:1", "2a00:1450:4001::1", "2001:4860:4860::8888"]


@pytest.mark.parametrize("address", _REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not Guard().allows(address)


@pytest.mark.parametrize("address", _NOT_CANONICAL)
def test_what_is_no_address_in_its_canonical_form_is_refused_even_if_everything_is_allowed(address: str) -> None:
    assert not Guard(["0.0.0.0/0", "::/0"]).allows(address)


@pytest.mark.parametrize("address", _PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert Guard().allows(address)


@given(st.ip_addresses(v=4))
def test_no_address_that_the_standard_library_calls_private_is_allowed(address: object) -> None:
    assert not (Guard().allows(str(address)) and (address.is_private or address.is_multicast))  # type: ignore[attr-defined]  # an IPv4Address


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_allowed_in_an_ipv6_disguise(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]  # an IPv4Address
    high, low = number >> 16, number & 0xFFFF
    for disguise in (f"::{address}", f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{high:x}:{low:x}::1"):
        assert not Guard().allows(disguise)


def test_a_setting_allows_its_network_and_no_other() -> None:
    guard = Guard(["127.0.0.0/8", "fd00::/8"])
    assert guard.allows("127.0.0.1")
    assert guard.allows("fd00::7")
    assert not guard.allows("10.0.0.1")
    assert not guard.allows("::1")
    assert not guard.allows("::ffff:127.0.0.1")


async def test_a_name_is_refused_when_one_of_its_addresses_is() -> None:
    resolver = GuardedResolver(Guard(), lambda host, port, family: [(2, "8.8.8.8"), (2, "10.0.0.1")])
    with pytest.raises(AddressRefused, match=r"evil\.example is at 10\.0\.0\.1"):
        await resolver.resolve("evil.example", 443)
    await resolver.close()


async def test_each_resolution_is_checked_anew() -> None:
    answers = iter([[(2, "8.8.8.8")], [(2, "169.254.169.254")]])
    resolver = GuardedResolver(Guard(), lambda host, port, family: next(answers))
    assert [r["host"] for r in await resolver.resolve("rebinding.example", 80)] == ["8.8.8.8"]
    with pytest.raises(AddressRefused):
        await resolver.resolve("rebinding.example", 80)
    await resolver.close()


def test_a_socket_is_made_only_for_an_allowed_address() -> None:
    with pytest.raises(AddressRefused):
        Guard().socket((2, 1, 6, "", ("127.0.0.1", 80)))
    with pytest.raises(AddressRefused):
        Guard(["127.0.0.0/8"]).socket((2, 1, 6, "", ("2130706433", 80)))
    Guard(["127.0.0.0/8"]).socket((2, 1, 6, "", ("127.0.0.1", 80))).close()
