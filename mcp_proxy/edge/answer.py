"""Write an answer as it came: the head byte for byte, the body framed for this connection.

aiohttp's own writer invents headers (Server, Content-Type), drops the bytes of those that are no
UTF-8, and builds each head anew; so the head is spelled here, and its writer frames the body.
"""

from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from mcp_proxy.core.headers import as_bytes

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# They have no body (RFC 9110 section 6.4.1); of those, 304 may say the length of what it stands for.
BODILESS = frozenset({*range(100, 200), 204, 304})


class Answer(web.StreamResponse):
    """An answer whose head is spelled, all but the lines that frame it.

    `lines` are whole header lines, and hold no control characters. `declared` is the length that
    the server named. `body` is None where pieces follow by `write`.
    """

    def __init__(
        self,
        status: int,
        reason: str | None,
        lines: str,
        body: bytes | None,
        declared: str | None = None,
    ) -> None:
        super().__init__(status=status)
        self._phrase = reason
        self._lines = lines
        self._whole = body
        self._declared = declared

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send the head, and the body where it is at hand: one write for both."""
        if self._payload_writer is not None:
            return self._payload_writer
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        body = self._framed(request)
        if request.version < HttpVersion11:
            if self._keep_alive:
                self._lines += "Connection: keep-alive\r\n"
        elif not self._keep_alive:
            self._lines += "Connection: close\r\n"
        head = head_of(self._status, self._phrase, self._lines)
        self._lines = ""  # a stream may go on for days
        writer = self._payload_writer = request.writer
        await writer.write(head + body if body else head)
        if body is None:
            writer.enable_chunking()
        return writer

    def _framed(self, request: web.BaseRequest) -> bytes | None:
        """Say in the head where the body ends; return what goes out with it, None for chunks."""
        length = self._declared
        body = self._whole
        if self._status in BODILESS or request.method == "HEAD":
            if length is None and body and request.method == "HEAD":
                length = str(len(body))
            body = b""
            if self._status != 304 and self._status in BODILESS:
                length = None
        elif body is not None:
            length = str(len(body))
        elif length is not None:
            body = b""
        elif request.version >= HttpVersion11:
            self._lines += "Transfer-Encoding: chunked\r\n"
        else:
            self._keep_alive = False  # its end is the end of the connection
            body = b""
        if length is not None:
            self._lines += f"Content-Length: {length}\r\n"
        return body


def head_of(status: int, phrase: str | None, lines: str) -> bytes:
    """Return a head: status line, whole header lines, empty line."""
    if phrase is None:
        phrase = _PHRASES.get(status, "")
    return as_bytes(f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n")
