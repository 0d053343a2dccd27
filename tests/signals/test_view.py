"""What several workers know, as one: sums, worst states, and percentiles of all samples."""

import asyncio
import json
from typing import Any

import orjson
import pytest

from mcp_proxy.core.report import Standing
from mcp_proxy.signals import view as views
from mcp_proxy.signals.metrics import Metrics
from mcp_proxy.signals.prometheus import Reached
from mcp_proxy.signals.view import View
from tests.fakes import FakeClock
from tests.signals.test_metrics import counted, outcome


def standing(state: str = "present", *, healthy: bool = True, age: float | None = 1.0) -> Standing:
    probe = {"probe_age_seconds": age, "calls": 2, "streams": 1}
    said = {"status": "ok", "age": age}
    return Standing("http://a", state, 5.0, healthy=healthy, said=said, probe=probe)


def view(metrics: Metrics | None = None, **changes: Any) -> View:
    fields: dict[str, Any] = {
        "metrics": metrics or Metrics(),
        "answered_at_once": 3,
        "load": {
            "in_flight": 2,
            "waiting": 1,
            "limit": 10,
            "shed": {"queue full": 4},
            "busiest": [{"service": "", "tool": "t", "in_flight": 2, "waiting": 1, "limit": 5}],
        },
        "circuits": {"c": {"state": "closed", "failures": 1, "opened": 2, "retry_after_s": None}},
        "standings": [standing()],
        "reached": [Reached("http://a", up=True, healthy=True, calls=2, streams=1)],
        "cache": {
            "store": "memory",
            "entries": 5,
            "bytes": 50,
            "max_entries": 9,
            "max_bytes": 99,
            "evicted": 1,
            "invalidations": 2,
        },
        "kept": {"jira/look": {"entries": 5, "bytes": 50, "evicted": 1}},
        "sessions": 1,
        "connections": {"open": 2, "refused": 1},
        "open_streams": 2,
        "tools": 7,
        "errors": [],
        "log_lines_dropped": 1,
        "began": 1000.0,
        "uptime": 60.0,
        "process": {
            "process_cpu_seconds": 1.5,
            "process_open_fds": 10.0,
            "process_start_time_seconds": 1000.0,
        },
    }
    return View(**{**fields, **changes})


def together(*several: View, dead: tuple[View, ...] = ()) -> View:
    """Merge views as they come over the wire."""

    async def merged() -> View:
        sleep = FakeClock().sleep
        reports = [await views.report(one, sleep, samples=True) for one in several]
        reports += [views.past(await views.report(one, sleep, samples=False)) for one in dead]
        text = orjson.dumps(reports, option=orjson.OPT_NON_STR_KEYS)
        return await views.together(json.loads(text), sleep)

    return asyncio.run(merged())


def shown(metrics: Metrics) -> dict[str, Any]:
    return asyncio.run(metrics.snapshot({}, FakeClock().sleep))


def test_of_one_alone_nothing_changes() -> None:
    alone = view(counted(outcome(seconds=0.2), outcome(tool="b", code="internal")))
    found = together(alone)
    assert shown(found.metrics) == shown(alone.metrics)
    assert found.metrics.counted() == alone.metrics.counted()
    for name in View.__slots__:
        if name != "metrics":
            assert getattr(found, name) == getattr(alone, name), name


def test_counts_are_added_up() -> None:
    found = together(
        view(counted(outcome(attempts=3, cache="hit"), outcome(tool="b"))),
        view(counted(outcome(cache="miss", trace_id="t1"))),
    )
    (look, other) = shown(found.metrics)["tools"]
    assert (look["tool"], look["requests"], look["retries"]) == ("look", 2, 2)
    assert (look["cache"]["hits"], look["cache"]["misses"]) == (1, 1)
    assert (other["tool"], other["requests"]) == ("b", 1)
    (row, _) = found.metrics.counted()
    assert sum(row.buckets) == 2
    assert [trace for trace, _ in row.exemplars.values()] == ["t1"]
    assert found.answered_at_once == 6
    assert found.load["shed"] == {"queue full": 8}
    assert found.load["limit"] == 20
    assert found.load["busiest"] == [
        {"service": "", "tool": "t", "in_flight": 4, "waiting": 2, "limit": 10}
    ]
    assert (found.sessions, found.open_streams, found.log_lines_dropped) == (2, 4, 2)
    assert found.cache is not None
    assert (found.cache["store"], found.cache["entries"], found.cache["max_bytes"]) == (
        "memory",
        10,
        198,
    )
    assert found.kept == {"jira/look": {"entries": 10, "bytes": 100, "evicted": 2}}
    assert found.process == {
        "process_cpu_seconds": 3.0,
        "process_open_fds": 20.0,
        "process_start_time_seconds": 1000.0,
    }


