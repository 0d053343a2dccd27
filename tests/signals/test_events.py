"""The ring of the last events, and those who read it at their own pace."""

import asyncio
import json
from typing import Any

from mcp_proxy.core.watching import Wanted
from mcp_proxy.signals.events import Events
from mcp_proxy.signals.logs import Renderer
from mcp_proxy.signals.said import Said
from tests.fakes import settle, spawn, within

ALL = Wanted()


class Bench:
    def __init__(self, size: int = 10, lowest: str = "info") -> None:
        self.rendered = 0
        self._renderer = Renderer()
        self.events = Events(size, lowest, self._render)

    def _render(self, said: Said) -> bytes:
        self.rendered += 1
        return self._renderer.text(said)

    def tell(self, *numbers: int, level: str = "info", **fields: Any) -> None:
        for number in numbers:
            self.events.take(Said(1.5, level, "a.b", {"number": number, **fields}))

    def read(
        self, cursor: int, wanted: Wanted = ALL, most: int = 100
    ) -> tuple[list[int], int, int]:
        seen = self.events.read(cursor, wanted, most)
        return [json.loads(text)["number"] for _, _, text in seen.events], seen.lost, seen.cursor


def test_each_watcher_reads_at_its_own_pace() -> None:
    bench = Bench()
    bench.tell(1, 2, 3)
    assert bench.read(0) == ([1, 2, 3], 0, 3)
    assert bench.read(1) == ([2, 3], 0, 3)
    assert bench.read(3) == ([], 0, 3)
    bench.tell(4)
    assert bench.read(3) == ([4], 0, 4)
    assert bench.read(0, most=2) == ([1, 2], 0, 2)


def test_what_is_shown_is_what_the_log_says_and_its_number() -> None:
    bench = Bench()
    bench.tell(1, tool="look")
    [(number, name, text)] = bench.events.read(0, ALL, 1).events
    assert (number, name) == (f"{bench.events.run}-1", "a.b")
    assert json.loads(text) == {
        "id": number,
        "timestamp": "1970-01-01T00:00:01.500000+00:00",
        "level": "info",
        "event": "a.b",
        "number": 1,
        "tool": "look",
    }


def test_who_is_slower_than_the_ring_is_long_is_told_what_was_lost() -> None:
    """Issue 6: a slow reader loses events, is told how many, and never slows a call."""
    bench = Bench(size=10)
    bench.tell(*range(1, 101))
    assert bench.read(0) == ([*range(91, 101)], 90, 100)
    assert bench.read(85, most=3) == ([91, 92, 93], 5, 93)
    assert bench.read(95) == ([96, 97, 98, 99, 100], 0, 100)


def test_an_event_is_rendered_once_and_only_when_somebody_watches() -> None:
    bench = Bench()
    bench.tell(1, 2)
    assert bench.rendered == 0
    for _ in range(5):
        bench.read(0)
    assert bench.rendered == 2


def test_what_is_below_the_lowest_level_is_not_kept() -> None:
    bench = Bench()
    bench.tell(1, level="debug")
    assert bench.events.last == 0
    chatty = Bench(lowest="debug")
    chatty.tell(1, level="debug")
    assert chatty.read(0) == ([1], 0, 1)


def test_what_is_not_wanted_is_passed_over() -> None:
    bench = Bench()
    bench.tell(1, tool="look")
    bench.tell(2, tool="see")
    bench.tell(3, level="error")
    assert bench.read(0, Wanted(tools=frozenset({"see"}))) == ([2], 0, 3)
    assert bench.read(0, Wanted(lowest=40)) == ([3], 0, 3)
    assert bench.rendered == 2


def test_a_watcher_begins_where_it_says() -> None:
    """DESIGN section 6: Last-Event-ID replay from a ring."""
    bench = Bench(size=10)
    bench.tell(*range(1, 21))
    events = bench.events
    assert events.cursor("", 0) == 20, "with what is new"
    assert events.cursor("", 3) == 17
    assert events.cursor("", 500) == 10
    assert events.cursor(f"{events.run}-18", 0) == 18
    assert events.cursor(f"{events.run}-4", 0) == 4, "and is told that 6 are lost"
    assert events.cursor(f"{events.run}-99", 0) == 20
    for odd in ("other-18", "18", "-", f"{events.run}-", f"{events.run}-x", "x" * 500, "²-²"):
        assert events.cursor(odd, 0) == 10, "all that is here is new to it"
    assert events.cursor(f"{events.run}-{'9' * 5000}", 0) == 10


