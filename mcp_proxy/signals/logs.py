"""One JSON object per line on stdout, whatever happens; the only importer of structlog.

A reader that stalls (`docker logs`, a paused pager) fills the pipe, and a write to a full pipe
stops the event loop: after 288 events nothing ran any more. So lines go through a bounded queue to
a thread, and what does not fit is dropped and counted.
"""

import fcntl
import json
import os
import select
import threading
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import time  # noqa: TID251 - for people; nothing is decided by it
from typing import Any, Generic, TypeVar

import orjson
import structlog
from structlog.typing import EventDict

from mcp_proxy.core.watching import LEVELS
from mcp_proxy.signals.said import Said

# Events that wait for a slow reader; about 8 MB.
_QUEUE_LIMIT = 10_000
# Under load, so many are rendered in a row, and so many such batches wait for the thread.
_TOGETHER = 64
_BATCHES = 32
# How long a line may wait for company, in seconds.
_GATHER = 0.02
# A tool name or another text from outside is cut to this: one event stays one readable line (F41).
_TEXT_LIMIT = 512
T = TypeVar("T")


class Turns:
    """Let only one of several processes write at a time, where they share a descriptor.

    A write is whole only up to PIPE_BUF bytes (POSIX, write), so each takes its turn by a lock on a
    file. Beyond that it hands over whole lines that fit into such a write, so that even who is killed
    in the middle of a full pipe leaves no half line behind, but of one that is longer.
    """

    def __init__(self, path: str) -> None:
        # opened by each process for itself: a lock belongs to who has opened the file
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write whole lines; raises OSError when nobody reads them."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            for piece in pieces(data, select.PIPE_BUF):
                write_all(descriptor, piece)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def pieces(data: bytes, most: int) -> list[bytes]:
    """Cut lines into pieces of whole lines, each of at most so many bytes if its first line is."""
    found, began, end = [], 0, 0
    for line in data.splitlines(keepends=True):
        if end - began + len(line) > most and end > began:
            found.append(data[began:end])
            began = end
        end += len(line)
    return [*found, data[began:end]] if end > began else found


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however often that takes."""
    while data:
        data = data[os.write(descriptor, data) :]


class QueueSink(Generic[T]):
    """Take events at once, write them in a thread; drop and count what does not fit.

    Many are rendered together: in a row that costs a third. Under load the one who tells them does
    it, whose processor has them at hand (in the thread it made a hit 15 % dearer); else the thread.
    """

    def __init__(
        self,
        descriptor: int,
        render: Callable[[list[T]], bytes],
        limit: int = _QUEUE_LIMIT,
        write: Callable[[int, bytes], None] = write_all,
    ) -> None:
        self._descriptor = descriptor
        self._write = write
        self._render = render
        self._limit = limit
        self._events: deque[T] = deque()
        self._rendering = threading.Lock()
        self._lines: deque[tuple[int, bytes]] = deque()  # how many, and their text
        self._ready = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def put(self, event: T) -> None:
        """Queue an event, or drop it when the queue is full."""
        if len(self._events) >= self._limit:
            self.dropped += 1
            return
        self._events.append(event)
        if len(self._events) >= _TOGETHER and len(self._lines) < _BATCHES:
            self._render_some()
        if not self._ready.is_set():
            self._ready.set()

    def _render_some(self) -> None:
        """Render what is there, unless somebody is at it: this must not wait."""
        if self._rendering.acquire(blocking=False):
            try:
                self._render_all()
            finally:
                self._rendering.release()

    def _render_all(self) -> None:
        batch = [self._events.popleft() for _ in range(len(self._events))]
        if batch:
            self._lines.append((len(batch), self._render(batch)))

    def _run(self) -> None:
        while not self._closing.is_set() or self._events or self._lines:
            self._ready.wait()
            # Let more come: a wake-up and a write for each line cost more than the call it tells of.
            self._closing.wait(_GATHER)
            self._ready.clear()
            with self._rendering:
                self._render_all()
            while self._lines:
                number, text = self._lines.popleft()
                try:
                    self._write(self._descriptor, text)
                except OSError:  # nobody reads any more (EPIPE): go on without them (F25)
                    self.dropped += number

    def close(self, timeout: float = 0.5) -> None:
        """Write what is queued, for at most `timeout` seconds; only the first time."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._ready.set()
        self._thread.join(timeout)


