"""Equal errors, counted together (DESIGN section 6, error.aggregated)."""

from typing import Any

from mcp_proxy.signals.bus import Bus
from mcp_proxy.signals.errors import Errors
from mcp_proxy.signals.said import Said
from tests.fakes import FakeClock, Told, settle, spawn


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.errors = Errors(5.0, self.clock, lambda when: f"at {when:g}")
        self.told = Told()
        self.emit = Bus(self.clock.epoch, self.errors.take)
        self.number = 0

    def fail(self, tool: str = "look", verdict: str = "upstream_failed", **more: Any) -> None:
        self.number += 1
        fields = {"service": "", "tool": tool, "code": None, "upstream": "http://a", **more}
        self.emit(
            "tool.call.completed",
            "warning",
            verdict=verdict,
            request_id=f"r{self.number}",
            **fields,
        )

    def report(self) -> list[dict[str, Any]]:
        self.told.events.clear()
        self.errors.report(self.told)
        assert {(event, level) for event, level, _ in self.told.events} <= {
            ("error.aggregated", "warning")
        }
        return [fields for _, _, fields in self.told.events]


async def test_equal_errors_are_one_line_a_window() -> None:
    bench = Bench()
    began = bench.clock.epoch()
    bench.fail()
    await bench.clock.advance(2)
    bench.fail()
    bench.fail()
    assert bench.report() == [
        {
            "service": "",
            "tool": "look",
            "code": "upstream_failed",
            "upstream": "http://a",
            "count": 3,
            "first": f"at {began:g}",
            "last": f"at {began + 2:g}",
            "request_id": "r3",
            "window_s": 5.0,
        }
    ]
    assert bench.report() == [], "the next window has none"
    bench.fail()
    [again] = bench.report()
    assert (again["count"], again["first"]) == (1, f"at {began + 2:g}")


def test_errors_that_differ_are_told_apart() -> None:
    bench = Bench()
    for _ in range(2):
        bench.fail()
        bench.fail(tool="see")
        bench.fail(code="upstream_timeout")
        bench.fail(upstream="http://b")
        bench.fail(verdict="tool_failed")
        bench.fail(service="jira")
    assert [one["count"] for one in bench.report()] == [2] * 6


def test_what_is_no_error_is_not_counted() -> None:
    bench = Bench()
    for verdict in ("ok", "left"):
        bench.fail(verdict=verdict)
    bench.errors.take(Said(1.0, "error", "circuit.state_changed", {}))
    assert bench.report() == []


async def test_each_window_is_reported_by_itself() -> None:
    bench = Bench()
    running = spawn(bench.errors.run(bench.told), "count errors")
    await settle()
    bench.fail()
    await bench.clock.advance(4.9)
    assert bench.told.events == []
    await bench.clock.advance(0.1)
    assert bench.told.names() == ["error.aggregated"]
    running.cancel()
    await settle()


async def test_the_top_shows_what_is_current() -> None:
    bench = Bench()
    bench.fail(tool="old")
    await bench.clock.advance(601)
    for number in range(30):
        for _ in range(number + 1):
            bench.fail(tool=f"tool {number}")
    top = bench.errors.top()
    assert len(top) == 20
    assert (top[0]["tool"], top[0]["count"]) == ("tool 29", 30)
    assert "old" not in {one["tool"] for one in top}
    bench.report()
    assert bench.errors.top()[0]["count"] == 30, "a report does not forget"


def test_kinds_are_bounded_and_the_ones_not_seen_for_longest_go_first() -> None:
    """F46: tool names come from callers."""
    bench = Bench()
    for number in range(5_000):
        bench.fail(tool="often")
        bench.fail(tool=f"tool {number}")
    assert len(bench.errors._counts) == 500
    assert bench.errors.top()[0]["count"] == 5_000
