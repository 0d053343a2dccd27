"""One JSON object per line, whatever happens: no reader, odd names, secrets in exceptions."""

import contextlib
import fcntl
import json
import os
import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mcp_proxy.signals.logs import Log, QueueSink, Turns, pieces


class Reader:
    """The far end of stdout."""

    def __init__(self) -> None:
        self.end, self.descriptor = os.pipe()
        self._open = True

    def read_all(self) -> bytes:
        """Return all that was written; whoever writes must have ended."""
        os.close(self.descriptor)
        with os.fdopen(self.end, "rb") as end:
            self._open = False
            return end.read()

    def leave(self) -> None:
        os.close(self.end)

    def close(self) -> None:
        if self._open:
            for descriptor in (self.end, self.descriptor):
                try:
                    os.close(descriptor)
                except OSError:
                    continue


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


class Bench:
    """A log and its reader."""

    def __init__(self, reader: Reader, level: str = "debug") -> None:
        self.reader = reader
        self.log = Log(level, reader.descriptor)

    def raw(self) -> bytes:
        self.log.close()
        return self.reader.read_all()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw().split(b"\n")[:-1]]


@pytest.fixture
def bench(reader: Reader) -> Iterator[Bench]:
    made = Bench(reader)
    yield made
    made.log.close()  # its thread must not write where another test's file is by then


# --- lines


def test_an_event_is_one_line_with_what_people_look_for_first(bench: Bench) -> None:
    """DESIGN section 6: `timestamp`, `level`, `event`, flat fields."""
    bench.log("circuit.state_changed", "error", circuit="tool look", failures=5)
    [line] = bench.lines()
    assert list(line) == ["timestamp", "level", "event", "circuit", "failures"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|\+00:00)", line["timestamp"])
    assert (line["level"], line["event"], line["failures"]) == ("error", "circuit.state_changed", 5)


def test_events_come_in_the_order_in_which_they_were_told(bench: Bench) -> None:
    for number in range(300):
        bench.log("a", number=number)
    assert [line["number"] for line in bench.lines()] == list(range(300))


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_told(reader: Reader, level: str, seen: list[str]) -> None:
    bench = Bench(reader, level)
    for said in ("debug", "info", "warning", "error"):
        bench.log("a", said)
    assert [line["level"] for line in bench.lines()] == seen


@pytest.mark.parametrize(
    "name",
    [
        "a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x9b31m", "a\u2028b\u2029c\x85d", "\x00",
        "naïve", "日本語", "\ud800 alone", "\udcff of a header", "%s %(x)s {y}", '"quoted"\\',
    ],
)  # fmt: skip
def test_a_hostile_name_stays_in_its_line(bench: Bench, name: str) -> None:
    """F41: escaped, ASCII, one event per line, each line parses."""
    bench.log("a", tool=name)
    bench.log("b")
    raw = bench.raw()
    assert raw.isascii()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", raw)
    first, second = (json.loads(line) for line in raw.splitlines())
    assert first["tool"] == name
    assert second["event"] == "b"


def test_a_huge_name_is_cut(bench: Bench) -> None:
    """F41: 1 MiB names."""
    bench.log("a", tool="x" * (1 << 20), short="y" * 512)
    [line] = bench.lines()
    assert line["tool"] == "x" * 512 + "…"
    assert line["short"] == "y" * 512


def test_values_that_json_does_not_know_break_nothing(bench: Bench) -> None:
    """A log line must never break a call (libraries note 6)."""
    bench.log(
        "a", huge=2**70, keys={1: "a"}, thing=object, raw=b"x", nothing=None, nan=float("nan")
    )
    [line] = bench.lines()
    assert (line["huge"], line["keys"], line["thing"]) == (2**70, {"1": "a"}, "<class 'object'>")
    assert (line["raw"], line["nothing"]) == ("b'x'", None)


# --- secrets

# In two parts: a traceback shows lines of source.
SECRET = "hunter" + "2"


def deep(levels: int, secret: str) -> None:
    if levels:
        deep(levels - 1, secret)
    else:
        innermost(secret)


def innermost(secret: str) -> None:
    raise ValueError(f"cannot use {secret}")


@pytest.mark.parametrize("levels", [0, 100])
def test_an_exception_is_told_by_its_place_and_never_by_its_text(bench: Bench, levels: int) -> None:
    """F42: the message of an exception could hold arguments or secrets."""
    try:
        deep(levels, SECRET)
    except ValueError as mistake:
        bench.log("proxy.failed", "error", exception=mistake)
    raw = bench.raw()
    assert SECRET.encode() not in raw
    line = json.loads(raw)
    assert line["exception"] == "ValueError"
    assert "innermost" in line["traceback"], "where it happened is what is wanted"
    assert len(line["traceback"]) <= 2000


