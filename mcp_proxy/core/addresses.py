"""The addresses of the server behind, as it may know itself and as clients must not see it."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is: `scheme://host:port` and the path before every target."""

    origin: str
    prefix: str  # without a slash at its end
    aliases: frozenset[str]  # origins that mean the same server, in lower case
    userinfo: tuple[str, str] | None = None
    ends_at_mcp: bool = False  # the URL named the MCP endpoint, not a prefix

    def reversed(self, location: str) -> str | None:
        """Return path, query and fragment of a URL that points at the server, None for others.

        Redirects and legacy `endpoint` events name the server by its own origin; a client that
        followed them would leave the sidecar, and the SDKs' clients refuse to.
        """
        parts = urlsplit(location)
        if not parts.netloc or f"{parts.scheme}://{parts.netloc}".lower() not in self.aliases:
            return None
        # cut, not rebuilt: what stands after the authority stays byte for byte
        rest = location[location.index("//") + 2 + len(parts.netloc) :]
        if not rest.startswith("/"):
            rest = f"/{rest}"
        if self.prefix and rest.startswith(f"{self.prefix}/"):
            rest = rest[len(self.prefix) :]
        return rest


def address(url: str, mcp_path: str) -> Address:
    """Read an upstream URL; a path equal to the MCP path is not a prefix but where it ends.

    Raises ValueError when it is not an http or https URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("an http:// or https:// URL with a host, such as http://localhost:9000")
    if parts.query or parts.fragment:
        raise ValueError("a URL without query and fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    prefix = parts.path.rstrip("/")
    ends_at_mcp = bool(prefix) and prefix == mcp_path.rstrip("/")
    return Address(
        f"{parts.scheme}://{host}:{port}",
        "" if ends_at_mcp else prefix,
        frozenset(_names(parts.scheme, host, port)),
        _userinfo(parts),
        ends_at_mcp,
    )


def _names(scheme: str, host: str, port: int) -> list[str]:
    hosts = _LOOPBACK if host in _LOOPBACK else (host,)
    ports = [f":{port}", *([""] if port == _DEFAULT_PORTS[scheme] else [])]
    return [f"{scheme}://{name}{suffix}" for name in hosts for suffix in ports]


def _userinfo(parts: SplitResult) -> tuple[str, str] | None:
    return (parts.username, parts.password or "") if parts.username else None
