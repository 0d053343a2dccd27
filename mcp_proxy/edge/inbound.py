"""Where requests enter and answers leave: checks, the reading of a Call, the writing of a Reply."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from math import floor
from secrets import token_hex

from aiohttp import web
from multidict import CIMultiDict

from mcp_proxy.core import headers as rules
from mcp_proxy.core import rest
from mcp_proxy.core.call import EMPTY, Call, Reply, Stream, Whole
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import (
    BadRequestError,
    DrainingError,
    HostNotAllowedError,
    LoopDetectedError,
    OriginNotAllowedError,
    ProxyError,
)
from mcp_proxy.core.intent import OPAQUE, STREAM, Stack
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.origins import Admission
from mcp_proxy.core.traffic import Traffic
from mcp_proxy.edge.body import read_body
from mcp_proxy.edge.listening import Listening
from mcp_proxy.edge.own import Own
from mcp_proxy.edge.tunnel import Relay
from mcp_proxy.edge.verbatim import as_it_came
from mcp_proxy.layers.chain import Forward

EVENT_STREAM = "text/event-stream"
CACHE_NAME = "mcp-sidecar"


@dataclass(frozen=True, slots=True)
class Door:
    """The settings of the inbound side."""

    admission: Admission
    pseudonym: str  # our name in Via
    buffer_limit: int  # bytes
    max_body_bytes: int  # 0 is no limit
    enrich: bool


@dataclass(frozen=True, slots=True)
class Roads:
    """The stacks, joined: where a call may go."""

    stacks: Mapping[Stack, Forward]
    websocket: Forward
    refusal: Callable[[Call, ProxyError], Awaitable[Reply]]


class Inbound:
    """Answer every request of the port."""

    def __init__(
        self, door: Door, roads: Roads, traffic: Traffic, own: Own, *, clock: Clock, spawn: Spawn
    ) -> None:
        self._door = door
        self._roads = roads
        self._traffic = traffic
        self._own = own
        self._clock = clock
        self._spawn = spawn
        self._draining = False
        self._listening = Listening()
        # Unique, not secret: asking the system for randomness costs more than a cache hit.
        self._run = token_hex(4)
        self._numbers = count(1)

    @property
    def draining(self) -> bool:
        """Tell whether new calls are refused and streams are ended."""
        return self._draining

    @draining.setter
    def draining(self, begins: bool) -> None:
        self._draining = begins
        if begins:
            self._listening.end()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        target = request.raw_path
        path = target.partition("?")[0]
        arrived = self._clock.now()
        if self._own.is_probe(path):
            return await self._own.answer(request, path)
        request_id = rules.harmless_request_id(request.headers.get("X-Request-Id")) or (
            f"{self._run}{next(self._numbers):08x}"
        )
        try:
            self._check(request, target)
            if self._own.shadows(path):
                response = await self._own.answer(request, path)
                self._allow_page(request, response.headers)
                return response
            call = await self._read(request, path, request_id, arrived)
        except ProxyError as error:
            dialect = self._traffic.dialect(request.method, path)
            refused = self._call(request, request_id, arrived, Message(dialect))
            reply = await self._roads.refusal(refused, error)
            return await self._write(request, refused, reply)
        if wants_websocket(request):
            reply = await self._roads.websocket(call)
        else:
            reply = await self._roads.stacks[call.intent.stack](call)
        return await self._write(request, call, reply)

    def _check(self, request: web.Request, target: str) -> None:
        """Raise what keeps a request out, before the cache or anybody behind can answer it."""
        headers = request.headers
        host_passes, origin_passes = self._door.admission.of(
            headers.get("Host"), headers.get("Origin"), request.scheme
        )
        if not host_passes:
            raise HostNotAllowedError(
                "This Host is not served here; MCP_ALLOWED_HOSTS lists those that are."
            )
        if not origin_passes:
            raise OriginNotAllowedError(
                "Pages of this Origin may not ask here; MCP_ALLOWED_ORIGINS lists those that may."
            )
        if not target.startswith("/") and target != "*":
            raise BadRequestError("The request target must be a path.")
        if rules.abuses_connection(headers):
            raise BadRequestError("Connection names a header that is not hop-by-hop.")
        if rules.passed_through(headers, self._door.pseudonym):
            raise LoopDetectedError("The request has passed through here before.")
        if self.draining:
            raise DrainingError("The sidecar is shutting down.")

    async def _read(self, request: web.Request, path: str, request_id: str, arrived: float) -> Call:
        body = await read_body(
            request,
            wanted=self._traffic.wants_body(request.method, path),
            buffer_limit=self._door.buffer_limit,
            max_bytes=self._door.max_body_bytes,
        )
        message, intent = self._traffic.understood(request.method, path, request.headers, body)
        if wants_websocket(request):
            intent = STREAM
        return Call(
            request.method,
            request.raw_path,
            request.headers,
            body,
            intent,
            request_id,
            message,
            client=request.remote or "",
            scheme=request.scheme,
            arrived=arrived,
        )

    def _call(
        self, request: web.Request, request_id: str, arrived: float, message: Message
    ) -> Call:
        return Call(
            request.method,
            request.raw_path,
            request.headers,
            EMPTY,
            OPAQUE,
            request_id,
            message,
            client=request.remote or "",
            scheme=request.scheme,
            arrived=arrived,
        )

    async def _write(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        if isinstance(reply.body, Relay):
            return await reply.body.run(request, self._spawn, self._listening)
        # an outage, not a refusal: the page is to see the structured error of the call itself
        if reply.error_code is not None and reply.status >= 500 and is_preflight(request):
            reply = Reply(204, CIMultiDict(), EMPTY, attempts=reply.attempts, error_code="")
        headers = self._marked(request, call, reply)
        if isinstance(reply.body, Whole):
            data = reply.body.data
            if self._door.enrich and call.message.dialect is Dialect.REST:
                data = self._enriched(call, reply, headers, data)
            response = web.Response(
                status=reply.status, reason=reply.reason, headers=headers, body=data or None
            )
            as_it_came(response)
            return response
        assert isinstance(reply.body, Stream)  # the only Upgrade is a Relay
        flow = web.StreamResponse(status=reply.status, reason=reply.reason, headers=headers)
        ends_with_us = call.intent.stack is Stack.SHORT
        async with self._listening.until_drained() if ends_with_us else nullcontext():
            await write_stream(request, flow, reply.body)
        return flow

    def _marked(self, request: web.Request, call: Call, reply: Reply) -> CIMultiDict[str]:
        """Return the answer's headers with ours beside the server's."""
        headers = CIMultiDict(reply.headers)
        name = self._door.pseudonym
        headers["X-Request-Id"] = call.request_id
        headers.add("Via", f"1.1 {name}")
        headers.add("Cache-Status", cache_status(call, reply))
        if reply.cache is not None and reply.cache.age is not None:
            headers["Age"] = str(floor(reply.cache.age))
        headers.add("Server-Timing", self._timing(call, reply))
        if reply.error_code is not None:
            self._allow_page(request, headers)
        if rules.media_type(headers) == EVENT_STREAM:
            # or a proxy in front of us would hold events back
            headers.setdefault("X-Accel-Buffering", "no")
            headers.setdefault("Cache-Control", "no-cache")
        return headers

    def _timing(self, call: Call, reply: Reply) -> str:
        took = (self._clock.now() - call.arrived) * 1000
        outcome = "hit" if reply.cache is not None and reply.cache.hit else "miss"
        timing = f"cache;desc={outcome};dur={took:.1f}"
        if reply.upstream_seconds is not None:
            timing += f", upstream;dur={reply.upstream_seconds * 1000:.1f}"
        return timing

    def _allow_page(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Let a browser page whose Origin has passed read what we answer for ourselves."""
        origin = request.headers.get("Origin")
        if (
            origin is None
            or not self._door.admission.of(request.headers.get("Host"), origin, request.scheme)[1]
        ):
            return
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        headers.add("Vary", "Origin")
        if is_preflight(request):
            headers["Access-Control-Allow-Methods"] = request.headers[
                "Access-Control-Request-Method"
            ]
            asked = request.headers.get("Access-Control-Request-Headers")
            if asked is not None:
                headers["Access-Control-Allow-Headers"] = asked
        else:
            headers["Access-Control-Expose-Headers"] = (
                "Retry-After, X-Request-Id, Cache-Status, Age, Server-Timing"
            )

    def _enriched(self, call: Call, reply: Reply, headers: CIMultiDict[str], data: bytes) -> bytes:
        if reply.status != 200 or not rules.is_plain_json(headers):
            return data
        enriched = rest.enrich(
            data,
            {
                "execution_time_ms": round((self._clock.now() - call.arrived) * 1000, 3),
                "cache_hit": reply.cache is not None and reply.cache.hit,
                "attempts": reply.attempts,
                "request_id": call.request_id,
            },
        )
        headers.popall("Content-Length", None)
        return enriched


