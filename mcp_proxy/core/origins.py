"""Who may address us: the Host and Origin checks that stop DNS rebinding and cross-site requests.

MCP's transport section demands the Origin check of a local server; since the server behind sees
its own name as Host, its defence is ours to keep (CVE-2025-66414 and its kin).
"""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Hosts and Origins come from callers; a full memo forgets everything.
_MEMO_LIMIT = 1024


class Admission:
    """Decide which Host and Origin pass (DESIGN section 6); remembers its answers."""

    def __init__(
        self, bound: str, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        self._hosts = frozenset(map(str.lower, allowed_hosts)) | {bound.lower()}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)
        self._memo: dict[tuple[str | None, str | None, str], tuple[bool, bool]] = {}

    def of(self, host: str | None, origin: str | None, scheme: str) -> tuple[bool, bool]:
        """Return whether the Host passes and whether the Origin passes."""
        asked = (host, origin, scheme)
        known = self._memo.get(asked)
        if known is None:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            known = self._memo[asked] = (self.host_passes(host), self.origin_passes(*asked))
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
        return name in _LOOPBACK_NAMES or "." not in name or is_address(name)

    def origin_passes(self, host: str | None, origin: str | None, scheme: str) -> bool:
        """No Origin, loopback on any port, the same origin, or one that was allowed."""
        if origin is None:
            return True
        lowered = origin.lower()
        if "*" in self._origins or lowered in self._origins:
            return True
        if host is not None and lowered == f"{scheme}://{host.lower()}":
            return True
        return origin_host(lowered) in _LOOPBACK_NAMES


def hostname(host: str) -> str | None:
    """Return the lower-cased name of a Host header without its port, None if it is malformed."""
    if "@" in host:
        return None
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.netloc == host and parts.port != -1 else None
    except ValueError:
        return None


def origin_host(origin: str) -> str | None:
    """Return the host of an http or https Origin; None for `null` and everything odd."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or parts.path or parts.query or parts.fragment:
        return None
    return hostname(parts.netloc)


def is_address(name: str) -> bool:
    """Tell whether a host name is an IP literal, which no DNS answer can rebind."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
