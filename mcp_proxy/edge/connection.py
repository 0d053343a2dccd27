"""One connection of a client: aiohttp's own, with a way round it for what can be answered at once."""

import asyncio
from secrets import token_hex

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

from mcp_proxy.core import errors
from mcp_proxy.core.call import Delivery
from mcp_proxy.core.errors import BadRequestError, InternalError, ProxyError
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.express import Express
from mcp_proxy.layers.rescue import PROBLEM, problem

_NO_STORE = "Cache-Control: no-store\r\n"
_END = b"\r\n\r\n"
_UNKNOWN = -1
# What we read of aiohttp's connection (3.14.5), to know that it stands between two requests.
_LEANT_ON = ("_waiter", "_messages", "_next_keepalive_close_time", "_paused")


class Connection(web.RequestHandler):
    """Speak HTTP on one connection; what is no HTTP gets an answer, too."""

    __slots__ = ("_express", "_held", "_missing", "remote", "spelled")

    def __init__(self, server: web.Server, express: Express | None, **settings: object) -> None:
        super().__init__(server, **settings)  # type: ignore[arg-type]
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
            super().data_received(data)
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
                self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
                return
            if answer is not None:
                self._held = data
                return
        self._read_first(data)

    def _read_on(self, data: bytes) -> None:
        """Let aiohttp read the rest of a body, or anything where we have lost count."""
        known = len(self._messages)
        super().data_received(data)
        left = self._missing - len(data)
        self._missing = left if left >= 0 and len(self._messages) <= known else _UNKNOWN

    def _read_first(self, data: bytes) -> None:
        """Let aiohttp read the beginning of a request, and note where it ends."""
        known = len(self._messages)
        super().data_received(data)
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
