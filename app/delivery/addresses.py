"""Which addresses a request may go to: public ones, and networks that the settings allow. Checked after resolution and at connect.

Without this, whoever writes a target's URL, or owns the DNS name in it, could make Tidings talk to what only Tidings can reach
(server-side request forgery): cloud metadata at 169.254.169.254, a database on a private network, itself.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: IPv4 that is not the public internet: all of the IANA special-purpose registry, multicast, class E. Cloud metadata is in 169.254.0.0/16,
#: 192.0.0.0/24 (Oracle) and 100.64.0.0/10 (Alibaba), but Azure's is at an address of its own that looks public.
_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)
#: All of IPv6 that was ever given out for the public internet. Outside are loopback, unspecified, v4-mapped (::ffff/96), v4-compatible,
#: NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local (fc00::/7), link-local (fe80::/10), site-local, SRv6 (5f00::/16), multicast.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
#: Inside of it, but not public, or a tunnel that may end anywhere: IETF protocols with Teredo, benchmarking, AMT and ORCHID; documentation;
#: 6to4; AS112; the 6bone, given back; documentation again.
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20")
)
#: ISATAP (RFC 5214): whatever the network, these interface ids (the second with the "universal" bit) carry an IPv4 address to tunnel to.
_ISATAP_IDS = (0x00005EFE, 0x02005EFE)

#: Threads that wait for the system's resolver, of each target: one that hangs delays no other target.
_RESOLVER_THREADS = 2


class AddressRefused(OSError):
    """The target's host is, or resolves into, an address that requests must not go to."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(errno.EPERM, f"{host} is at {address}, which is not a public address; delivery.allow_networks can allow it")


class Guard:
    """Says of each address whether a request may go there, and makes the sockets of those that may."""

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(n) for n in allow_networks)

    def allows(self, address: str) -> bool:
        """Whether the address, in its one canonical form, is public or allowed. Another form of an address is refused."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(ip in network for network in self._allowed):
            return True
        if isinstance(ip, ipaddress.IPv4Address):
            return not any(ip in network for network in _REFUSED_V4)
        if ip.scope_id is not None or ip not in _GLOBAL_V6 or (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP_IDS:
            return False
        return not any(ip in network for network in _REFUSED_V6)

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raises AddressRefused if any of the addresses is refused: one private among public ones is a trick."""
        for address in addresses:
            if not self.allows(address):
                raise AddressRefused(host, address)

    def socket(self, addr_info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """A socket for this very address, at connect: a literal address in a URL, which is never resolved, is caught here."""
        family, kind, proto, _, sockaddr = addr_info
        self.check(str(sockaddr[0]), [str(sockaddr[0])])
        return socket.socket(family, kind, proto)


Lookup = Callable[[str, int, int], list[tuple[int, str]]]


def system_lookup(host: str, port: int, family: int) -> list[tuple[int, str]]:
    """Family and address of each of a host's addresses, from the system's resolver. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(info[0]), str(info[4][0])) for info in found))


class GuardedResolver(AbstractResolver):
    """Resolves a name and refuses it when any of its addresses is refused. What it answers is connected to: nothing resolves twice."""

    def __init__(self, guard: Guard, lookup: Lookup = system_lookup) -> None:
        self._guard = guard
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port, family)
        self._guard.check(host, (address for _, address in found))
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST)
            for kind, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
