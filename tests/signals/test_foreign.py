"""What others say is an event, and holds nobody's data."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.signals import foreign
from mcp_proxy.signals.logs import Log
from tests.edge.wire import check_event

ROOT = Path(__file__).parents[2]
# In two parts: a traceback shows lines of source.
SECRET = "hunter" + str(2)
WITHHELD = "(text withheld)"


def fail(secret: str) -> None:
    raise ValueError(f"cannot use {secret}")


class Bench:
    """A log, and what has been written to it."""

    def __init__(self) -> None:
        self._end, self._descriptor = os.pipe()
        self.log = Log("debug", self._descriptor)

    def raw(self) -> bytes:
        self.log.close()
        os.close(self._descriptor)
        with os.fdopen(self._end, "rb") as end:
            raw = end.read()
        assert SECRET.encode() not in raw
        return raw

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw().splitlines()]


@pytest.fixture
def taken_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for owner, name in (
        (sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"),
        (sys, "stdout"), (sys, "stderr"), (warnings, "showwarning"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    bench = Bench()
    foreign.take_over(bench.log)
    yield bench
    bench.log.close()
    root.handlers[:] = handlers
    root.setLevel(level)


# --- logging and warnings


def test_a_librarys_record_is_an_event_without_its_arguments(taken_over: Bench) -> None:
    """F42: the arguments of a record can be anybody's data."""
    logger = logging.getLogger("aiohttp.server")
    logger.warning("bad request from %s", SECRET)
    logger.error("failed: %(x)s", {"x": SECRET})
    logger.info("not worth a line")
    raw = taken_over.raw()
    first, second = (json.loads(line) for line in raw.splitlines())
    del first["timestamp"]
    assert first == {
        "level": "warning",
        "event": "library.logged",
        "logger": "aiohttp.server",
        "message": "bad request from %s",
    }
    assert (second["level"], second["message"]) == ("error", "failed: %(x)s")


def test_a_librarys_exception_is_told_by_its_place(taken_over: Bench) -> None:
    try:
        fail(SECRET)
    except ValueError as mistake:
        logging.getLogger("lib").exception("Error handling request")
        logging.getLogger("lib").error(mistake)  # noqa: TRY400 - some libraries do
    raw = taken_over.raw()
    first, second = (json.loads(line) for line in raw.splitlines())
    assert (first["exception"], first["message"]) == ("ValueError", "Error handling request")
    assert second["message"] == "ValueError"


def test_what_asyncio_tells_of_a_lost_task_holds_no_text_of_its_exception(
    taken_over: Bench,
) -> None:
    """F42: asyncio spells the task and its exception out in the message itself."""

    async def lose() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(enabled=False)
        future = loop.create_future()
        future.set_exception(ValueError(SECRET))
        loop.call_exception_handler(
            {
                "message": "Task exception was never retrieved",
                "exception": future.exception(),
                "future": future,
            }
        )

    asyncio.run(lose())
    raw = taken_over.raw()
    line = json.loads(raw)
    assert (line["logger"], line["message"], line["exception"]) == (
        "asyncio", "Task exception was never retrieved", "ValueError",
    )  # fmt: skip


def test_a_warning_is_an_event(taken_over: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("is deprecated", DeprecationWarning, stacklevel=1)
    [line] = taken_over.lines()
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert line["message"].endswith("DeprecationWarning: is deprecated")


def test_a_text_that_was_put_together_is_withheld(taken_over: Bench) -> None:
    """F42: nobody can tell whose data is in it."""
    logger = logging.getLogger("lib")
    logger.error(f"cannot use {SECRET}")  # noqa: G004 - some libraries do
    logger.error(SECRET)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"cannot use {SECRET}", UserWarning, stacklevel=1)
    first, second, third = taken_over.lines()
    assert first["message"] == second["message"] == WITHHELD
    assert third["message"].endswith(f": UserWarning: {WITHHELD}")


# --- what Python would print


def test_an_exception_of_a_thread_is_an_event(taken_over: Bench) -> None:
    for end in (fail, sys.exit):
        thread = threading.Thread(target=end, args=(SECRET,), name="pump")
        thread.start()
        thread.join()
    [line] = taken_over.lines()
    assert (line["event"], line["level"], line["where"]) == ("proxy.failed", "error", "thread pump")
    assert line["exception"] == "ValueError"
    assert "in fail" in line["traceback"]


def test_an_exception_that_nobody_catches_is_an_event(taken_over: Bench) -> None:
    try:
        fail(SECRET)
    except ValueError as mistake:
        sys.excepthook(ValueError, mistake, mistake.__traceback__)
    [line] = taken_over.lines()
    assert (line["event"], line["where"], line["exception"]) == (
        "proxy.failed", "main", "ValueError",
    )  # fmt: skip


