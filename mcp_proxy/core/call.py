"""Call and Reply: the two values that walk through all layers."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from mcp_proxy.core.intent import Intent
from mcp_proxy.core.message import NOTHING, Message
from mcp_proxy.core.trace import Trace
from mcp_proxy.core.verdict import Verdict

Headers = CIMultiDict[str] | CIMultiDictProxy[str]
Pieces = AsyncGenerator[bytes, None]
RawHeaders = tuple[tuple[bytes, bytes], ...]
# Method, target, headers and body, as they were sent: all that a request says.
Spelling = tuple[str, str, RawHeaders, bytes]


@dataclass(frozen=True, slots=True)
class Whole:
    """A body that is in memory as a whole."""

    data: bytes


class Stream:
    """A body that arrives in pieces, and what it has shown so far.

    `verdict` is None until the piece that decides is at hand; it is set before that piece is
    yielded. `event_id` is the last SSE event id, empty where there was none yet: with it the client
    may come back in `Last-Event-ID` (MCP 2025-11-25, transports). `asking` is true while a
    request of the server to the client waits for its answer; `question` is the mark of its id
    (core/jsonrpc), of the last one where there are several.

    Whoever consumes a stream calls `aclose()` in the end, also when it never began to read.
    """

    __slots__ = (
        *("_endings", "_release", "_wraps", "asking", "error_code"),
        *("event_id", "failure", "question", "verdict"),
    )

    def __init__(
        self, pieces: Pieces, release: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._wraps = [pieces]
        self._release = release
        self._endings: list[Callable[[], None]] = []
        self.verdict: Verdict | None = None
        self.event_id = b""
        self.asking = False
        self.question: int | None = None
        self.failure: Exception | None = None  # why the pieces broke off, if we know better
        self.error_code: str | None = None  # of the error of ours that is its last event

    def __aiter__(self) -> Pieces:
        return self._wraps[-1]

    def wrap(self, around: Callable[[Pieces], Pieces]) -> None:
        """Let `around` see, delay or add to the pieces that are still to come."""
        self._wraps.append(around(self._wraps[-1]))

    def on_end(self, told: Callable[[], None]) -> None:
        """Call `told` once when the stream is over: read to its end, cut, or left alone."""
        self._endings.append(told)

    async def aclose(self) -> None:
        """End the stream and release what is under it; safe to repeat.

        What fails in the end of one part, or is cancelled there, keeps no other part open.
        """
        release, self._release = self._release, None
        endings, self._endings = self._endings, []
        async with AsyncExitStack() as closing:  # runs from the last to the first
            for told in reversed(endings):
                closing.callback(told)
            if release is not None:
                closing.push_async_callback(release)
            # Each wrap by hand: closing an async generator that never started skips its `finally`.
            for pieces in self._wraps:
                closing.push_async_callback(pieces.aclose)


class Upgrade:
    """A connection that has stopped being HTTP (a WebSocket); only the edge can relay it."""

    __slots__ = ()


Body = Whole | Stream | Upgrade
# Call, CacheNote and Reply are made for each request: a named tuple takes a quarter of the time of
# a frozen dataclass (0.9 against 3.3 µs), and is as immutable.
EMPTY = Whole(b"")


class Delivery(Enum):
    """Whether the server can have seen a request (DESIGN section 5, `delivered`)."""

    NO = "no"
    UNKNOWN = "unknown"


class Peer(NamedTuple):
    """Where a request comes from, as the server is told."""

    client: str = ""  # address of whoever asked
    hops: str = ""  # `X-Forwarded-For`: the client, and every proxy that it came through
    scheme: str = "http"
    host: str | None = None  # under which name we were dialled


NOBODY = Peer()


class Same(Protocol):
    """A request that is recognised when it comes again (core/traffic)."""

    wanted: object  # the cache's notes


class Call(NamedTuple):
    """A request, read once. The original bytes are in `target` and `body`, untouched."""

    method: str
    target: str  # as it stood in the request line, percent-encoding and all
    headers: Headers
    body: Whole | Stream
    intent: Intent
    request_id: str
    message: Message = NOTHING
    peer: Peer = NOBODY
    arrived: float = 0.0  # Clock.now() when the head was read
    attempt: int = 1
    silence: float | None = None  # seconds without a byte after which this try is given up
    key: str | None = None  # where its answer is kept, once the cache has looked
    raw: RawHeaders = ()  # the headers as they were spelled; empty for calls of our own
    tried: list[str] | None = None  # the targets that its tries went to, one after the other
    same: "Same | None" = None  # what is remembered of this request, the next time too
    trace: Trace | None = None  # where it stands in somebody's trace, if that is known
    known: "Reply | None" = None  # its stored answer, where that was looked for beforehand

    @property
    def ids(self) -> dict[str, str]:
        """Return by what an event says whose it is (DESIGN section 6)."""
        if self.trace is None:
            return {"request_id": self.request_id}
        return {"request_id": self.request_id, "trace_id": self.trace.trace_id}


class CacheNote(NamedTuple):
    """How the cache took part in an answer; becomes `Cache-Status` (RFC 9211) and `Age`."""

    hit: bool = False
    forwarded: str = ""  # why it was asked for: miss, stale, bypass, method (RFC 9211, 2.2)
    stored: bool = False
    collapsed: bool = False
    stale: str = ""  # why an answer is told whose time is over: the name of RFC 5861 for it
    ttl: float | None = None  # seconds of freshness left; below 0 when it is stale
    age: float | None = None  # seconds since it was stored
    key: str = ""  # the beginning of the key's hash: what `POST /api/cache/clear` takes


class Reply(NamedTuple):
    """An answer on its way to the caller."""

    status: int
    headers: Headers
    body: Body
    reason: str | None = None
    verdict: Verdict = Verdict.OK
    attempts: int = 0  # tries that went out for it; 0 when it came from the cache or from us
    cache: CacheNote | None = None
    upstream_seconds: float | None = None
    error_code: str | None = None  # set on answers that the sidecar itself made
    lines: str = ""  # the headers as lines, where they are spelled already

    async def discard(self) -> None:
        """Let go of an answer that nobody gets."""
        if isinstance(self.body, Stream):
            await self.body.aclose()