async def write_stream(request: web.Request, response: web.StreamResponse, stream: Stream) -> None:
    """Send a body on, piece by piece as it comes."""
    as_it_came(response)
    try:
        await response.prepare(request)
        async for piece in stream:
            await response.write(piece)
    except ProxyError:
        # The head is out: a clean end would make a cut body look whole.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    finally:
        await stream.aclose()


def wants_websocket(request: web.Request) -> bool:
    """Tell whether a request asks to become a WebSocket (RFC 6455 section 4.1)."""
    return (
        request.method == "GET"
        and request.headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in rules.named_in_connection(request.headers)
    )


def is_preflight(request: web.Request) -> bool:
    """Tell whether a browser asks before it asks (Fetch, CORS preflight)."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def cache_status(call: Call, reply: Reply) -> str:
    """Return a `Cache-Status` member (RFC 9211)."""
    note = reply.cache
    if note is None:
        return f"{CACHE_NAME}; fwd={'method' if call.intent.writes else 'bypass'}"
    ttl = f"; ttl={floor(note.ttl)}" if note.ttl is not None else ""
    if note.hit:
        return f"{CACHE_NAME}; hit{ttl}"
    stored = "; stored" if note.stored else ""
    collapsed = "; collapsed" if note.collapsed else ""
    return f"{CACHE_NAME}; fwd={note.forwarded}{stored}{collapsed}{ttl}"