def test_an_exception_of_a_finaliser_is_an_event(taken_over: Bench) -> None:
    class Odd:
        def __del__(self) -> None:
            fail(SECRET)

    Odd()
    [line] = taken_over.lines()
    assert line["exception"] == "ValueError"
    assert line["where"].startswith("ignored in ")
    assert line["where"].endswith("Odd.__del__")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_is_an_event(taken_over: Bench, stream: str) -> None:
    """F42: its text is told only if it stands in the code."""
    file = foreign.printed(taken_over.log, stream)
    print("all is well", file=file)
    print("my secret is", SECRET, file=file)
    file.write("half a line, ")
    file.write(f"{SECRET}\n\n")
    file.buffer.write(SECRET.encode() + b"\xff\n")
    assert file.fileno() == 2, "where a child process may write"
    assert not file.isatty()
    lines = taken_over.lines()
    assert {(line["event"], line["stream"], line["module"]) for line in lines} == {
        ("library.printed", stream, __name__)
    }
    assert [(line["message"], line["characters"]) for line in lines] == [
        ("all is well", 12), (WITHHELD, 21), (WITHHELD, 22), (WITHHELD, 9),
    ]  # fmt: skip


def test_other_threads_tell_the_log_and_wake_nobody(taken_over: Bench) -> None:
    """Who waits for an event waits in the loop of this thread."""
    home = Bench()
    foreign.take_over(home.log, elsewhere=taken_over.log)
    logging.getLogger("lib").error("said here")
    thread = threading.Thread(target=lambda: logging.getLogger("lib").error("said there"))
    thread.start()
    thread.join()
    assert [line["message"] for line in home.lines()] == ["said here"]
    assert [line["message"] for line in taken_over.lines()] == ["said there"]


# --- a real process

CHAOS = """
import asyncio, faulthandler, gc, logging, os, subprocess, sys, threading, warnings
from mcp_proxy.edge import pool, serve

SECRET = "hunter" + str(2)

def fail(*_):
    raise ValueError(f"cannot use {SECRET}")

class Odd:
    def __del__(self):
        fail()

async def lost():
    fail()

async def forgotten():
    pass

def everything():
    loop = asyncio.get_running_loop()
    print("printed", SECRET)
    print("printed", SECRET, file=sys.stderr)
    sys.stdout.buffer.write(SECRET.encode())
    os.write(1, b"written by C\\n")
    subprocess.run([sys.executable, "-c", "print('printed by a child')"])
    warnings.warn(f"warned of {SECRET}", stacklevel=1)
    for name in ("redis", "aiohttp.server", "asyncio"):
        logging.getLogger(name).error("told %s", SECRET)
        logging.getLogger(name).error(f"(told) {SECRET}")
        try:
            fail()
        except ValueError:
            logging.getLogger(name).exception("failed for %s", SECRET)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Odd()
    loop.create_task(lost())
    loop.call_soon(fail, SECRET)
    forgotten()
    open(os.devnull)
    faulthandler.dump_traceback(sys.__stderr__)
    gc.collect()
    return True

async def ended(end, *_):
    everything()
    await asyncio.sleep(0.2)
    gc.collect()
    await end()
    fail()

serve.until_stopped = ended
from mcp_proxy.cli import main
main()
"""


@pytest.mark.parametrize("environ", [{}, {"PYTHONASYNCIODEBUG": "1"}, {"PYTHONDEVMODE": "1"}])
@pytest.mark.parametrize("hidden", ["", "import sys; sys.modules['uvloop'] = None"])
def test_whatever_happens_stdout_is_json_lines(environ: dict[str, str], hidden: str) -> None:
    """DESIGN section 6; and nobody's data is on stderr either (F42)."""
    found = subprocess.run(
        [sys.executable, "-c", hidden + CHAOS, "run", "--upstream", "http://localhost:9", "--port", "0"],
        cwd=ROOT, env={"PATH": "", **environ}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    for line in lines:
        check_event(line)
    assert SECRET.encode() not in found.stdout + found.stderr
    assert found.returncode == 1
    told = {(line["event"], line.get("where"), line.get("logger")) for line in lines}
    assert told >= {
        ("proxy.started", None, None),
        ("proxy.failed", "main", None),
        ("proxy.failed", "thread Thread-1 (fail)", None),
        ("proxy.failed", "ignored in Odd.__del__", None),
        ("library.logged", None, "asyncio"),
        ("library.logged", None, "redis"),
        ("library.logged", None, "py.warnings"),
        ("library.printed", None, None),
    }
    messages = [line["message"] for line in lines if line.get("logger") == "asyncio"]
    assert "Task exception was never retrieved" in messages
    assert any(message.startswith("Exception in callback") for message in messages)
    assert b"written by C" in found.stderr
    assert b"printed by a child" in found.stderr
    assert b"Current thread" in found.stderr, "faulthandler"


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
def test_what_is_closed_is_not_taken_for_something_else(closed: str, tmp_path: Path) -> None:
    """A descriptor that is free may become a socket, and lines would go there."""
    script = (
        "import os, sys; from mcp_proxy.signals import foreign\n"
        "alone = foreign.stdout_alone()\n"
        "other = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
        "os.write(alone, b'a line'); os.write(1, b'by C') if sys.stdout else None\n"
    )
    shell = f'exec "$0" -c "$1" "$2" {" ".join(f"{number}>&-" for number in closed.split())}'
    found = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, script, str(tmp_path / "other")],
        cwd=ROOT, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "other").read_bytes() == b""
    assert found.stdout == (b"a line" if "1" not in closed else b"")