def test_what_is_no_exception_is_not_told_as_one(bench: Bench) -> None:
    bench.log("a", exception=SECRET)
    assert "exception" not in bench.lines()[0]


# --- readers


# what waits while a reader is stalled: batches that are rendered, and a queue of 100
HELD = 64 * 32 + 100


def test_a_stalled_reader_loses_lines_and_each_is_counted(reader: Reader) -> None:
    """F25: a write to a full pipe stops the event loop; drops are counted exactly."""
    sink = QueueSink(reader.descriptor, b"".join, limit=100)
    sink.put(b"x" * 1_000_000 + b"\n")
    assert os.read(reader.end, 1) == b"x", "the writer is at it, and its queue is empty"
    for number in range(HELD + 150):
        sink.put(b"%d\n" % number)
    assert sink.dropped == 150
    read = b"x"
    while not read.endswith(b"\n%d\n" % (HELD - 1)):
        read += os.read(reader.end, 1 << 16)
    assert read == b"x" * 1_000_000 + b"\n" + b"".join(b"%d\n" % number for number in range(HELD))
    sink.put(b"again\n")
    sink.close()
    assert os.read(reader.end, 100) == b"again\n"
    assert sink.dropped == 150


def test_a_reader_that_is_gone_breaks_nothing(reader: Reader) -> None:
    """F25: EPIPE is ignored, and what was lost is counted."""
    bench = Bench(reader)
    reader.leave()
    for _ in range(10):
        bench.log("a")
    bench.log.close()
    assert bench.log.dropped == 10


def test_a_writer_that_is_stuck_does_not_hold_up_the_end(reader: Reader) -> None:
    """F26: exit within the grace."""
    sink = QueueSink(reader.descriptor, b"".join)
    sink.put(b"x" * 1_000_000)
    assert os.read(reader.end, 1) == b"x"
    sink.close(timeout=0.01)
    assert sink._thread.is_alive()
    assert sink._thread.daemon
    reader.leave()
    sink._thread.join(5)
    assert not sink._thread.is_alive()


def test_closing_writes_what_is_queued(reader: Reader) -> None:
    sink = QueueSink(reader.descriptor, b"".join)
    for number in range(5000):
        sink.put(b"%d\n" % number)
    sink.close(timeout=5)
    sink.close()
    assert reader.read_all().split() == [b"%d" % number for number in range(5000)]


def test_nothing_global_is_configured(bench: Bench) -> None:
    """House style, section 9: no global config; structlog's default prints to stdout."""
    assert not structlog.is_configured()
    bench.log("a")
    assert not structlog.is_configured()


# --- several processes, one descriptor


def test_pieces_are_whole_lines() -> None:
    lines = b"aaaa\nbb\ncccccccccccc\nd\n"
    assert pieces(lines, 8) == [b"aaaa\nbb\n", b"cccccccccccc\n", b"d\n"]
    assert pieces(lines, 100) == [lines]
    assert pieces(b"", 8) == []


def test_who_writes_waits_for_its_turn(reader: Reader, tmp_path: Path) -> None:
    """The other process of the test is another file: a lock belongs to who has opened it."""
    path = str(tmp_path / "turns")
    turns = Turns(path)
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    log = Log("info", reader.descriptor, write=turns.write)
    log("a.b")
    assert select.select([reader.end], [], [], 0.1) == ([], [], [])
    fcntl.flock(other, fcntl.LOCK_UN)
    os.close(other)
    log.close()
    assert json.loads(reader.read_all())["event"] == "a.b"


def test_at_once_means_without_a_thread(reader: Reader) -> None:
    before = threading.active_count()
    log = Log("info", reader.descriptor, at_once=True)
    log("a.b")
    assert threading.active_count() == before
    assert json.loads(os.read(reader.end, 4096))["event"] == "a.b"
    log.close()


def test_at_once_never_waits(reader: Reader) -> None:
    os.set_blocking(reader.descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(reader.descriptor, b"x" * 4096)
    os.set_blocking(reader.descriptor, True)
    log = Log("info", reader.descriptor, at_once=True)
    log("a.b")
    assert log.dropped == 1
    reader.leave()
    log("a.b")
    assert log.dropped == 2
