"""Where requests enter and answers leave: checks, the reading of a Call, the writing of a Reply."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from secrets import token_hex

from aiohttp import HttpVersion10, web
from multidict import CIMultiDict

from mcp_proxy.core import headers as rules
from mcp_proxy.core.call import (
    EMPTY,
    Call,
    Delivery,
    Headers,
    Peer,
    RawHeaders,
    Reply,
    Stream,
    Whole,
)
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import (
    BadRequestError,
    DrainingError,
    HostNotAllowedError,
    LoopDetectedError,
    OriginNotAllowedError,
    ProxyError,
)
from mcp_proxy.core.intent import OPAQUE, RESPONSE, SAFE_HTTP, STREAM, Stack
from mcp_proxy.core.jsonrpc import is_response
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Message
from mcp_proxy.core.origins import Admission, is_slipped_in
from mcp_proxy.core.peers import Proxies, household
from mcp_proxy.core.trace import trace_of
from mcp_proxy.core.traffic import Traffic
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.body import Held, Patience, read_body
from mcp_proxy.edge.connection import Connection
from mcp_proxy.edge.express import Express, Lane
from mcp_proxy.edge.flow import write_stream
from mcp_proxy.edge.heartbeat import Heartbeat
from mcp_proxy.edge.listening import Listening, Visit
from mcp_proxy.edge.live import LiveSocket
from mcp_proxy.edge.mail import Mail, Owing, said_in
from mcp_proxy.edge.marks import EVENT_STREAM, Marks, is_preflight
from mcp_proxy.edge.own import PROBES, Own
from mcp_proxy.edge.tunnel import Relay
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.timeouts import Together

# Without these a call under way might not come to its end.
_GOES_ON = frozenset({"notifications/cancelled", "notifications/progress"})
# Heads that have passed the checks.
_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Door:
    """The settings of the inbound side."""

    admission: Admission
    proxies: Proxies
    pseudonym: str  # our name in Via
    buffer_limit: int  # bytes
    max_body_bytes: int  # 0 is no limit
    body_timeout: float  # seconds of silence
    held_bytes: int  # of bodies of all requests together
    enrich: bool
    sse_keepalive: float  # seconds of silence until a comment; 0 is never


@dataclass(frozen=True, slots=True)
class Roads:
    """The stacks, joined: where a call may go."""

    stacks: Mapping[Stack, Forward]
    websocket: Forward
    refusal: Callable[[Call, ProxyError], Awaitable[Reply]]
    known: Callable[[Call], Reply | None] | None  # the cache's answer, if it is at hand


class Inbound:
    """Answer every request of the port."""

    def __init__(
        self,
        door: Door,
        roads: Roads,
        traffic: Traffic,
        own: Own,
        *,
        clock: Clock,
        spawn: Spawn,
        elsewhere: Callable[[Owing], Awaitable[object]] | None = None,
    ) -> None:
        self._own = own
        self._clock = clock
        self._spawn = spawn
        self._draining = False
        self._listening = Listening()
        # the other workers, one of which may have the stream on which a posted call is answered
        self._elsewhere = elsewhere
        self._mail = Mail(door.buffer_limit, elsewhere=elsewhere is not None)
        self._held = Held(door.held_bytes)
        self._opening = Together()  # streams that have no head yet
        self._sending = Together()  # what else takes the short stack, and so has no deadline
        # Unique, not secret: asking the system for randomness costs more than a cache hit.
        self._run = token_hex(4)
        self._numbers = count(1)
        self._passed: Memo[tuple[bool, RawHeaders], None] = Memo(_REMEMBERED)
        self.express = Express()
        self.adopt(door, roads, traffic)

    def adopt(self, door: Door, roads: Roads, traffic: Traffic) -> None:
        """Take these for what comes from now on; what is under way goes on as it began."""
        self._door = door
        self._roads = roads
        self._traffic = traffic
        self._passed.clear()
        self._patience = Patience(
            door.buffer_limit, door.max_body_bytes, door.body_timeout, self._clock, self._held
        )
        self._heartbeat = Heartbeat(door.sse_keepalive, self._clock, self._spawn)
        self._marks = Marks(door.pseudonym, door.admission, self._clock, enrich=door.enrich)
        self.express.adopt(
            Lane(
                traffic,
                self._marks,
                roads.stacks,
                roads.known,
                self._new_id,
                self._clock,
                self._write,
                self._held,
            )
        )

    @property
    def draining(self) -> bool:
        """Tell whether new calls are refused and streams are ended."""
        return self._draining

    @draining.setter
    def draining(self, begins: bool) -> None:
        self._draining = begins
        self.express.closed = begins
        if begins:
            self._opening.end()
            self._listening.end()

    def end(self) -> None:
        """Break off what has no deadline, and is still under way."""
        self._sending.end()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        target = request.raw_path
        path = target.partition("?")[0]
        arrived = self._clock.now()
        if self._own.is_probe(path):
            return await self._answer_ours(request, path)
        request_id = self._request_id(request.headers)
        ours = self._own.shadows(path)
        door = self._door
        try:
            self._check(request, target, ours=ours)
            if ours:
                return await self._answer_ours(request, path)
            call = await self._read(request, path, request_id, arrived)
            size = len(call.body.data) if isinstance(call.body, Whole) else 0
            self._held.take(size)
        except ProxyError as error:
            return await self._refuse(request, request_id, arrived, error)
        try:
            return await self._carried(request, call, door)
        finally:
            self._held.let_go(size)

    async def _carried(
        self, request: web.BaseRequest, call: Call, door: Door
    ) -> web.StreamResponse:
        """Let a call take its road, and write what comes back."""
        if self.draining and not goes_on(call):
            reply = await self._roads.refusal(call, shutting_down())
            return await self._write(request, call, reply)
        if self._door is door:  # else its head has passed checks that are no more
            self._learn(request, call)
        if call.intent.stack is Stack.SHORT:
            reply = await self._short(call, upgrades=wants_websocket(request))
        else:
            reply = await self._roads.stacks[call.intent.stack](call)
        return await self._write(request, call, reply)

    async def answer_operator(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of the operators' port, on which nothing but our endpoints is."""
        target = request.raw_path
        path = target.partition("?")[0]
        try:
            if path not in PROBES:
                self._check(request, target, ours=True)
            return await self._answer_ours(request, path)
        except ProxyError as error:
            request_id = self._request_id(request.headers)
            return await self._refuse(request, request_id, self._clock.now(), error)

    async def _answer_ours(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path in PROBES:
            return self._own_answer(await self._own.answer(request, path, ""))
        if self.draining:
            raise shutting_down()
        client = household(self._peer(request).client)
        return await self._write_own(request, await self._own.answer(request, path, client))

    async def _refuse(
        self, request: web.BaseRequest, request_id: str, arrived: float, error: ProxyError
    ) -> web.StreamResponse:
        dialect = self._traffic.dialect(request.method, request.raw_path.partition("?")[0])
        refused = self._call(request, request_id, arrived, Message(dialect))
        reply = await self._roads.refusal(refused, error)
        return await self._write(request, refused, reply)

    async def _short(self, call: Call, *, upgrades: bool) -> Reply:
        """Ask on; a stream that has not begun when the sidecar drains is refused."""
        opens = call.intent is STREAM
        await self._tell_others(call, self._mail.posted(call))
        forward = self._roads.websocket if upgrades else self._roads.stacks[Stack.SHORT]
        try:
            async with (self._opening if opens else self._sending).within():
                reply = await forward(call)
        except TimeoutError:
            # until its head is there, a stream may be asked for again
            asked = call._replace(intent=SAFE_HTTP) if opens else call
            reply = await self._roads.refusal(asked, shutting_down(Delivery.UNKNOWN))
        if reply.status >= 400:
            await self._tell_others(call, self._mail.refused(call))
        if self.draining:  # a stream may have waited for this
            self._listening.end()
        return reply

    async def _tell_others(self, call: Call, owing: Owing | None) -> None:
        if self._elsewhere is not None and owing is not None and call.intent is not STREAM:
            await self._elsewhere(owing)

    def owes(self, owing: Owing) -> None:
        """Take note of what was posted to another worker."""
        self._mail.note(owing)

    def _check(self, request: web.BaseRequest, target: str, *, ours: bool) -> None:
        """Raise what keeps a request out, before the cache or anybody behind can answer it."""
        # what a header is worth may depend on who says it
        head = (self._door.proxies.trusts(request.remote or ""), request.raw_headers)
        if head not in self._passed:
            self._check_head(request)
            if rules.is_small(request.raw_headers):
                self._passed.keep(head, None)
        if is_slipped_in(request.method, request.headers, ours=ours):
            raise OriginNotAllowedError("Pages of other sites may not ask here.")
        if not target.startswith("/") or request.method == "CONNECT":
            raise BadRequestError("The request target must be a path.")
        if request.version < HttpVersion10:
            raise BadRequestError("HTTP/1.0 or later is spoken here.")
        if request.body_exists and wants_websocket(request):
            raise BadRequestError("The handshake of a WebSocket has no body.")

    def _request_id(self, headers: Headers) -> str:
        """Return the client's id of a request, if it is harmless, or one of ours."""
        return rules.harmless_request_id(headers.get("X-Request-Id")) or self._new_id()

    def _new_id(self) -> str:
        return f"{self._run}{next(self._numbers):08x}"

    def _peer(self, request: web.BaseRequest) -> Peer:
        return self._door.proxies.peer(request.headers, request.remote or "", request.scheme)

    def _check_head(self, request: web.BaseRequest) -> None:
        headers = request.headers
        host_passes, origin_passes = self._door.admission.of(
            headers.get("Host"), headers.get("Origin"), self._peer(request)
        )
        if not host_passes:
            raise HostNotAllowedError(
                "This Host is not served here; MCP_ALLOWED_HOSTS lists those that are."
            )
        if not origin_passes:
            raise OriginNotAllowedError(
                "Pages of this Origin may not ask here; MCP_ALLOWED_ORIGINS lists those that may."
            )
        if rules.is_framed_oddly(headers):
            raise BadRequestError("The only transfer coding that is taken is chunked.")
        if rules.abuses_connection(headers):
            raise BadRequestError("Connection names a header that is not hop-by-hop.")
        if rules.passed_through(headers, self._door.pseudonym):
            raise LoopDetectedError("The request has passed through here before.")

    async def _read(
        self, request: web.BaseRequest, path: str, request_id: str, arrived: float
    ) -> Call:
        body = await read_body(
            request, self._patience, wanted=self._traffic.wants_body(request.method, path)
        )
        spelling = (
            (request.method, request.raw_path, request.raw_headers, body.data)
            if isinstance(body, Whole) and rules.is_small(request.raw_headers)
            else None
        )
        reading = self._traffic.understood(request.method, path, request.headers, body, spelling)
        return Call(
            request.method,
            request.raw_path,
            request.headers,
            body,
            STREAM if wants_websocket(request) else reading.intent,
            request_id,
            reading.message,
            peer=self._peer(request),
            arrived=arrived,
            raw=request.raw_headers,
            tried=[],
            same=reading if spelling is not None else None,
            trace=reading.trace,
        )

    def _learn(self, request: web.BaseRequest, call: Call) -> None:
        """Let requests with this head be known by it."""
        connection = request.protocol
        if isinstance(connection, Connection) and connection.read is not None:
            self.express.learn(connection.remote, *connection.read, call)
            connection.read = None  # its answer may take days

    def _call(
        self, request: web.BaseRequest, request_id: str, arrived: float, message: Message
    ) -> Call:
        return Call(
            request.method,
            request.raw_path,
            request.headers,
            EMPTY,
            OPAQUE,
            request_id,
            message,
            peer=self._peer(request),
            arrived=arrived,
            trace=trace_of(message, request.headers),
        )

    async def _write(
        self, request: web.BaseRequest, call: Call, reply: Reply
    ) -> web.StreamResponse:
        body = reply.body
        if isinstance(body, Relay):
            return await body.run(request, self._spawn, self._listening)
        # an outage, not a refusal: the page is to see the structured error of the call itself
        if (
            reply.error_code is not None
            and reply.status >= 500
            and is_preflight(call.method, call.headers)
        ):
            reply = Reply(204, CIMultiDict(), EMPTY, attempts=reply.attempts, error_code="")
            body = EMPTY
        if isinstance(body, Whole):
            lines, data = self._marks.marked(call, reply, body.data)
            return self._answer(call, reply, lines, data)
        assert isinstance(body, Stream)  # the only Upgrade is a Relay
        answer = self._answer(call, reply, self._marks.marked(call, reply, b"")[0], None)
        events = rules.media_type(reply.headers) == EVENT_STREAM
        readable = events and "Content-Encoding" not in reply.headers
        await write_stream(
            request,
            answer,
            body,
            self._heartbeat if readable else None,
            Visit(self._listening, self._mail.box()) if call.intent is STREAM else None,
        )
        return answer

    async def _write_own(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Answer for ourselves: at once, or for as long as somebody watches."""
        body = reply.body
        if isinstance(body, LiveSocket):
            return await body.run(request, self._spawn, self._listening)
        leave = self._marks.leave_for_page(request.method, request.headers, self._peer(request))
        if isinstance(body, Whole):
            return self._own_answer(reply, leave)
        assert isinstance(body, Stream)
        answer = Answer(reply.status, reply.reason, self._marks.lines(reply) + leave, None)
        visit = Visit(self._listening, self._mail.box())
        await write_stream(request, answer, body, self._heartbeat, visit)
        return answer

    def _own_answer(self, reply: Reply, leave: str = "") -> Answer:
        assert isinstance(reply.body, Whole)
        lines = self._marks.lines(reply) + leave
        return self._last(Answer(reply.status, reply.reason, lines, reply.body.data))

    def _last(self, answer: Answer) -> Answer:
        """Let no request follow an answer on its connection while the sidecar drains."""
        if self.draining:
            answer.force_close()
        return answer

    def _answer(self, call: Call, reply: Reply, lines: str, data: bytes | None) -> Answer:
        if reply.error_code is not None:
            lines += self._marks.leave_for_page(call.method, call.headers, call.peer)
        declared = reply.headers.get("Content-Length")
        return self._last(Answer(reply.status, reply.reason, lines, data, declared))


def goes_on(call: Call) -> bool:
    """Tell whether a request is no new work, but belongs to a call that is under way."""
    if call.intent is RESPONSE or call.message.method in _GOES_ON:
        return True
    # messages of HTTP+SSE are not read otherwise
    said = said_in(call) if call.intent.stack is Stack.SHORT else None
    return said is not None and (is_response(said) or said.get("method") in _GOES_ON)


def shutting_down(delivered: Delivery = Delivery.NO) -> DrainingError:
    """Return the refusal of what comes too late."""
    return DrainingError("The sidecar is shutting down.", delivered=delivered)


def wants_websocket(request: web.BaseRequest) -> bool:
    """Tell whether a request asks to become a WebSocket (RFC 6455 section 4.1)."""
    return (
        request.method == "GET"
        and request.headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in rules.named_in_connection(request.headers)
    )
