"""Ask over a pooled connection of aiohttp's, without the objects that its client makes for a request.

`ClientSession.request` builds a URL, a request, a timer, five dicts of headers, a writer, a task and a
response each time: a third of an uncached call. A request that is in memory needs none of them: it is
one write. What aiohttp keeps for us are the pool, the connecting and its parser.
"""

import re
from functools import cached_property
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from mcp_proxy.core.headers import as_bytes
from mcp_proxy.edge.pool import FIELD_LIMIT, READ_BUFFER

# Bytes of a request that are written without waiting until the connection takes them.
LARGEST = 65_536
# Nothing of it ends a line or a target; a lone surrogate stands for a byte that is no UTF-8.
_NO_TARGET = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")


_NOTHING: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class NeverWrittenError(aiohttp.ClientConnectionResetError):
    """The connection had gone before a byte was written."""


class Response:
    """An answer, as far as its head: of aiohttp's response the parts that are read here."""

    __slots__ = (
        "_connection",
        "_protocol",
        "content",
        "headers",
        "raw_headers",
        "reason",
        "status",
    )

    def __init__(
        self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader
    ) -> None:
        self._connection: Connection | None = connection
        self._protocol = connection.protocol  # the connection lets go of it with the last byte
        self.status = message.code
        self.reason = message.reason
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.content = content
        content.on_eof(self._ended)  # at once, if there is no body

    @property
    def connection(self) -> Connection | None:
        """Return the connection while the body is under way."""
        return self._connection

    @property
    def content_length(self) -> int | None:
        """Return what the head says of the body's length."""
        length = self.headers.get("Content-Length")
        return int(length) if length is not None else None

    def forget_head(self) -> None:
        """Let go of what the head said, when it has been read: a stream may go on for days."""
        self.headers = _NOTHING
        self.raw_headers = ()

    def _ended(self) -> None:
        connection = self._connection
        if connection is None or (self._protocol is not None and self._protocol.upgraded):
            return
        self._connection = None
        connection.release()

    def close(self) -> None:
        """Let go of the answer; a connection on which it is under way is closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Place(aiohttp.ClientRequest):
    """Where to connect to: the part of a request that a connector looks at."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """Return by what its connections are known; the same for all that is asked there."""
        return super().connection_key


class Exchange:
    """Ask one server."""

    def __init__(self, origin: URL, prefix: str) -> None:
        self._place: Any = _Place("GET", origin)
        self._prefix = prefix
        self._host = f" HTTP/1.1\r\nHost: {origin.host_port_subcomponent}\r\n"

    async def ask(
        self,
        session: aiohttp.ClientSession,
        request: tuple[str, str, str],
        body: bytes,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - of the connection, not of this
    ) -> Response:
        """Send a request: its method, target and header lines; return the answer's head.

        A `Host` among the lines takes the place of ours. Raises ValueError where the target cannot
        be said, NeverWrittenError, and what aiohttp's client raises.
        """
        method, target, lines = request
        if _NO_TARGET.search(target):
            raise ValueError("no request target")
        host = " HTTP/1.1\r\n" if lines.startswith("Host: ") else self._host
        head = as_bytes(f"{method} {self._prefix}{target}{host}{lines}\r\n")
        connector = session.connector
        assert connector is not None
        try:
            connection = await connector.connect(self._place, [], timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=timeout.sock_read,
                read_bufsize=READ_BUFFER,
                max_line_size=FIELD_LIMIT,
                max_field_size=FIELD_LIMIT,
            )
            write(protocol, head + body)
            protocol.start_timeout()
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200 or message.code == 101:
                    return Response(connection, message, content)
        except BaseException:
            connection.close()
            raise


def write(protocol: ResponseHandler, data: bytes) -> None:
    """Write a whole request, or nothing of it: raises NeverWrittenError."""
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise NeverWrittenError
    transport.write(data)
