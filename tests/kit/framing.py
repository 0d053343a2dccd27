"""Requests read as strictly as RFC 9112 allows: by h11, and by hand where h11 is lenient."""

import re
from collections import deque

import h11

from tests.edge.wire import Said

_HEAD_LIMIT = 1 << 16  # bytes
_PIECE = 1 << 16
_KEPT = 1000  # requests
_BODY_KEPT = 1 << 16  # bytes of each
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (?:/[!-~]*|\*) HTTP/1\.[01]")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_END = b"\r\n\r\n"


class Framing:
    """Read what one connection sends, as it comes, and keep what is wrong with it.

    After the first violation nothing more is read: where a request ends is then anybody's guess.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.requests: deque[Said] = deque(maxlen=_KEPT)  # the last whole ones
        self.count = 0  # whole requests
        self._head = b""
        self._connection: h11.Connection | None = None  # while a body is read
        self._closes = False  # the last request said that it is the last
        self._upgraded = False

    @property
    def unfinished(self) -> bool:
        """Tell whether a request has begun and not ended."""
        return bool(self._head) or self._connection is not None

    def feed(self, data: bytes) -> None:
        """Read on."""
        while data and not self.violations and not self._upgraded:
            if self._connection is None:
                data = self._read_head(data)
            else:
                data = self._read_body(self._connection, data[:_PIECE]) + data[_PIECE:]

    def upgraded(self) -> None:
        """Read no more: the connection speaks something else from here on."""
        self._upgraded = True

    def _read_head(self, data: bytes) -> bytes:
        """Take the head from the data; return what follows it."""
        if self._closes:
            self._wrong("a request after one that said `Connection: close`")
            return b""
        self._head += data
        head, end, rest = self._head.partition(_END)
        if not end:
            if len(self._head) > _HEAD_LIMIT:
                self._wrong("a head without end")
            return b""
        self._head = b""
        if self._is_strict(head):
            self._begin(head + end)
        return rest

    def _is_strict(self, head: bytes) -> bool:
        """Check what h11 forgives: it takes bare LF, folded lines, and both kinds of length."""
        line, *fields = head.split(b"\r\n")
        if not _LINE.fullmatch(line):
            return self._wrong(f"request line {line!r}")
        for field in fields:
            if not _FIELD.fullmatch(field):
                return self._wrong(f"header line {field!r}")
        names = [field.partition(b":")[0].lower() for field in fields]
        if names.count(b"content-length") > 1:
            return self._wrong("more than one Content-Length")
        if names.count(b"host") != 1:
            return self._wrong(f"{names.count(b'host')} Host headers")
        if b"content-length" in names and b"transfer-encoding" in names:
            return self._wrong("both Content-Length and Transfer-Encoding")
        return True

    def _begin(self, head: bytes) -> None:
        self._connection = h11.Connection(h11.SERVER)
        self._said = Said("", [])
        self._read_body(self._connection, head)

    def _read_body(self, connection: h11.Connection, data: bytes) -> bytes:
        """Feed h11; return what belongs to the next request."""
        try:
            connection.receive_data(data)
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    return b""
                if isinstance(event, h11.Request):
                    self._note_head(event)
                elif isinstance(event, h11.Data):
                    self._keep(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return self._ended(connection)
        except h11.RemoteProtocolError as error:
            self._wrong(str(error))
            return b""

    def _note_head(self, event: h11.Request) -> None:
        method, target = event.method.decode("latin-1"), event.target.decode("latin-1")
        self._said.line = f"{method} {target} HTTP/{event.http_version.decode()}"
        self._said.headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in event.headers.raw_items()
        ]

    def _keep(self, data: bytes) -> None:
        said = self._said
        room = _BODY_KEPT - len(said.body)
        said.body += data[:room]
        said.whole &= len(data) <= room

    def _ended(self, connection: h11.Connection) -> bytes:
        said = self._said
        self.requests.append(said)
        self.count += 1
        self._closes = "close" in ", ".join(said.all("Connection")).lower()
        self._connection = None
        return connection.trailing_data[0]

    def _wrong(self, what: str) -> bool:
        self.violations.append(f"request {self.count + 1}: {what}")
        return False
