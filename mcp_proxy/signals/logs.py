"""One JSON object per line on stdout, whatever happens; the only importer of structlog.

A reader that stalls (`docker logs`, a paused pager) fills the pipe, and a write to a full pipe
stops the event loop: after 288 events nothing ran any more. So lines go through a bounded queue to
a thread, and what does not fit is dropped and counted.
"""

import json
import logging
import os
import threading
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict

from mcp_proxy.core.clock import Emit

# Lines that wait for a slow reader; about 3 MB at 300 bytes a line.
_QUEUE_LIMIT = 10_000
# How long a line may wait for company, in seconds.
_GATHER = 0.02
# A tool name or another text from outside is cut to this: one event stays one readable line (F41).
_TEXT_LIMIT = 512
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class QueueSink:
    """Take lines at once, write them in a thread, drop and count what a slow reader leaves."""

    def __init__(self, descriptor: int, limit: int = _QUEUE_LIMIT) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._ready = threading.Event()
        self._closing = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line, or drop it when the queue is full."""
        if len(self._lines) >= self._limit:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._ready.is_set():
            self._ready.set()

    def flush(self) -> None:
        """Do nothing: structlog's logger calls this after each line."""

    def _run(self) -> None:
        while not self._closing.is_set() or self._lines:
            self._ready.wait()
            # Let more come: a wake-up and a write for each line cost more than the call it tells of.
            self._closing.wait(_GATHER)
            self._ready.clear()
            batch = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                self._write_all(b"".join(batch))
            except OSError:  # nobody reads any more (EPIPE): go on without them (F25)
                self.dropped += len(batch)

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, for at most `timeout` seconds."""
        self._closing.set()
        self._ready.set()
        self._thread.join(timeout)


def rendered(_logger: object, level: str, event: EventDict) -> bytes:
    """Render an event as one line, what people look for first; it must never break a call.

    One processor and not a chain of small ones: this runs for every call, and each link of the
    chain costs as much as the rendering itself.
    """
    mistake = event.pop("exception", None)
    line = {"timestamp": _timestamp(), "level": level, "event": event.pop("event"), **event}
    for name, value in event.items():
        if type(value) is str and len(value) > _TEXT_LIMIT:
            line[name] = value[:_TEXT_LIMIT] + "…"
    if isinstance(mistake, BaseException):
        # where it happened, not its message: that could hold arguments or secrets
        line["exception"] = type(mistake).__name__
        line["traceback"] = "".join(traceback.format_tb(mistake.__traceback__))[-2000:]
    try:
        text = orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS)
        if text.isascii():  # U+2028 ends a line for some readers, U+009B moves a terminal (F41)
            return text
    except (TypeError, ValueError):  # lone surrogates of a header, integers beyond 64 bit
        pass
    return json.dumps(line, default=repr, ensure_ascii=True).encode("ascii")


def _timestamp() -> str:
    return datetime.now(UTC).isoformat()  # noqa: TID251 - for people; nothing is decided by it


class Log:
    """Emit events as JSON lines, and bring the lines of libraries into the same form."""

    def __init__(self, level: str = "info", descriptor: int = 1) -> None:
        self._sink = QueueSink(descriptor)
        logger = structlog.wrap_logger(
            structlog.BytesLogger(self._sink),  # type: ignore[arg-type]
            processors=[rendered],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        ).bind()
        self._say = {name: getattr(logger, name) for name in _LEVELS}

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        """Write one event, if its level is not below ours."""
        self._say[level](event, **fields)

    @property
    def dropped(self) -> int:
        """Return how many lines a slow reader has lost."""
        return self._sink.dropped

    def take_over_stdlib(self) -> None:
        """Bring the standard library's log records and warnings into the same stream."""
        logging.captureWarnings(capture=True)
        logging.basicConfig(handlers=[_IntoEvents(self)], level=logging.WARNING, force=True)

    def close(self) -> None:
        """Write what is queued."""
        self._sink.close()


class _IntoEvents(logging.Handler):
    """Tell a library's log record as an event of ours."""

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        # The template without its arguments: those can be anybody's data. Its first line only:
        # asyncio adds what it knows of a task, the text of its exception too.
        said = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        self._emit(
            "library.logged",
            level,
            logger=record.name,
            message=said.partition("\n")[0],
            exception=record.exc_info[1] if record.exc_info else None,
        )
