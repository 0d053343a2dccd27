"""The addresses of the server behind, as it may know itself and as clients must not see it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, unquote, urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_HOST = re.compile(r"[\s,]")  # a list of URLs whose second one has lost its scheme
_ORIGIN = re.compile(r"[a-z]+://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is: `scheme://host:port` and the path before every target."""

    origin: str
    prefix: str  # without a slash at its end
    aliases: frozenset[str]  # origins that mean the same server, in lower case
    userinfo: tuple[str, str] | None = None
    ends_at_mcp: bool = False  # the URL named the MCP endpoint, not a prefix
    command: str = ""  # the program, where the server is a command of ours

    @property
    def name(self) -> str:
        """Return what tells this server from others."""
        return f"stdio:{self.command}" if self.command else self.base

    @property
    def base(self) -> str:
        """Return what stands before each target in a URL."""
        return self.origin + self.prefix

    def also(self, host: str) -> "Address":
        """Return the same address, known by another Host as well."""
        scheme = self.origin.partition(":")[0]
        return replace(self, aliases=self.aliases | {f"{scheme}://{host.lower()}"})

    def reversed(self, location: str) -> str | None:
        """Return path, query and fragment as clients of ours say them; None if they stay as they are.

        Redirects and legacy `endpoint` events name the server by its own origin, and its paths
        with the prefix; a client that followed them would leave the sidecar, and the SDKs' clients
        refuse to, or would have the prefix twice.
        """
        match = _ORIGIN.match(location)
        origin = match[0] if match else ""
        if origin and origin.lower() not in self.aliases:
            return None
        # cut, not parsed: what stands after the authority stays byte for byte
        rest = location[len(origin) :]
        inside = rest.removeprefix(self.prefix)
        if inside != rest and inside[:1] in {"", "/", "?", "#"}:
            rest = inside
        elif not origin:
            return None
        return rest if rest.startswith("/") else f"/{rest}"


def address(url: str, mcp_path: str) -> Address:
    """Read an upstream URL; a path equal to the MCP path is not a prefix but where it ends.

    Raises ValueError when it is not an http or https URL with a host.
    """
    parts = urlsplit(url)
    hostname = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORTS or not hostname or _NO_HOST.search(hostname):
        raise ValueError("an http:// or https:// URL with a host, such as http://localhost:9000")
    if parts.query or parts.fragment:
        raise ValueError("a URL without query and fragment")
    host = f"[{hostname}]" if ":" in hostname else hostname
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


def of_command(program: str) -> Address:
    """Return the address of a server that is a command; its connections go to a socket of ours."""
    return Address(
        "http://stdio:80", "", frozenset({"http://stdio", "http://stdio:80"}), command=program
    )


def _names(scheme: str, host: str, port: int) -> list[str]:
    hosts = _LOOPBACK if host in _LOOPBACK else (host,)
    ports = [f":{port}", *([""] if port == _DEFAULT_PORTS[scheme] else [])]
    return [f"{scheme}://{name}{suffix}" for name in hosts for suffix in ports]


def _userinfo(parts: SplitResult) -> tuple[str, str] | None:
    """Return user and password, which a URL spells percent-encoded (RFC 3986 section 3.2.1)."""
    if not parts.username and not parts.password:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def own_url(environ: Mapping[str, str]) -> str:
    """Return where the sidecar of this environment listens."""
    host = environ.get("MCP_HOST") or "localhost"
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - every address: then this one, too
        host = "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{environ.get('MCP_OPS_PORT') or environ.get('MCP_PORT') or 8000}"
