"""What others say: libraries that log, warn or print, threads and finalisers that fail.

All of it becomes events, so that each line of stdout is one JSON object. Whoever puts a text
together may put anybody's data into it, so a text is told only if it stands, as it is, in the code
that is just running; of an exception its kind and its place, never its text (F42).
"""

import io
import logging
import os
import sys
import threading
import warnings
from types import FrameType, TracebackType
from typing import Any, TextIO

from mcp_proxy.core.clock import Emit

_STDOUT, _STDERR = 1, 2


def stdout_alone() -> int:
    """Return a descriptor of stdout that is ours alone; what others write there goes to stderr.

    Replacing `sys.stdout` does not reach C libraries, nor child processes.
    """
    if sys.stdout is None:  # closed by our parent: 1 may become any file or socket of ours
        return os.open(os.devnull, os.O_WRONLY)
    alone = os.dup(_STDOUT)
    elsewhere = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else os.dup(_STDERR)
    os.dup2(elsewhere, _STDOUT)
    os.close(elsewhere)
    return alone


def take_over(emit: Emit, elsewhere: Emit | None = None) -> None:
    """Tell from now on as events what would be printed otherwise, in all of the process.

    What other threads than this one say goes `elsewhere`: they must not wake who waits in the loop.
    """
    if elsewhere is not None:
        emit = _by_thread(emit, elsewhere)
    hear_stdlib(emit)
    hooks = _Hooks(emit)
    sys.excepthook = hooks.uncaught
    threading.excepthook = hooks.thread_failed
    sys.unraisablehook = hooks.unraisable
    sys.stdout = printed(emit, "stdout")
    sys.stderr = printed(emit, "stderr")


def _by_thread(emit: Emit, elsewhere: Emit) -> Emit:
    home = threading.get_ident()

    def said(event: str, level: str = "info", **fields: Any) -> None:
        (emit if threading.get_ident() == home else elsewhere)(event, level, **fields)

    return said


def hear_stdlib(emit: Emit) -> None:
    """Tell the standard library's log records and warnings as events."""
    logging.basicConfig(handlers=[_Records(emit)], level=logging.WARNING, force=True)
    warnings.showwarning = _Hooks(emit).warned


def told(text: str, name: str = "") -> str:
    """Return the first line of a text if it stands in the code that runs, else that it is withheld."""
    line = text.strip().partition("\n")[0]
    if name == "asyncio":  # its own words come first, then reprs of what they are about
        return line.partition("(")[0].partition("<")[0].strip()
    return line if _stands_in_code(text, sys._getframe(1)) else "(text withheld)"  # noqa: SLF001


def _stands_in_code(text: str, frame: FrameType | None) -> bool:
    known = {text, text.removesuffix("\n")}
    while frame is not None:
        if any(type(one) is str and one in known for one in frame.f_code.co_consts):
            return True
        frame = frame.f_back
    return False


class _Records(logging.Handler):
    """Tell a library's log record as an event of ours."""

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        # The template without its arguments: those can be anybody's data.
        said = record.msg
        self._emit(
            "library.logged",
            "error" if record.levelno >= logging.ERROR else "warning",
            logger=record.name,
            message=told(said, record.name) if isinstance(said, str) else type(said).__name__,
            exception=record.exc_info[1] if record.exc_info else None,
        )


class _Hooks:
    """Where Python itself would print."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        *_: Any,
        **__: Any,
    ) -> None:
        """Tell a warning (`warnings.showwarning`)."""
        self._emit(
            "library.logged",
            "warning",
            logger="py.warnings",
            message=f"{filename}:{lineno}: {category.__name__}: {told(str(message))}",
        )

    def uncaught(
        self, _: type[BaseException], mistake: BaseException, __: TracebackType | None
    ) -> None:
        """Tell what ends the process (`sys.excepthook`)."""
        self._emit("proxy.failed", "error", where="main", exception=mistake)

    def thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        """Tell what has ended a thread (`threading.excepthook`)."""
        if failed.exc_type is not SystemExit:  # as Python's own hook does
            name = failed.thread.name if failed.thread else ""
            self._emit("proxy.failed", "error", where=f"thread {name}", exception=failed.exc_value)

    def unraisable(self, failed: Any) -> None:
        """Tell what nobody could be told (`sys.unraisablehook`), such as of a finaliser."""
        of = getattr(failed.object, "__qualname__", type(failed.object).__name__)
        self._emit("proxy.failed", "error", where=f"ignored in {of}", exception=failed.exc_value)


def printed(emit: Emit, stream: str) -> TextIO:
    """Return a file that tells each line printed to it as an event."""
    return io.TextIOWrapper(
        _Printed(emit, stream),  # type: ignore[type-var]  # a raw file does, as with python -u
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class _Printed(io.RawIOBase):
    """What libraries print."""

    def __init__(self, emit: Emit, stream: str) -> None:
        super().__init__()
        self._emit = emit
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return where a child process may write."""
        return _STDERR

    def write(self, data: Any, /) -> int:
        text = bytes(data).decode("utf-8", "replace")
        if text.strip():
            by = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001
            self._emit(
                "library.printed",
                "warning",
                module=by,
                stream=self._stream,
                message=told(text),
                characters=len(text),
            )
        return len(bytes(data))
