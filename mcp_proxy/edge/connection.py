"""One connection of a client: aiohttp's own, with a way round it for what can be answered at once."""

import asyncio
from secrets import token_hex

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_parser import RawRequestMessage

from mcp_proxy.core import errors
from mcp_proxy.core.call import Delivery
from mcp_proxy.core.errors import (
    BadRequestError,
    HeadTooLargeError,
    InternalError,
    ProxyError,
    RequestTooSlowError,
)
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.express import Express
from mcp_proxy.edge.full import refusal
from mcp_proxy.layers.rescue import PROBLEM, problem

_NO_STORE = "Cache-Control: no-store\r\n"
_END = b"\r\n\r\n"
_UNKNOWN = -1
# Bytes of a head that may come without its end; one line of it has a limit of its own, and there may
# be 128 of them. As much as the loop reads at once, so that it does not matter how a head is cut.
_HEAD_LIMIT = 262_144
# What we read of aiohttp's connection (3.14.5), to know that it stands between two requests.
_LEANT_ON = ("_waiter", "_messages", "_next_keepalive_close_time", "_paused")


class Connection(web.RequestHandler):
    """Speak HTTP on one connection; what is no HTTP gets an answer, too."""

    __slots__ = (
        *("_beginning", "_express", "_head_timeout", "_held", "_late", "_missing"),
        *("_payload", "remote", "spelled"),
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
        self._beginning = 0  # bytes since, and since the end of its body: those of the next head
        self._late: asyncio.TimerHandle | None = None  # until when that must have come
        self._express = express
        self.remote = ""
        self.spelled = b""  # the last head that came, byte for byte; empty: it cannot be told
        self._held = b""  # a known head, and the part of its body that is here
        self._missing = 0 if express else _UNKNOWN  # bytes that the parser still wants of a body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) else ""

    def data_received(self, data: bytes) -> None:
        """Answer at once if that is possible; else let aiohttp read on."""
        if not data:  # aiohttp itself, to make its parser go on
            self._feed(data)
            return
        if self._missing:
            self._read_on(data)
            return
        data, self._held = self._held + data, b""
        waiter = self._waiter
        if self._express is not None and waiter and not waiter.done() and not self._paused:
            answer = self._express(self.remote, data)
            if answer:
                assert self.transport is not None
                self.transport.write(answer)
                self._has_begun()
                self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
                return
            if answer is not None:
                self._held = data
                self._wait_for_head()
                return
        self._read_first(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._has_begun()
        super().connection_lost(exc)

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
        # while a request is answered, the next may take its time: it is not waited for
        if self._late is None and self._waiter is not None:
            self._late = self._loop.call_later(self._head_timeout, self._is_late)

    def _has_begun(self) -> None:
        """Take note that the head is there, or is not to come any more."""
        self._beginning = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        if (
            self._held
        ):  # a part of the body is here: how long the rest may take is no matter of the head
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
        self._has_begun()
        if self.transport is not None and self._waiter is not None:
            self.transport.write(refusal(error))
        self.force_close()

    def _read_on(self, data: bytes) -> None:
        """Let aiohttp read the rest of a body, or anything where we have lost count."""
        known = len(self._messages)
        self._feed(data)
        left = self._missing - len(data)
        self._missing = left if left >= 0 and len(self._messages) <= known else _UNKNOWN

    def _read_first(self, data: bytes) -> None:
        """Let aiohttp read the beginning of a request, and note where it ends."""
        known = len(self._messages)
        self._feed(data)
        end = data.find(_END) + len(_END)
        self._missing = _UNKNOWN
        self.spelled = b""
        if end < len(_END) or len(self._messages) != known + 1:
            return
        message = self._messages[-1][0]
        if isinstance(message, RawRequestMessage) and not (message.chunked or message.upgrade):
            length = message.headers.get("Content-Length", "0")
            self._missing = max(end + int(length) - len(data), _UNKNOWN)
            self.spelled = data[:end]

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
        answer = Answer(status, None, lines, problem(error, details))
        answer.force_close()
        return answer


def can_tell_requests_apart() -> bool:
    """Tell whether this aiohttp is built as we know it; if not, all requests take the usual way."""
    return all(hasattr(web.RequestHandler, name) for name in _LEANT_ON)
