"""The live page: a handful of files, read once, that ask our own endpoints (docs/dashboard.md).

The shell stands open and says nothing of the server; what it shows it asks for with the token.
"""

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from mcp_proxy.core.call import EMPTY, Reply, Whole
from mcp_proxy.core.clients import CLIENTS
from mcp_proxy.edge import lean

PAGE = "/dashboard"
_FOLDER = Path(__file__).with_name("dashboard")
# What is served, and nothing else that lies there: no path is ever made of a request's.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# Tool names come from anybody: were one ever taken for markup, it could neither run nor ask.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; "  # the icon
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time; the tag makes that cheap
    "Vary": "Accept-Encoding",
}


class File(NamedTuple):
    """One file, ready to be sent."""

    kind: str
    tag: str  # of what it says, without quotes
    plain: bytes
    packed: bytes  # with gzip

    def answer(self, request: web.BaseRequest) -> Reply:
        """Return it, packed where that is taken, or 304 where the asker has it."""
        headers = request.headers
        packs = "gzip" in codings(headers.get("Accept-Encoding", ""))
        tag = f'"{self.tag}-gz"' if packs else f'"{self.tag}"'
        said = CIMultiDict(_HEADERS, ETag=tag)
        if is_known(tag, headers.get("If-None-Match", "")):
            return Reply(304, said, EMPTY)
        said["Content-Type"] = self.kind
        if packs:
            said["Content-Encoding"] = "gzip"
        return Reply(200, said, Whole(self.packed if packs else self.plain))


@cache
def files() -> dict[str, File]:
    """Return what is served, by path; all sidecars of a process share it."""
    found = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            name = path.relative_to(_FOLDER).as_posix()
            found[PAGE if name == "index.html" else f"{PAGE}/{name}"] = _read(path)
    return {**found, f"{PAGE}/clients.js": _clients()}


def _clients() -> File:
    """Return the clients that the command line knows, too, as a module."""
    clients = json.dumps([client[1:] for client in CLIENTS], separators=(",", ":"))
    return _file(_TYPES[".js"], f"export const CLIENTS={clients}".encode())


def _read(path: Path) -> File:
    data = path.read_bytes()
    leaner = {".js": lean.script, ".css": lean.style}.get(path.suffix)
    if leaner and path.parent == _FOLDER:  # what others wrote is sent as it is
        data = leaner(data.decode()).encode()
    return _file(_TYPES[path.suffix], data)


def _file(kind: str, data: bytes) -> File:
    return File(
        kind,
        hashlib.sha256(data).hexdigest()[:16],
        data,
        gzip.compress(data, mtime=0),
    )


async def answer(request: web.BaseRequest) -> Reply:
    """Show all of this live, in a browser; the page asks for the token itself."""
    return files()[request.raw_path.partition("?")[0]].answer(request)


async def moved(_: web.BaseRequest) -> Reply:
    """Answer for the address with a slash at its end: the page's own are relative to the other."""
    return Reply(308, CIMultiDict(Location="../dashboard", **_HEADERS), EMPTY)


def codings(accepted: str) -> set[str]:
    """Return the codings that an `Accept-Encoding` takes (RFC 9110 section 12.5.3)."""
    taken = set()
    for part in accepted.lower().split(","):
        name, _, weight = part.replace(" ", "").partition(";q=")
        if weight.rstrip("0.") or not weight:
            taken.add(name)
    return taken


def is_known(tag: str, known: str) -> bool:
    """Tell whether an `If-None-Match` names a tag; weakly (RFC 9110 section 13.1.2)."""
    return known.strip() == "*" or any(
        part.strip().removeprefix("W/") == tag for part in known.split(",")
    )