def test_percentiles_are_those_of_all_samples() -> None:
    """The mean of two 95th percentiles (0.095 and 1.95 s) would be 1.02 s; none took so long."""
    fast = counted(*(outcome(seconds=number / 1000) for number in range(1, 101)))
    slow = counted(*(outcome(seconds=1 + number / 100) for number in range(1, 101)))
    latency = shown(together(view(fast), view(slow)).metrics)["total"]["latency_ms"]
    assert latency["p50"] == 100.0
    assert latency["p95"] == 1900.0
    assert latency["p99"] == 1980.0
    (row,) = shown(together(view(fast), view(slow)).metrics)["tools"]
    assert row["latency_ms"] == latency


def test_uptime_is_the_oldest() -> None:
    found = together(view(began=1000.0, uptime=60.0), view(began=1050.0, uptime=10.0))
    assert (found.began, found.uptime) == (1000.0, 60.0)


def test_the_worst_view_of_a_target_counts() -> None:
    away = standing("lost", healthy=False, age=3.0)
    gone = Reached("http://a", up=False, healthy=False, calls=0, streams=0)
    found = together(view(), view(standings=[away], reached=[gone]))
    (one,) = found.standings
    assert (one.state, one.healthy) == ("lost", False)
    assert one.said == {"status": "ok", "age": 1.0}, "of the latest probe, whoever made it"
    assert (one.probe["calls"], one.probe["streams"]) == (4, 2)
    assert found.reached == [Reached("http://a", up=False, healthy=False, calls=2, streams=1)]


def test_who_has_not_looked_yet_knows_no_news() -> None:
    """Else a worker that starts anew would make the server unhealthy for a moment."""
    new = view(
        standings=[standing("unknown", age=None)],
        reached=[Reached("http://a", up=False, healthy=True, calls=0, streams=0)],
    )
    found = together(view(), new)
    assert found.standings[0].state == "present"
    assert found.reached[0].up
    assert together(new, new).standings[0].state == "unknown"


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (("closed", "open"), "open"),
        (("half_open", "closed"), "half_open"),
        (("open", "half_open"), "open"),
    ],
)
def test_the_worst_state_of_a_circuit_counts(states: tuple[str, str], worst: str) -> None:
    several = [
        view(circuits={"c": {"state": state, "failures": n, "opened": 1, "retry_after_s": None}})
        for n, state in enumerate(states)
    ]
    assert together(*several).circuits == {
        "c": {"state": worst, "failures": 1, "opened": 2, "retry_after_s": None}
    }


def test_redis_is_up_if_it_is_for_all() -> None:
    several = [
        view(cache={"store": "tiered", "entries": 1, "redis_up": up, "redis_failures": 2})
        for up in (True, False)
    ]
    assert together(*several).cache == {
        "store": "tiered",
        "entries": 2,
        "redis_up": False,
        "redis_failures": 4,
    }
    assert together(view(cache=None), view(cache=None)).cache is None


def test_equal_errors_are_one() -> None:
    kind = {"service": "s", "tool": "t", "code": "internal", "upstream": "u"}
    first = {**kind, "count": 2, "first": "2026-01-01", "last": "2026-01-03", "request_id": "a"}
    second = {**kind, "count": 3, "first": "2026-01-02", "last": "2026-01-04", "request_id": "b"}
    other = {**first, "tool": "x", "count": 1}
    assert together(view(errors=[first, other]), view(errors=[second])).errors == [
        {**kind, "count": 5, "first": "2026-01-01", "last": "2026-01-04", "request_id": "b"},
        other,
    ]


def test_of_the_dead_only_what_was_counted_stays() -> None:
    dead = view(counted(outcome(), outcome()))
    dead.metrics.began()
    found = together(view(counted(outcome())), dead=(dead,))
    assert found.metrics.counted()[0].verdicts == {"ok": 3}
    assert found.metrics.in_flight == 0
    assert found.answered_at_once == 6
    assert found.load["shed"] == {"queue full": 8}
    assert found.circuits["c"]["opened"] == 4
    assert found.process is not None
    assert found.process["process_cpu_seconds"] == 3.0
    alive = together(view())
    for name in ("standings", "reached", "sessions", "open_streams", "tools", "uptime", "began"):
        assert getattr(found, name) == getattr(alive, name), name
    assert found.load["in_flight"] == 2
    assert found.process["process_open_fds"] == 10.0
    assert found.cache is not None
    assert (found.cache["entries"], found.cache["evicted"], found.cache["max_bytes"]) == (5, 2, 99)
    assert found.kept == {"jira/look": {"entries": 5, "bytes": 50, "evicted": 2}}


def test_a_report_is_of_one_moment() -> None:
    """It is written down before it is told: what is told must not be more than that."""
    metrics = counted(outcome())
    sleep = FakeClock().sleep
    report = asyncio.run(views.report(view(metrics), sleep, samples=True))
    before = orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS)
    metrics.began()
    metrics.ended(outcome(seconds=0.2, trace_id="t", cache="hit", code="internal"))
    metrics.invalidated("jira", "look")
    metrics.counted()
    assert orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS) == before
