"""Server-sent events, read as they pass: the bytes travel unchanged, this only looks on.

Source: WHATWG HTML, 9.2 "Server-sent events". Lines end with LF, CR or CRLF, also across pieces.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_END = re.compile(rb"\n\n|\r\r|\r\n\r\n")
_BOM = b"\xef\xbb\xbf"
_BOUNDARIES = (b"\n\n", b"\r\r", b"\r\n\r\n")  # of events


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event, or (with neither data nor id) nothing but a comment block."""

    data: bytes
    name: bytes = b""
    id: bytes | None = None
    lost: bool = False  # its data was too large to be held


class Tail:
    """The last bytes of a stream: enough to tell whether an event is open."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b""

    def saw(self, piece: bytes) -> None:
        """Take note of a piece that passes."""
        self._last = (self._last + piece[-4:])[-4:]

    @property
    def between_events(self) -> bool:
        """Tell whether what is put in now splits nothing."""
        return not self._last or self._last.endswith(_BOUNDARIES)


class Splitter:
    """Split a stream of bytes into events, holding at most `limit` bytes of one event.

    The data of an event with more of it, or with a longer line, is dropped (`Event.data` is empty);
    its end is still found.
    """

    __slots__ = (
        *("_began", "_data", "_first", "_held", "_id"),
        *("_limit", "_name", "_rest", "_skip_line_feed"),
    )

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
        if not piece:
            return []
        if self._skip_line_feed:
            piece = piece.removeprefix(b"\n")
        lines = _LINE_END.split(piece)
        lines[0] = self._rest + lines[0]
        # A CR at the very end is a line end already; a LF that follows it belongs to it.
        self._skip_line_feed = piece.endswith(b"\r")
        self._rest = lines.pop()
        events = []
        for line in lines:
            if len(line) > self._limit:
                self._lose()
            elif text := self._without_bom(line):
                self._take(text)
            elif self._began:
                events.append(self._dispatch())
        if len(self._rest) > self._limit:
            self._lose()
            self._rest = b":"  # whatever follows in this line is no more than a comment to us
        return events

    def _without_bom(self, line: bytes) -> bytes:
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        return line

    def _lose(self) -> None:
        """Make this event unreadable, and not the next."""
        self._began, self._first, self._held = True, False, self._limit + 1

    def _dispatch(self) -> Event:
        lost = self._held > self._limit
        event = Event(b"" if lost else b"\n".join(self._data), self._name, self._id, lost)
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


def parts(piece: bytes) -> list[bytes]:
    """Cut a piece of a stream behind each event that ends in it, where both line ends are alike."""
    ends = [found.end() for found in _EVENT_END.finditer(piece)]
    if not ends or ends == [len(piece)]:
        return [piece]
    return [piece[begin:end] for begin, end in pairwise([0, *ends, len(piece)]) if begin < end]


# Goes out after half an event, which cannot be taken back: it becomes a whole one of a kind that
# nobody listens to (clients of MCP read `message` alone). The colon keeps a line that is whole
# from being followed by an empty one, which would dispatch the half as it is.
VOID = b":\nevent: cut\n\n"


def event(data: bytes) -> bytes:
    """Return one `message` event that carries a JSON text, on as many lines as it has."""
    lines = b"".join(b"data: " + line + b"\r\n" for line in data.splitlines())
    return b"event: message\r\n" + lines + b"\r\n"
