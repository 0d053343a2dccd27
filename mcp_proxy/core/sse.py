"""Server-sent events, read as they pass: the bytes travel unchanged, this only looks on.

Source: WHATWG HTML, 9.2 "Server-sent events". Lines end with LF, CR or CRLF, also across pieces.
"""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event, or (with neither data nor id) nothing but a comment block."""

    data: bytes
    name: bytes = b""
    id: bytes | None = None


class Splitter:
    """Split a stream of bytes into events, holding at most `limit` bytes of one event.

    The data of a larger event is dropped (`Event.data` is empty); its end is still found.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._skip_line_feed = False
        self._first = True
        self._forget()

    def _forget(self) -> None:
        self._data: list[bytes] = []
        self._held = 0
        self._name = b""
        self._id: bytes | None = None
        self._began = False

    @property
    def mid_event(self) -> bool:
        """Tell whether an event has begun and not ended: nothing may be put in between."""
        return self._began or bool(self._rest)

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes."""
        if self._skip_line_feed and piece:
            piece = piece.removeprefix(b"\n")
            self._skip_line_feed = False
        lines = _LINE_END.split(self._rest + piece)
        # A CR at the very end is a line end already; a LF that follows it belongs to it.
        self._skip_line_feed = piece.endswith(b"\r")
        self._rest = lines.pop()
        if len(self._rest) > self._limit:
            # The rest of this line is lost to us, which makes its event unreadable, not the next.
            self._rest = self._rest[:1]
            self._held = self._limit + 1
        events = []
        for line in lines:
            if self._first:
                line, self._first = line.removeprefix(_BOM), False  # noqa: PLW2901
            if line:
                self._take(line)
            elif self._began:
                events.append(self._dispatch())
        return events

    def _dispatch(self) -> Event:
        data = b"" if self._held > self._limit else b"\n".join(self._data)
        event = Event(data, self._name, self._id)
        self._forget()
        return event

    def _take(self, line: bytes) -> None:
        self._began = True
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._held += len(value) + 1
            if self._held <= self._limit:
                self._data.append(value)
        elif field == b"event":
            self._name = value
        elif field == b"id" and b"\x00" not in value:
            self._id = value


def event(data: bytes) -> bytes:
    """Return one `message` event that carries a JSON text (which has no line ends)."""
    return b"event: message\r\ndata: " + data + b"\r\n\r\n"
