"""Recognise the kinds of traffic on one port (DESIGN section 2): which message, which stack."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mcp_proxy.core import intent as intents
from mcp_proxy.core import jsonrpc, rest
from mcp_proxy.core.call import Headers, RawHeaders, Spelling, Stream, Whole
from mcp_proxy.core.headers import SMALL, is_plain_utf8
from mcp_proxy.core.intent import Decisions, Intent
from mcp_proxy.core.memo import Memo, Sightings
from mcp_proxy.core.message import NOTHING, Dialect, Message
from mcp_proxy.core.rules import Annotations
from mcp_proxy.core.trace import Trace, trace_of

# A request is recognised when it comes again, if it is small. With what it says, it takes up to
# 100 KB here.
_REMEMBERED = 512
_SEEN = 8192
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# By these a server may take a request for one with another method, also a GET (Flask's documentation
# has such a middleware).
_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
# What the server says of a tool to whoever sends such headers.
SaidOf = Callable[[Headers, RawHeaders, str], Annotations | None]


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the kinds of traffic arrive; compared with the raw path of the target."""

    mcp: str = "/mcp"
    sse: str = "/sse"
    messages: str = "/messages"  # a prefix
    tool_routes: tuple[str, ...] = ("/api/call-tool",)

    def is_mcp(self, path: str) -> bool:
        """Tell whether a path is the MCP endpoint, with or without a slash at its end."""
        return path.rstrip("/") == self.mcp.rstrip("/")

    def is_legacy_post(self, path: str) -> bool:
        """Tell whether a path takes the messages of HTTP+SSE clients."""
        return f"{path}/".startswith(f"{self.messages.rstrip('/')}/")


class Reading:
    """What a request says; one and the same for the same request, while that is remembered.

    `wanted` is for the cache's own notes, which hold for the same request too.
    """

    __slots__ = ("intent", "message", "trace", "wanted")

    def __init__(self, message: Message, intent: Intent, trace: Trace | None = None) -> None:
        self.message = message
        self.intent = intent
        self.trace = trace
        self.wanted: object = None


class Traffic:
    """Turn what came in into a message and an intent; what is not understood is opaque.

    Agents ask the same again and again: small requests that come a second time are remembered, and
    recognised from then on.
    """

    def __init__(self, paths: Paths, decisions: Decisions, annotated: SaidOf) -> None:
        self._paths = paths
        self._decisions = decisions
        self._annotated = annotated
        self._known: Memo[Spelling, Reading] = Memo(_REMEMBERED)
        self._seen = Sightings(_SEEN)

    def forget(self) -> None:
        """Read anew what was read before: the annotations of tools have changed."""
        self._known.clear()

    def dialect(self, method: str, path: str) -> Dialect:
        """Return the dialect that is spoken there, before a body is read."""
        if method == "POST" and path in self._paths.tool_routes:
            return Dialect.REST
        return Dialect.HTTP

    def wants_body(self, method: str, path: str) -> bool:
        """Tell whether decisions depend on the body, so that it must be read first."""
        return method == "POST" and (
            path in self._paths.tool_routes
            or self._paths.is_mcp(path)
            or self._paths.is_legacy_post(path)
        )

    def understood(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: Whole | Stream,
        spelling: Spelling | None = None,
    ) -> Reading:
        """Return what a request says; `spelling` is what to recognise it by, if its head is small."""
        if spelling is None or len(spelling[3]) > SMALL:
            return self._reading(method, path, headers, body)
        known = self._known.get(spelling)
        if known is None:
            known = self._reading(method, path, headers, body, spelling[2])
            if self._seen.again(spelling):
                self._known.keep(spelling, known)
        return known

    def _reading(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: Whole | Stream,
        raw: RawHeaders = (),
    ) -> Reading:
        message, intent = self._read(method, path, headers, body, raw)
        return Reading(message, intent, trace_of(message, headers))

    def _read(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: Whole | Stream,
        raw: RawHeaders,
    ) -> tuple[Message, Intent]:
        if any(name in headers for name in _OVERRIDES):
            return Message(self.dialect(method, path)), intents.OPAQUE
        if method == "POST":
            return self._posted(path, headers, body, raw)
        if self._paths.is_mcp(path):
            if method == "GET":
                return NOTHING, intents.STREAM
            return NOTHING, intents.SESSION_END if method == "DELETE" else _by_method(method)
        if method == "GET" and path == self._paths.sse:
            return NOTHING, intents.STREAM
        return NOTHING, _by_method(method)

    def _posted(
        self, path: str, headers: Headers, body: Whole | Stream, raw: RawHeaders
    ) -> tuple[Message, Intent]:
        readable = body.data if isinstance(body, Whole) and is_plain_utf8(headers) else b""
        if path in self._paths.tool_routes:
            call = rest.read_tool_call(readable)
            # an unreadable tool call is still one to the caller: its errors speak REST
            return (call, self._decisions.of(call)) if call else (_UNREAD_REST, intents.OPAQUE)
        legacy = self._paths.is_legacy_post(path)
        if not legacy and not self._paths.is_mcp(path):
            return NOTHING, intents.OPAQUE
        message = jsonrpc.read_request(readable, headers)
        if legacy:
            return NOTHING, self._legacy(message)
        if message is None:
            answers = jsonrpc.is_posted_response(readable)
            return NOTHING, intents.RESPONSE if answers else intents.UNREAD
        said = self._annotated(headers, raw, message.tool) if message.tool else None
        return message, self._decisions.of(message, said)

    def _legacy(self, message: Message | None) -> Intent:
        """Short stack for HTTP+SSE: the answer comes on another stream, and is not ours to keep."""
        writes = message is None or self._decisions.of(message).writes
        return replace(intents.LEGACY_POST, writes=writes)


_UNREAD_REST = Message(Dialect.REST)


def _by_method(method: str) -> Intent:
    return intents.SAFE_HTTP if method in _SAFE else intents.OPAQUE
