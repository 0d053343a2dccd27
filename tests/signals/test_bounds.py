"""Each table and queue of what is told, filled with ten times what it may hold (F25, F43, F46)."""

import asyncio
import os

from mcp_proxy.core.watching import wanted
from mcp_proxy.signals import errors, metrics
from mcp_proxy.signals.events import Events
from mcp_proxy.signals.logs import QueueSink
from mcp_proxy.signals.metrics import Metrics
from mcp_proxy.signals.said import Said
from tests.fakes import settle, spawn
from tests.signals.test_errors import Bench
from tests.signals.test_metrics import outcome, snapshot


def said(number: int) -> Said:
    return Said(float(number), "info", "test.event", {"number": number})


def test_rows_and_labels_of_ten_times_as_many_tools() -> None:
    """F43: the rest share one row, whichever of service and tool is new."""
    counts = Metrics()
    for number in range(10 * metrics._TOOLS_LIMIT):
        counts.began()
        counts.ended(outcome(f"t{number}", service=f"s{number % 7}", trace_id=f"{number:032x}"))
        counts.invalidated(f"x{number}", "t")
    assert len(counts.counted()) <= metrics._TOOLS_LIMIT + 1
    assert len(snapshot(counts)["tools"]) <= metrics._TOOLS_LIMIT + 1
    assert len(counts._uncounted) < metrics._TOGETHER
    for row in counts._rows.values():
        assert len(row.exemplars) <= len(metrics.BOUNDS) + 1
        assert len(row.recent.seconds) <= metrics._SAMPLES


def test_samples_of_ten_times_as_many_calls() -> None:
    counts = Metrics()
    for _ in range(10 * metrics._SAMPLES):
        counts.began()
        counts.ended(outcome())
    assert len(counts._recent.seconds) <= metrics._SAMPLES
    assert counts.counted()[0].tool == "look"


def test_kinds_of_ten_times_as_many_errors() -> None:
    bench = Bench()
    for number in range(10 * errors._KINDS):
        bench.fail(f"t{number}")
        assert len(bench.errors._counts) <= errors._KINDS
    assert len(bench.report()) == errors._KINDS
    assert len(bench.errors.top()) == errors.SHOWN


async def test_a_ring_of_ten_times_as_many_events() -> None:
    """A watcher who comes too late is told how many are gone."""
    ring = Events(100, "debug", lambda _: b"{}")
    for number in range(1000):
        ring.take(said(number))
    assert len(ring._ring) == 100
    seen = ring.read(0, wanted({}), 1000)
    assert (len(seen.events), seen.lost) == (100, 900)


async def test_watchers_who_leave_are_forgotten_while_nothing_happens() -> None:
    ring = Events(100, "debug", lambda _: b"{}")
    for _ in range(10):
        waiting = [spawn(ring.more(0), "watcher") for _ in range(100)]
        await settle()
        assert len(ring._waiting) == 100
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert ring._waiting == []


def test_a_log_that_nobody_reads_holds_no_more_than_its_queue() -> None:
    """F25: what does not fit is dropped and counted."""
    reading, writing = os.pipe()
    sink: QueueSink[bytes] = QueueSink(writing, b"".join, limit=100)
    line = b"x" * 70_000 + b"\n"  # one fills the pipe
    for _ in range(10_000):
        sink.put(line)
        assert len(sink._events) <= 100
        assert len(sink._lines) <= 33
    assert sink.dropped > 0
    os.close(reading)
    sink.close()
    os.close(writing)
