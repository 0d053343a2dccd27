"""Who asked, and how: the peer of the connection, or what a trusted proxy says of its own peer."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from mcp_proxy.core.call import Headers, Peer
from mcp_proxy.core.origins import ip_literal

_SCHEMES = frozenset({"http", "https", "ws", "wss"})
# A chain of proxies is short; a longer one is not read to its end.
_LONGEST = 32


def network(text: str) -> IPv4Network | IPv6Network:
    """Return the addresses that a setting names: `10.0.0.0/8`, `::1`. Raises ValueError."""
    return ip_network(text, strict=False)


class Proxies:
    """Believe `X-Forwarded-*` only of those who are trusted (MCP_TRUSTED_PROXIES)."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(map(network, trusted))

    def trusts(self, address: str) -> bool:
        """Tell whether an address is one of a trusted proxy."""
        if not self._trusted:
            return False
        found = ip_literal(address)
        return found is not None and any(found in trusted for trusted in self._trusted)

    def peer(self, headers: Headers, address: str, scheme: str) -> Peer:
        """Return who asked: from the right, the first address that no trusted proxy has.

        What stands to the left of it was written by somebody who is not trusted, and is dropped.
        """
        host = headers.get("Host")
        if not self.trusts(address):
            return Peer(address, address, scheme, host)
        said = ",".join(headers.getall("X-Forwarded-For", ()))
        hops = [address]
        for hop in reversed([part.strip() for part in said.split(",")][-_LONGEST:]):
            if ip_literal(hop) is None or not self.trusts(hops[0]):
                break
            hops.insert(0, hop)
        forwarded = headers.get("X-Forwarded-Proto", "").lower()
        return Peer(
            hops[0],
            ", ".join(hops),
            forwarded if forwarded in _SCHEMES else scheme,
            headers.get("X-Forwarded-Host") or host,
        )


def household(address: str) -> str:
    """Return what one client has: an IPv4 address, or the /64 that an IPv6 address stands in.

    Whoever has one IPv6 address has as many as it likes (RFC 7421).
    """
    found = ip_literal(address) if ":" in address else None
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))
