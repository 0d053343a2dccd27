"""What we add to an answer: header lines, and four fields of a REST answer (DESIGN section 3)."""

from email.utils import format_datetime
from functools import lru_cache
from math import floor

from mcp_proxy.core import headers as rules
from mcp_proxy.core import rest
from mcp_proxy.core.call import Call, Headers, Peer, Reply
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.origins import Admission

EVENT_STREAM = "text/event-stream"
JSON = "application/json"
CACHE_NAME = "mcp-sidecar"
_EXPOSED = (
    "Retry-After, X-Request-Id, Cache-Status, Age, Server-Timing, RateLimit, RateLimit-Policy"
)
# The length and the end of a body are a matter of each connection; the id is the caller's.
_SAID_ANEW = frozenset({"content-length", "x-request-id"})
# Stored answers below this, in bytes, are looked through once; at most 4 MiB of them.
_SMALL = 8192
_REMEMBERED = 512


class Marks:
    """Say on an answer what became of its call."""

    def __init__(self, pseudonym: str, admission: Admission, clock: Clock, *, enrich: bool) -> None:
        self._via = f"1.1 {pseudonym}"
        self._admission = admission
        self._clock = clock
        self._enrich = enrich
        self._gap_in = lru_cache(_REMEMBERED)(rest.gap_in)
        self._kinds: Memo[str, tuple[str, bool]] = Memo(_REMEMBERED)  # by header lines

    def marked(self, call: Call, reply: Reply, data: bytes) -> tuple[str, bytes]:
        """Return the header lines of an answer, the server's first, and its body with our fields."""
        took = (self._clock.now() - call.arrived) * 1000
        kind, plain = self._kind(reply)
        added = self._added(call, reply, took)
        if kind == EVENT_STREAM:
            # or a proxy in front of us would hold events back
            if "X-Accel-Buffering" not in reply.headers:
                added += "X-Accel-Buffering: no\r\n"
            if "Cache-Control" not in reply.headers:
                added += "Cache-Control: no-cache\r\n"
        elif kind == JSON and plain and self._enrich and call.message.dialect is Dialect.REST:
            data = self._enriched(call, reply, data, took)
        return self.lines(reply) + added, data

    def _kind(self, reply: Reply) -> tuple[str, bool]:
        """Return the media type of an answer, and whether its body can be read as it is."""
        known = self._kinds.get(reply.lines) if reply.lines else None
        if known is None:
            known = rules.media_type(reply.headers), rules.is_plain_utf8(reply.headers)
            if reply.lines and len(reply.lines) <= rules.SMALL:
                self._kinds.keep(reply.lines, known)
        return known

    def lines(self, reply: Reply) -> str:
        """Return the header lines of the server, but for those that are said anew."""
        headers = reply.headers
        lines = reply.lines or "".join(
            [
                f"{name}: {value}\r\n"
                for name, value in headers.items()
                if name.lower() not in _SAID_ANEW
            ]
        )
        if "Date" not in headers:  # whoever passes an answer on adds it (RFC 9110 section 6.6.1)
            lines += f"Date: {format_datetime(self._clock.wall(), usegmt=True)}\r\n"
        return lines

    def _added(self, call: Call, reply: Reply, took: float) -> str:
        note = reply.cache
        hit = note is not None and note.hit
        upstream = ""
        if reply.upstream_seconds is not None:
            upstream = f", upstream;dur={reply.upstream_seconds * 1000:.1f}"
        age = f"Age: {floor(note.age)}\r\n" if note is not None and note.age is not None else ""
        return (
            f"X-Request-Id: {call.request_id}\r\n"
            f"Via: {self._via}\r\n"
            f"Cache-Status: {cache_status(call, reply)}\r\n"
            f"Server-Timing: cache;desc={'hit' if hit else 'miss'};dur={took:.1f}{upstream}\r\n"
            f"{age}"
        )

    def _enriched(self, call: Call, reply: Reply, data: bytes, took: float) -> bytes:
        if reply.status != 200:
            return data
        hit = reply.cache is not None and reply.cache.hit
        # a stored answer is met again
        gap = self._gap_in(data) if hit and len(data) <= _SMALL else rest.gap_in(data)
        if gap is None:
            return data
        return rest.enriched(
            data,
            gap,
            execution_time_ms=f"{took:.3f}",
            cache_hit="true" if hit else "false",
            attempts=reply.attempts,
            request_id=f'"{call.request_id}"',
        )

    def leave_for_page(self, method: str, headers: Headers, peer: Peer) -> str:
        """Let a browser page whose Origin has passed read what we answer for ourselves."""
        origin = headers.get("Origin")
        if origin is None or not self._admission.of(headers.get("Host"), origin, peer)[1]:
            return ""
        leave = (
            f"Access-Control-Allow-Origin: {origin}\r\n"
            "Access-Control-Allow-Credentials: true\r\n"
            "Vary: Origin\r\n"
        )
        if not is_preflight(method, headers):
            return f"{leave}Access-Control-Expose-Headers: {_EXPOSED}\r\n"
        leave += f"Access-Control-Allow-Methods: {headers['Access-Control-Request-Method']}\r\n"
        asked = headers.get("Access-Control-Request-Headers")
        if asked is not None:
            leave += f"Access-Control-Allow-Headers: {asked}\r\n"
        return leave


def is_preflight(method: str, headers: Headers) -> bool:
    """Tell whether a browser asks before it asks (Fetch, CORS preflight)."""
    return method == "OPTIONS" and "Access-Control-Request-Method" in headers


def cache_status(call: Call, reply: Reply) -> str:
    """Return a `Cache-Status` member (RFC 9211)."""
    note = reply.cache
    if note is None:
        return f"{CACHE_NAME}; fwd={'method' if call.intent.writes else 'bypass'}"
    ttl = f"; ttl={floor(note.ttl)}" if note.ttl is not None else ""
    if note.hit:
        detail = f"; detail={note.stale}" if note.stale else ""
        return f'{CACHE_NAME}; hit{ttl}; key="{note.key}"{detail}'
    stored = "; stored" if note.stored else ""
    collapsed = "; collapsed" if note.collapsed else ""
    key = f'; key="{note.key}"' if note.key else ""
    return f"{CACHE_NAME}; fwd={note.forwarded}{stored}{collapsed}{ttl}{key}"
