"""Who may address us: the Host and Origin checks that stop DNS rebinding and cross-site requests.

MCP's transport section demands the Origin check of a local server; since the server behind sees
its own name as Host, its defence is ours to keep (CVE-2025-66414 and its kin).
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from mcp_proxy.core.call import Headers, Peer
from mcp_proxy.core.memo import Memo

# Stricter than urllib, for which `[::1].evil.com` is loopback: what browsers can send, no more.
_HOST = re.compile(
    r"(\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+))(:[0-9]{0,5})?", re.ASCII | re.IGNORECASE
)
# Hosts and Origins come from callers; a full memo forgets everything, and takes no giants.
_MEMO_LIMIT = 1024
_NAMES_LIMIT = 512  # characters


class Admission:
    """Decide which Host and Origin pass (DESIGN section 6); remembers its answers."""

    def __init__(
        self, bound: str, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        self._hosts = frozenset(map(str.lower, allowed_hosts)) | {bound.lower()}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)
        self._memo: Memo[tuple[str | None, ...], tuple[bool, bool]] = Memo(_MEMO_LIMIT)

    def of(self, host: str | None, origin: str | None, peer: Peer) -> tuple[bool, bool]:
        """Return whether the Host passes and whether the Origin passes.

        An Origin is ours if it is the name under which we were dialled: by `peer`, which differs
        from the Host behind a trusted proxy.
        """
        asked = (host, origin, peer.host, peer.scheme)
        known = self._memo.get(asked)
        if known is None:
            known = self.host_passes(host), self.origin_passes(peer.host, origin, peer.scheme)
            if len(host or "") + len(origin or "") + len(peer.host or "") <= _NAMES_LIMIT:
                self._memo.keep(asked, known)
        return known

    def host_passes(self, host: str | None) -> bool:
        """Loopback, an IP literal, a single label, the bound name, or one that was allowed."""
        if host is None:
            return True  # HTTP/1.0; a browser always sends one
        name = hostname(host)
        if name is None:
            return False
        if "*" in self._hosts or name in self._hosts or host.lower() in self._hosts:
            return True
        return "." not in name or ip_literal(name) is not None

    def origin_passes(self, host: str | None, origin: str | None, scheme: str) -> bool:
        """No Origin, loopback on any port, the same origin, or one that was allowed."""
        if origin is None:
            return True
        lowered = origin.lower()
        if "*" in self._origins or lowered in self._origins:
            return True
        if host is not None and lowered == f"{scheme}://{host.lower()}":
            return True
        name = origin_host(lowered)
        return name is not None and is_loopback(name)


def is_slipped_in(method: str, headers: Headers, *, ours: bool) -> bool:
    """Tell whether a page of another site asks, and no Origin speaks for it.

    Browsers name the Origin of whatever changes something or is to be read by a page (Fetch, "append
    a request Origin header"), so that one alone is judged. What comes without one may be a link, or
    stand in a page as an image does; that changes nothing, and none of what is `ours` is an image.
    """
    if headers.get("Sec-Fetch-Site", "").lower() != "cross-site" or "Origin" in headers:
        return False
    if method not in {"GET", "HEAD"}:
        return True
    return ours and headers.get("Sec-Fetch-Mode", "").lower() != "navigate"


def hostname(host: str) -> str | None:
    """Return the lower-cased name of a Host header without its port, None if it is malformed."""
    match = _HOST.fullmatch(host)
    if match is None or (match["ipv6"] and ip_literal(match["ipv6"]) is None):
        return None
    return (match["ipv6"] or match["name"]).lower()


def origin_host(origin: str) -> str | None:
    """Return the host of an http or https Origin; None for `null` and everything odd."""
    scheme, _, host = origin.partition("://")
    return hostname(host) if scheme in {"http", "https"} else None


def ip_literal(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host name is, which no DNS answer can rebind, or None."""
    try:
        return ip_address(name)
    except ValueError:
        return None


def is_loopback(name: str) -> bool:
    """Tell whether a host name is this machine's own."""
    address = ip_literal(name)
    return name == "localhost" if address is None else address.is_loopback
