"""One connection of a client: aiohttp's own, with a way round it for requests that are known."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from secrets import token_hex
from typing import Any

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter

from mcp_proxy.core import errors
from mcp_proxy.core.call import Call, Delivery, Reply, Whole
from mcp_proxy.core.errors import (
    BadRequestError,
    HeadTooLargeError,
    InternalError,
    ProxyError,
    RequestTooSlowError,
)
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.express import MORE, Express, Met
from mcp_proxy.edge.full import refusal
from mcp_proxy.layers.rescue import PROBLEM, problem

_NO_STORE = "Cache-Control: no-store\r\n"
_END = b"\r\n\r\n"
_UNKNOWN = -1
# Bytes of a head that may come without its end; one line of it has a limit of its own, and there may
# be 128 of them. As much as the loop reads at once, so that it does not matter how a head is cut.
_HEAD_LIMIT = 262_144
# What we read of aiohttp's connection (3.14.5), to know that it stands between two requests.
_LEANT_ON = (
    "_waiter",
    "_messages",
    "_next_keepalive_close_time",
    "_paused",
    "_close",
    "_handle_request",
    "_handler_waiter",
    "_process_keepalive",
    "_request_factory",
    "_request_in_progress",
)
# Bytes of later requests that are held while one is answered; beyond, the client is not read from.
_AHEAD = 65_536


class Connection(web.RequestHandler):
    """Speak HTTP on one connection; what is no HTTP gets an answer, too."""

    __slots__ = (
        *("_beginning", "_express", "_head_timeout", "_held", "_late", "_missing"),
        *("_new", "_payload", "_serving", "_stays", "read", "remote"),
    )

    def __init__(
        self,
        server: web.Server,
        express: Express | None,
        head_timeout: float = 0.0,
        **settings: object,
    ) -> None:
        super().__init__(server, **settings)  # type: ignore[arg-type]
        self._head_timeout = head_timeout
        self._payload: StreamReader = EMPTY_PAYLOAD  # of the last request that has a head
        self._new = True  # no request has begun yet
        self._beginning = 0  # bytes since, and since the end of its body: those of the next head
        self._late: asyncio.TimerHandle | None = None  # until when that must have come
        self._express = express
        self.remote = ""
        # the last head that came, byte for byte, and what aiohttp read in it; None if it cannot be told
        self.read: tuple[bytes, RawRequestMessage] | None = None
        # a known head and the part of its body that is here, or what comes too early
        self._held = b""
        self._missing = 0  # bytes that the parser still wants of a body
        self._stays = False  # that body's request asks for a protocol that nobody here knows
        self._serving: asyncio.Task[bool] | None = None  # a known request that is not answered yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) else ""

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and with it what nobody waits for any more."""
        self._has_begun()
        super().connection_lost(exc)
        self._payload = EMPTY_PAYLOAD  # the last one holds the connection
        if self._serving is not None:
            self._serving.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer what is known; else let aiohttp read on."""
        if not data:  # aiohttp itself, to make its parser go on
            self._make_last(self._parse(data))
            return
        if self._missing:
            self._read_on(data)
            return
        data, self._held = self._held + data, b""
        if self._serving is not None:
            self._held = data
            if len(data) > _AHEAD and self.transport is not None:
                self.transport.pause_reading()
            return
        waiter = self._waiter
        if self._express is not None and waiter and not waiter.done() and not self._paused:
            met = self._express.read(self.remote, data)
            if met is MORE:
                self._held = data
                self._wait_for_head()
                return
            if met is not None:
                self._answer(self._express, met)
                return
        self._read_first(data)

    # --- requests that are known

    def _answer(self, express: Express, met: Met) -> None:
        self._has_begun()
        try:
            said = express.at_once(met.call)
        except Exception as error:  # noqa: BLE001 - told below, as a mistake of the usual way is
            self._begin(express, met, self._at_length(met, partial(_fail, error)))
            return
        if said is None:
            self._begin(express, met, self._serve(express, met))
            return
        assert self.transport is not None
        self.transport.write(said)
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout

    def _begin(self, express: Express, met: Met, work: Coroutine[Any, Any, bool]) -> None:
        """Begin to serve a request; what is counted of it is given back however that ends.

        Also where it is cancelled before its first step, in which no `finally` of its own would run.
        """
        held, body = express.held, met.call.body
        size = len(body.data) if isinstance(body, Whole) else 0
        held.take(size)  # in the step in which it was found to fit
        self._request_in_progress = True  # so that aiohttp waits for it at its end
        self._serving = self._loop.create_task(work)

        def served(task: "asyncio.Task[bool]") -> None:
            held.let_go(size)
            self._served(goes_on=not task.cancelled() and task.result())

        self._serving.add_done_callback(served)

    async def _serve(self, express: Express, met: Met) -> bool:
        """Let a call walk its road, and answer; tell whether another request may follow."""
        try:
            reply = await express.ask(met.call)
            said = express.spelled(met.call, reply)
        except Exception as error:  # noqa: BLE001 - aiohttp's own way with it
            return await self._at_length(met, partial(_fail, error))
        if said is None:
            return await self._at_length(met, partial(_written, express, met.call, reply))
        if self.transport is not None:
            self.transport.write(said)
        return True

    async def _at_length(self, met: Met, answering: "partial[Any]") -> bool:
        """Answer through a request of aiohttp's; tell as above."""
        if self._request_factory is None:  # the client is gone
            return False
        task = asyncio.current_task()
        assert task is not None
        writer = StreamWriter(self, self._loop)
        request = self._request_factory(met.message, EMPTY_PAYLOAD, self, writer, task)
        try:
            response, broken = await self._handle_request(request, None, answering)
        except ConnectionError:
            return False
        return bool(response.keep_alive) and not broken

    def _served(self, *, goes_on: bool) -> None:
        self._serving = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if self._close or not goes_on:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        if self._held:
            early, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(early)

    def close(self) -> None:
        """Take no further request; one that is being answered is answered."""
        if self._serving is None:
            super().close()
        else:
            self._close = True

    def _process_keepalive(self) -> None:
        """Close if nothing has been asked for a while; what is being answered is no idleness."""
        if self._serving is not None:
            self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        super()._process_keepalive()

    # --- requests that aiohttp reads

    def _parse(self, data: bytes) -> int:
        """Let aiohttp read; return how many requests began."""
        known = len(self._messages)
        self._feed(data)
        return len(self._messages) - known

    def _feed(self, data: bytes) -> None:
        """Let aiohttp read, and see to it that a head ends: it bounds neither its time nor its size."""
        if not self._head_timeout:
            super().data_received(data)
            return
        known = len(self._messages)
        behind_a_body = self._payload.is_eof()
        super().data_received(data)
        if len(self._messages) > known:
            self._payload = self._messages[-1][1]
            self._has_begun()
        elif behind_a_body and data and not self._upgraded:
            self._beginning += len(data)
            if self._beginning > _HEAD_LIMIT:
                self._break_off(HeadTooLargeError("The head of this request is too large."))
            else:
                self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._late is None and self._waits():
            self._late = self._loop.call_later(self._head_timeout, self._is_late)

    def _waits(self) -> bool:
        """Tell whether a request is waited for: while one is answered, the next may take its time.

        The first one is waited for before aiohttp's task has had its first step, too: a loop that
        was busy hears of a connection and of its first bytes in one turn.
        """
        return self._new or self._waiter is not None

    def _has_begun(self) -> None:
        """Take note that the head is there, or is not to come any more."""
        self._new = False
        self._beginning = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        # a part of the body is here: how long the rest takes is no matter of the head
        if self._held:
            held, self._held = self._held, b""
            self._read_first(held)
            return
        self._break_off(
            RequestTooSlowError(
                f"The head did not come in {self._head_timeout:g} s (MCP_HEAD_TIMEOUT)."
            )
        )

    def _break_off(self, error: ProxyError) -> None:
        """End the connection of a request that does not begin; with a word where none is answered."""
        waits = self._waits()
        self._has_begun()
        if self.transport is not None and waits:
            self.transport.write(refusal(error))
        self.force_close()

    def _make_last(self, began: int) -> None:
        """Let the newest request end the connection if it asks for another protocol.

        What follows it in the same piece is lost where aiohttp 3.14.5 does not know that protocol
        (h2c, which Java's client asks for), and nobody could tell where the next request begins.
        """
        if began > 0:
            message, body = self._messages[-1]
            if isinstance(message, RawRequestMessage) and message.upgrade:
                self._messages[-1] = (message._replace(should_close=True), body)

    def _read_on(self, data: bytes) -> None:
        """Let aiohttp read the rest of a body, or anything where we have lost count."""
        began = self._parse(data)
        self._make_last(began)
        left = self._missing - len(data)
        if left < 0 < self._missing and self._stays:
            self.close()  # after the answer
        self._missing = left if left >= 0 and not began else _UNKNOWN

    def _read_first(self, data: bytes) -> None:
        """Let aiohttp read the beginning of a request, and note where it ends."""
        began = self._parse(data)
        end = data.find(_END) + len(_END)
        message = self._messages[-1][0] if began == 1 and end >= len(_END) else None
        self._missing = _UNKNOWN
        self.read = None
        self._stays = False
        if isinstance(message, RawRequestMessage) and not message.chunked:
            missing = end + int(message.headers.get("Content-Length", "0")) - len(data)
            self._stays = bool(message.upgrade) and missing >= 0 and not would_switch(message)
            if self._stays or not message.upgrade:
                self._missing = max(missing, _UNKNOWN)
                self.read = data[:end], message
                return
        self._make_last(began)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer in our own words, and close: who speaks no HTTP is not heard out."""
        # a body that we broke off (edge/flow) is no mistake of ours, and was told of by its call
        if status >= 500 and not isinstance(exc, ConnectionError):
            self.log_exception("Error handling a request", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        error: ProxyError = BadRequestError("This is not HTTP/1.1 as it is spoken here.")
        if status >= 500:
            error = InternalError("The sidecar made a mistake.", delivered=Delivery.UNKNOWN)
        request_id = token_hex(8)
        details = errors.details(error, repeatable=False, request_id=request_id)
        lines = f"Content-Type: {PROBLEM}\r\n{_NO_STORE}X-Request-Id: {request_id}\r\n"
        if request.version < HttpVersion11:  # so it is, too, for what could not be read
            lines += "Connection: close\r\n"
        answer = Answer(status, None, lines, problem(error, details))
        answer.force_close()
        return answer


async def _written(
    express: Express, call: Call, reply: Reply, request: web.BaseRequest
) -> web.StreamResponse:
    return await express.write(request, call, reply)


async def _fail(error: Exception, _: web.BaseRequest) -> web.StreamResponse:
    raise error


def would_switch(message: RawRequestMessage) -> bool:
    """Tell whether aiohttp takes all that follows a request for another protocol, even its body."""
    return message.method == "CONNECT" or message.headers.get("Upgrade", "").lower() == "websocket"


def can_tell_requests_apart() -> bool:
    """Tell whether this aiohttp is built as we know it; if not, all requests take the usual way."""
    return all(hasattr(web.RequestHandler, name) for name in _LEANT_ON)
