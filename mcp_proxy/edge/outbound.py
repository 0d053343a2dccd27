"""Ask the server: one request out, one reply in; the innermost end of every stack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from mcp_proxy.core import headers as rules
from mcp_proxy.core import jsonrpc, rest
from mcp_proxy.core.addresses import Address
from mcp_proxy.core.call import (
    Body,
    Call,
    Delivery,
    Headers,
    Peer,
    Pieces,
    RawHeaders,
    Reply,
    Stream,
    Whole,
)
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import BadRequestError, UpstreamBrokenError
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.metadata import WELL_KNOWN, PublicUrl
from mcp_proxy.core.reading import is_too_deep, read_answer, read_loosely
from mcp_proxy.core.verdict import Verdict, judge_status
from mcp_proxy.edge.events import Ear, Listener, message_in, only_answer, stranger
from mcp_proxy.edge.exchange import LARGEST, Exchange, NeverWrittenError, Response
from mcp_proxy.edge.failures import FAILURES, Presence, end_with_connection, failed, noted
from mcp_proxy.edge.pool import Pools
from mcp_proxy.edge.silence import caller
from mcp_proxy.edge.verbatim import sayable

EVENT_STREAM = "text/event-stream"
_SHORT = 512  # characters of a target whose URL is remembered
# Small heads whose lines are remembered, up to 3 KB each.
_REMEMBERED = 512
# Without a body, a request with one of these methods says no length (RFC 9110 section 8.6).
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class Wire:
    """The settings of the outbound side."""

    address: Address
    connect_timeout: float  # seconds
    buffer_limit: int  # bytes; larger answers are streamed
    streams_limit: int
    pseudonym: str  # our name in Via
    down_patterns: tuple[str, ...] = ()
    authorization: str | None = None  # for requests that carry none
    host_header: str = "upstream"  # or "client", or the name itself
    public: PublicUrl | None = None

    def host_for(self, peer: Peer) -> str | None:
        """Return the Host that the server is to see; None is its own address."""
        if self.host_header == "upstream":
            return None
        return peer.host if self.host_header == "client" else self.host_header


class Outbound:
    """Send a call to the server and judge what comes back.

    Raises UpstreamUnreachableError, UpstreamTimeoutError, UpstreamBrokenError, BadRequestError
    (the request cannot be written as HTTP) and OverloadedError (too many streams are open).
    """

    def __init__(
        self, wire: Wire, pools: Pools, clock: Clock, listener: Listener, presence: Presence
    ) -> None:
        self._wire = wire
        self._pools = pools
        self._clock = clock
        self._listener = listener
        self._presence = presence
        self._origin = URL(wire.address.origin)
        self._via = f"1.1 {wire.pseudonym}"
        self._timeouts: Memo[float | None, aiohttp.ClientTimeout] = Memo(100)
        self._urls: Memo[str, URL] = Memo(256)
        self._exchange = Exchange(self._origin, wire.address.prefix)
        # by what a client says with each of its requests
        self._lines: Memo[tuple[RawHeaders, Peer, bool], str] = Memo(_REMEMBERED)

    def adopt(self, wire: Wire) -> None:
        """Go on with other settings of the same server."""
        self._wire = wire
        self._timeouts.clear()

    async def __call__(self, call: Call) -> Reply:
        """Return the server's answer; its body is whole if it could be judged, else a stream."""
        if call.intent.stack is Stack.SHORT:
            self._pools.check(self._wire.streams_limit)
        started = self._clock.now()
        if call.tried is not None and len(call.tried) < call.attempt:  # where none was chosen
            call.tried.append(self._wire.address.name)
        response = await self._sent(call, started)
        self._presence.answered(started)
        self._pools.check_address(protocol_of(response))
        if rules.claims_connection(call.headers):
            self._pools.distrust(protocol_of(response))
        end_with_connection(response)
        try:
            headers = self._head(call, response)
            body, verdict = await self._body(call, response, headers)
        except BaseException:
            response.close()
            raise
        return Reply(
            response.status,
            headers,
            body,
            reason=response.reason,
            verdict=verdict,
            attempts=1,
            upstream_seconds=self._clock.now() - started,
        )

    async def _sent(self, call: Call, started: float) -> aiohttp.ClientResponse | Response:
        """Send the request; return the response with its head read."""
        body = call.body
        small = call.raw if call.same is not None else ()
        caller.set((call.peer.client, self._pools.callers.of(call.headers, small)))
        if not call.intent.repeatable:
            # Let the loop look at its sockets before a pooled write: a connection that the server
            # has closed meanwhile is then noticed (200 of 200), not written to.
            await self._clock.sleep(0)
            await self._clock.sleep(0)
        try:
            if isinstance(body, Whole) and len(body.data) <= LARGEST:
                asked = (call.method, call.target, self._spelled(call, len(body.data)))
                timeout = self._timeout(call.silence)
                return await self._exchange.ask(self._pool(call), asked, body.data, timeout)
            return await self._sent_at_length(call)
        except FAILURES as failure:
            if isinstance(body, Stream) and body.failure is not None:
                raise body.failure from None
            error = failed(failure, unsent=isinstance(failure, NeverWrittenError))
            raise noted(error, self._presence, started) from None
        except ValueError:
            raise BadRequestError("The request cannot be forwarded as HTTP/1.1.") from None

    async def _sent_at_length(self, call: Call) -> aiohttp.ClientResponse:
        """Send a request whose body may have to wait until the server takes it."""
        body = call.body
        tracker = None if call.intent.repeatable else aiohttp.UploadTracker()
        try:
            return await self._pool(call).request(
                call.method,
                self._url(call.target),
                data=body if isinstance(body, Stream) else body.data,
                headers=self._headers(call),
                allow_redirects=False,
                timeout=self._timeout(call.silence),
                upload_tracker=tracker,
            )
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
            # What was handed to the transport: `bytes_written` forgets what had gone out when it closed.
            # It is no public name; an aiohttp without it lets us prove nothing.
            if tracker and getattr(tracker, "_accepted", None) == 0:
                raise NeverWrittenError from failure
            raise

    def _pool(self, call: Call) -> aiohttp.ClientSession:
        if call.intent.stack is Stack.SHORT:
            return self._pools.streams
        return self._pools.calls if call.intent.repeatable else self._pools.once

    def _url(self, target: str) -> URL:
        known = self._urls.get(target)
        if known is None:
            # as a path, query and all: a URL that is parsed loses a bare "?" and what follows "#"
            known = self._origin.with_path(self._wire.address.prefix + target, encoded=True)
            if len(target) <= _SHORT:
                self._urls.keep(target, known)
        return known

    def _headers(self, call: Call) -> CIMultiDict[str]:
        sent = rules.request_headers(
            call.headers,
            call.raw,
            via=self._via,
            peer=call.peer,
            request_id=call.request_id,
            host=self._wire.host_for(call.peer),
            trace=call.trace,
        )
        if self._wire.authorization and "Authorization" not in sent:
            sent["Authorization"] = self._wire.authorization
        return sayable(sent)

    def _spelled(self, call: Call, length: int) -> str:
        """Return the header lines of a request whose body is at hand."""
        traced = call.trace.lines() if call.trace is not None else ""
        # what stands in `raw` is all that these lines are made of; a call whose headers are ours has none
        small = bool(call.raw) and call.same is not None
        key = (call.raw, call.peer, bool(traced))
        lines = self._lines.get(key) if small else None
        if lines is None:
            lines = self._lasting(call, traced=bool(traced))
            if small:
                self._lines.keep(key, lines)
        framed = length or call.method not in _BODILESS or "Content-Length" in call.headers
        frame = f"Content-Length: {length}\r\n" if framed else ""
        return f"{lines}X-Request-Id: {call.request_id}\r\n{traced}{frame}"

    def _lasting(self, call: Call, *, traced: bool) -> str:
        host = self._wire.host_for(call.peer)
        sent = rules.lasting_headers(
            call.headers, call.raw, via=self._via, peer=call.peer, host=host, traced=traced
        )
        if self._wire.authorization and "Authorization" not in call.headers:
            sent.append(("Authorization", self._wire.authorization))
        if not rules.is_sound(*chain.from_iterable(sent)):
            raise ValueError
        # its length is said with each body
        return "".join(f"{name}: {value}\r\n" for name, value in sent if not _is_length(name))

    def _timeout(self, silence: float | None) -> aiohttp.ClientTimeout:
        return self._timeouts.get(silence) or self._timeouts.keep(
            silence,
            aiohttp.ClientTimeout(
                total=None, sock_connect=self._wire.connect_timeout, sock_read=silence
            ),
        )

    def _head(self, call: Call, response: aiohttp.ClientResponse | Response) -> CIMultiDict[str]:
        """Return the headers that go on to the client."""
        headers = rules.end_to_end(response.headers, response.raw_headers)
        sound = not rules.is_framed_oddly(response.headers) and response.status >= 200
        if not sound or not rules.is_sound(response.reason or "", *headers.values()):
            raise UpstreamBrokenError("The server's answer is no HTTP.", delivered=Delivery.UNKNOWN)
        if "Location" in headers:
            headers = mapped(headers, "location", partial(self._location, call))
        public = self._wire.public
        if public is not None and "WWW-Authenticate" in headers:
            return mapped(headers, "www-authenticate", public.challenge)
        return headers

    async def _body(
        self, call: Call, response: aiohttp.ClientResponse | Response, headers: CIMultiDict[str]
    ) -> tuple[Body, Verdict]:
        """Return the body, whole if that is how it can be judged, and the judgement so far."""
        by_status = judge_status(response.status, hinted="Retry-After" in headers)
        if response.status == 200 and rules.media_type(headers) == EVENT_STREAM:
            return await self._read_events(call, response, headers)
        if not self._fits(call, response):
            return self._stream(call, response, []), by_status
        pieces, complete = await self._collect(response)
        if not complete:
            return self._stream(call, response, pieces), by_status
        data = b"".join(pieces)
        if response.status == 200:
            data = self._publicly(call, headers, data)
            return Whole(data), await self._judged(call, response, headers, data)
        return Whole(data), by_status

    def _fits(self, call: Call, response: aiohttp.ClientResponse | Response) -> bool:
        """Tell whether to read a body whole: it is small, or an answer that must be judged."""
        length = response.content_length
        if length is None:
            metadata = self._wire.public is not None and call.target.startswith(WELL_KNOWN)
            return call.message.wants_answer or metadata
        return length <= self._wire.buffer_limit

    async def _collect(
        self, response: aiohttp.ClientResponse | Response
    ) -> tuple[list[bytes], bool]:
        """Read pieces until the end or the limit; tell whether the end was reached."""
        content = response.content
        pieces: list[bytes] = []
        size = 0
        try:
            if content.is_eof() and content.total_bytes <= self._wire.buffer_limit:
                return [content.read_nowait()], True  # it came together with the head
            while piece := await content.readany():
                pieces.append(piece)
                size += len(piece)
                if size > self._wire.buffer_limit:
                    return pieces, False
        except FAILURES as failure:
            raise failed(failure) from None
        return pieces, True

    def _publicly(self, call: Call, headers: CIMultiDict[str], data: bytes) -> bytes:
        """Say the server's OAuth metadata as clients of ours must read it."""
        public = self._wire.public
        if public is None or not call.target.startswith(WELL_KNOWN):
            return data
        if not rules.is_plain_json(headers):
            return data
        said = public.metadata(data)
        if said != data:
            for name in ("Content-Length", "ETag"):  # they speak of other bytes
                headers.popall(name, None)
        return said

    async def _judged(
        self, call: Call, response: aiohttp.ClientResponse | Response, headers: Headers, data: bytes
    ) -> Verdict:
        """Judge the data of a 200."""
        message = call.message
        if not message.wants_answer or "Content-Encoding" in headers:
            return Verdict.OK
        if is_cut(response.headers, data):
            raise UpstreamBrokenError("The server's answer was cut.", delivered=Delivery.UNKNOWN)
        if message.dialect is Dialect.REST:
            return rest.judge_answer(data, self._wire.down_patterns)
        said = message_in(data)
        if said is None and is_too_deep(data):
            return Verdict.OK  # most likely the answer
        if jsonrpc.is_stranger(said, message):
            self._pools.distrust(protocol_of(response))
            raise stranger()
        verdict = jsonrpc.judge_message(said, message)
        if verdict is Verdict.OK and message.method == "tools/list":
            await self._tell_tools(call, data)
        return verdict

    async def _tell_tools(self, call: Call, data: bytes) -> None:
        answer = read_answer(data)
        if answer is not None:
            await self._listener.tools_listed(call, answer["result"])

    def _stream(
        self,
        call: Call,
        response: aiohttp.ClientResponse | Response,
        begun: list[bytes],
        around: Callable[[Stream, Pieces], Pieces] | None = None,
    ) -> Stream:
        """Return the rest of a response as a stream that counts while it is open.

        No try follows one whose answer goes out, so of the silences that end a try only a rule's
        own still does, and not while the client is asked something: the deadline has the rest.
        """
        if isinstance(response, Response):
            response.forget_head()
        silence = call.intent.attempt_timeout
        bear(response, silence)
        self._pools.open_streams += 1
        stream = Stream(_pieces(response.content, begun), partial(self._release, response))
        if silence is not None:
            stream.wrap(lambda inner: _bearing(stream, response, silence, inner))
        if around is not None:
            stream.wrap(lambda inner: around(stream, inner))
        return stream

    async def _release(self, response: aiohttp.ClientResponse | Response) -> None:
        self._pools.ended()
        response.close()

    async def _read_events(
        self, call: Call, response: aiohttp.ClientResponse | Response, headers: CIMultiDict[str]
    ) -> tuple[Body, Verdict]:
        if "Content-Encoding" in headers:  # unreadable, and to be relayed all the same
            return self._stream(call, response, []), Verdict.OK
        begun: list[bytes] = []
        if call.intent.repeatable and call.message.id is not None:
            begun, answer = await only_answer(
                response.content, call, self._wire.buffer_limit, self._clock
            )
            if answer is not None:
                verdict = await self._judged(call, response, headers, answer)
                response.close()
                return Whole(b"".join(begun)), verdict
        # what is cut gets a last event of ours, so the length is not the server's to name
        headers.popall("Content-Length", None)
        ear = Ear(call, self._listener, self._wire.address, self._wire.buffer_limit)
        return self._stream(call, response, begun, ear.relay), Verdict.OK

    def _location(self, call: Call, location: str) -> str:
        path = self._wire.address.reversed(location)
        if path is None:
            return location
        return f"{call.peer.scheme}://{call.peer.host}{path}" if call.peer.host else path