class AtOnce(Generic[T]):
    """Write each event at once, in a process that may start no thread, since it forks.

    Whatever cannot be written at once is dropped and counted: it has more to do than to tell.
    """

    def __init__(
        self,
        descriptor: int,
        render: Callable[[list[T]], bytes],
        write: Callable[[int, bytes], None],
    ) -> None:
        self._descriptor = descriptor
        self._render = render
        self._write = write
        self._look = select.poll()
        self._look.register(descriptor, select.POLLOUT)
        self.dropped = 0

    def put(self, event: T) -> None:
        """Write an event, if somebody reads."""
        try:
            if self._look.poll(0):
                self._write(self._descriptor, self._render([event]))
                return
        except OSError:  # nobody reads any more (EPIPE)
            pass
        self.dropped += 1

    def close(self) -> None:
        """Nothing is queued."""


class Renderer:
    """Render events as lines, what people look for first; it must never break a call."""

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""  # of that second

    def text(self, said: Said) -> bytes:
        """Return an event as JSON text without a line end, also for those who watch live."""
        when, level, event, fields = said
        line = {"timestamp": self.stamp(when), "level": level, "event": event, **fields}
        mistake = line.pop("exception", None)
        if isinstance(mistake, BaseException):
            # where it happened, not its message: that could hold arguments or secrets
            line["exception"] = type(mistake).__name__
            line["traceback"] = "".join(traceback.format_tb(mistake.__traceback__))[-2000:]
        try:
            text = orjson.dumps(line)
            # U+2028 ends a line for some readers, U+009B moves a terminal (F41)
            if len(text) <= _TEXT_LIMIT and text.isascii():
                return text
        except (TypeError, ValueError):  # odd keys and values, lone surrogates, huge integers
            pass
        line |= {name: shortened(line[name]) for name in fields if name in line}
        return json.dumps(line, default=repr, ensure_ascii=True).encode("ascii")

    def stamp(self, when: float) -> str:
        """Return a time as all events say it: ISO 8601 in UTC, to the microsecond."""
        second = int(when)
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._stamp}{int((when - second) * 1e6):06d}+00:00"


def shortened(value: object) -> object:
    """Return a value, cut if it is a long text."""
    if type(value) is str and len(value) > _TEXT_LIMIT:
        return value[:_TEXT_LIMIT] + "…"
    return value


class _Lines(structlog.BoundLoggerBase):
    """structlog's way from events to lines.

    It is handed many events at once, and its one processor renders them all: by itself it costs more
    for an event than the rendering does.
    """

    def of(self, events: list[Said]) -> bytes:
        """Return the lines of events."""
        lines: bytes = self._proxy_to_logger("msg", events)  # type: ignore[arg-type] # any object
        return lines


class Log:
    """Emit events as JSON lines.

    `shown` makes of a JSON line what is written instead (signals/console), and `write` writes.
    """

    def __init__(
        self,
        level: str = "info",
        descriptor: int = 1,
        shown: Callable[[bytes], bytes] | None = None,
        write: Callable[[int, bytes], None] = write_all,
        *,
        at_once: bool = False,
    ) -> None:
        self._lowest = LEVELS[level]
        text = Renderer().text

        def render(_logger: object, _name: str, said: EventDict) -> bytes:
            lines = [text(one) + b"\n" for one in said["event"]]
            return b"".join(map(shown, lines) if shown else lines)

        render_all: Callable[[list[Said]], bytes] = (
            structlog.wrap_logger(
                structlog.ReturnLogger(), processors=[render], wrapper_class=_Lines
            )
            .bind()
            .of
        )
        self._sink: QueueSink[Said] | AtOnce[Said] = (
            AtOnce(descriptor, render_all, write)
            if at_once
            else QueueSink(descriptor, render_all, write=write)
        )

    def show_from(self, level: str) -> None:
        """Tell events of this level and above from now on."""
        self._lowest = LEVELS[level]

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        """Tell one event of our own, if its level is not below ours."""
        self.take(Said(time(), level, event, fields))

    def take(self, said: Said) -> None:
        """Take an event in (a sink of the bus)."""
        if LEVELS[said.level] >= self._lowest:
            self._sink.put(said)

    @property
    def dropped(self) -> int:
        """Return how many lines a slow reader has lost."""
        return self._sink.dropped

    def close(self) -> None:
        """Write what is queued."""
        self._sink.close()