async def test_watchers_wait_for_what_is_new() -> None:
    bench = Bench()
    bench.tell(1)
    await within(bench.events.more(0))
    waiters = [spawn(bench.events.more(1), "watcher") for _ in range(3)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert not any(waiter.done() for waiter in waiters[1:])
    bench.tell(2)
    await within(asyncio.gather(*waiters[1:]))
    assert bench.events._waiting == []


async def test_a_watcher_that_leaves_in_the_last_moment_harms_nobody() -> None:
    bench = Bench()
    waiter = spawn(bench.events.more(0), "watcher")
    await settle()
    waiter.cancel()
    bench.tell(1)
    await settle()
    assert bench.events._waiting == []


def test_what_another_sidecar_tells_is_an_event_like_ours() -> None:
    """MCP_EVENTS_FANOUT."""
    bench = Bench()
    bench.tell(1)
    text = Renderer().text(Said(2.5, "warning", "c.d", {"number": 2, "replica": "b"}))
    bench.events.hear(text)
    assert bench.read(0) == ([1, 2], 0, 2)
    [(_, name, shown)] = bench.events.read(1, Wanted(lowest=30), 10).events
    assert name == "c.d"
    assert json.loads(shown)["timestamp"] == "1970-01-01T00:00:02.500000+00:00"
    assert json.loads(shown)["replica"] == "b"


def test_what_is_no_event_is_passed_over() -> None:
    bench = Bench()
    for odd in (
        b"", b"[]", b"1", b"{}", b'{"event": 1, "level": "info", "timestamp": "2026-01-01"}',
        b'{"event": "a", "level": "loud", "timestamp": "2026-01-01"}',
        b'{"event": "a", "level": [], "timestamp": "2026-01-01"}',
        b'{"event": "a", "level": "info", "timestamp": "soon"}',
        b'{"event": "a", "level": "info", "timestamp": 5}', b"\xff" * 10,
    ):  # fmt: skip
        bench.events.hear(odd)
    assert bench.events.last == 0


# --- for another worker


def tell_at(bench: Bench, *moments: float, **fields: Any) -> None:
    for moment in moments:
        bench.events.take(Said(moment, "info", "a.b", {"number": int(moment), **fields}))


def test_an_excerpt_ends_at_a_moment() -> None:
    bench = Bench()
    tell_at(bench, 1.0, 2.0, 3.0)
    run, cursor, lost, full, found = bench.events.excerpt(0, ALL, 10, 2.0, heard=True)
    assert (run, cursor, lost, full) == (bench.events.run, 2, 0, False)
    assert [(when, number, name) for when, number, name, _ in found] == [
        (1.0, 1, "a.b"),
        (2.0, 2, "a.b"),
    ]
    assert json.loads(found[0][3])["id"] == f"{run}-1"
    assert bench.events.excerpt(2, ALL, 1, 9.0, heard=True)[1:4] == (3, 0, True)


def test_what_was_heard_of_another_sidecar_is_told_by_one_worker_only() -> None:
    bench = Bench()
    tell_at(bench, 1.0)
    tell_at(bench, 2.0, replica="other")
    for heard in (True, False):
        _, cursor, _, _, found = bench.events.excerpt(0, ALL, 10, 9.0, heard=heard)
        assert (cursor, len(found)) == (2, 1 + heard)
        assert bench.events.moments(5, 9.0, heard=heard) == [1.0, 2.0][: 1 + heard]


def test_moments_are_those_of_the_last_events() -> None:
    bench = Bench(size=3)
    tell_at(bench, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert bench.events.moments(2, 4.0, heard=True) == [3.0, 4.0]
    assert bench.events.moments(0, 4.0, heard=True) == []
    assert bench.events.before(4.0) == 3
    assert bench.events.before(9.0) == 5
    assert bench.events.excerpt(0, ALL, 10, 9.0, heard=True)[2] == 2, "so many were lost"
    run = bench.events.run
    assert bench.events.when(f"{run}-3") == 3.0
    for unknown in (f"{run}-2", f"{run}-6", f"{run}-x", "other-3", ""):
        assert bench.events.when(unknown) is None


def test_the_clock_of_another_machine_holds_up_nothing() -> None:
    bench = Bench()
    tell_at(bench, 1.0)
    tell_at(bench, 99.0, replica="other")
    tell_at(bench, 2.0)
    _, cursor, _, _, found = bench.events.excerpt(0, ALL, 10, 5.0, heard=True)
    assert cursor == 3
    assert [when for when, *_ in found] == [1.0, 1.0, 2.0]
    assert bench.events.before(2.0) == 2
    assert bench.events.moments(9, 5.0, heard=True) == [1.0, 5.0, 2.0]