async def _pieces(content: aiohttp.StreamReader, begun: list[bytes]) -> Pieces:
    for piece in begun:
        yield piece
    try:
        while piece := await content.readany():
            yield piece
    except FAILURES as failure:
        raise failed(failure) from None


async def _bearing(
    stream: Stream,
    response: aiohttp.ClientResponse | Response,
    silence: float,
    pieces: Pieces,
) -> Pieces:
    async for piece in pieces:
        yield piece
        bear(response, None if stream.asking else silence)  # that piece may have asked the client


def protocol_of(response: aiohttp.ClientResponse | Response) -> ResponseHandler | None:
    """Return what speaks on the connection of a response, which may have let go of it by now."""
    return response._protocol  # noqa: SLF001 - nobody else knows it


def bear(response: aiohttp.ClientResponse | Response, silence: float | None) -> None:
    """Bound the silence in the rest of an answer, in seconds; None lets it be as long as it likes."""
    connection = response.connection
    protocol = connection.protocol if connection is not None else None
    if protocol is not None and protocol.read_timeout != silence:
        protocol.read_timeout = silence
        protocol.start_timeout()


def is_cut(headers: Headers, data: bytes) -> bool:
    """Tell whether a JSON body that ends with its connection has ended too early.

    Nothing else tells: HTTP/1.0 needs no length, and a server that dies closes in good order.
    """
    if "Content-Length" in headers or "Transfer-Encoding" in headers:
        return False
    if not rules.is_plain_json(headers):
        return False
    try:
        read_loosely(data)
    except ValueError:
        return not is_too_deep(data)
    return False


def _is_length(name: str) -> bool:
    return name.lower() == "content-length"


def mapped(headers: CIMultiDict[str], name: str, change: Callable[[str], str]) -> CIMultiDict[str]:
    """Return the headers with all values of one name changed, in their places."""
    return CIMultiDict(
        [(key, change(value) if key.lower() == name else value) for key, value in headers.items()]
    )
