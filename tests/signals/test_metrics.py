"""Counts of this process: what they say, and that they stay small."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.signals.metrics import (
    BOUNDS,
    OTHER,
    Counted,
    Kept,
    Metrics,
    milliseconds,
    percentiles,
    ratio,
)
from tests.fakes import FakeClock


def outcome(
    tool: str = "look",
    verdict: Verdict = Verdict.OK,
    *,
    service: str = "jira",
    seconds: float = 0.1,
    attempts: int = 1,
    cache: str = "bypass",
    code: str | None = None,
    trace_id: str = "",
) -> Outcome:
    return Outcome(service, tool, verdict, seconds, attempts, cache, code, trace_id)


def counted(*outcomes: Outcome) -> Metrics:
    metrics = Metrics()
    for one in outcomes:
        metrics.began()
        metrics.ended(one)
    return metrics


def snapshot(metrics: Metrics, kept: Kept | None = None) -> dict[str, Any]:
    return asyncio.run(metrics.snapshot(kept or {}, FakeClock().sleep))


def test_nothing_is_shown_as_nothing() -> None:
    shown = snapshot(Metrics())
    assert shown["in_flight"] == 0
    assert shown["tools"] == []
    assert shown["total"] == {
        "requests": 0,
        "errors": 0,
        "error_rate": 0.0,
        "verdicts": {},
        "proxy_errors": {},
        "retries": 0,
        "cache": {
            "hits": 0,
            "misses": 0,
            "collapsed": 0,
            "stale": 0,
            "hit_ratio": 0.0,
            "invalidations": 0,
        },
        "latency_ms": {"mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0},
    }


def test_a_call_is_in_flight_until_it_has_ended() -> None:
    metrics = Metrics()
    metrics.began()
    metrics.began()
    assert metrics.in_flight == 2
    metrics.ended(outcome())
    assert metrics.in_flight == 1


def test_each_tool_has_its_row_and_all_have_one() -> None:
    """DESIGN section 6: per tool and service."""
    metrics = counted(
        outcome(), outcome(service="salesforce"), outcome("find"), outcome(verdict=Verdict.BUSY)
    )
    rows = {(row["service"], row["tool"]): row["requests"] for row in snapshot(metrics)["tools"]}
    assert rows == {("jira", "look"): 2, ("salesforce", "look"): 1, ("jira", "find"): 1}
    assert snapshot(metrics)["total"]["requests"] == 4


@pytest.mark.parametrize(
    ("verdict", "errors"),
    [
        (Verdict.OK, 0),
        (Verdict.TOOL_FAILED, 1),
        (Verdict.UPSTREAM_FAILED, 1),
        (Verdict.BUSY, 1),
        (Verdict.CLIENT_FAULT, 0),
        (Verdict.LEFT, 0),
    ],
)
def test_a_tool_that_failed_is_an_error_and_a_departure_is_none(
    verdict: Verdict, errors: int
) -> None:
    """F7: counted as tool error."""
    total = snapshot(counted(outcome(), outcome(), outcome(), outcome(verdict=verdict)))["total"]
    assert (total["errors"], total["error_rate"]) == (errors, errors / 4)
    assert sum(total["verdicts"].values()) == 4


def test_our_own_errors_are_counted_by_their_code() -> None:
    total = snapshot(counted(outcome(code="circuit_open"), outcome(code="circuit_open"), outcome()))
    assert total["total"]["proxy_errors"] == {"circuit_open": 2}


def test_only_what_came_after_the_first_try_is_a_retry() -> None:
    metrics = counted(outcome(attempts=4), outcome(attempts=1), outcome(attempts=0))
    assert snapshot(metrics)["total"]["retries"] == 3


def test_the_hit_ratio_is_of_those_who_looked() -> None:
    words = ["hit", "hit", "hit", "stale", "miss", "expired", "expired", "collapsed"]
    metrics = counted(*(outcome(cache=word) for word in [*words, "bypass", "request"]))
    assert snapshot(metrics)["total"]["cache"] == {
        "hits": 3, "misses": 3, "collapsed": 1, "stale": 1, "hit_ratio": 0.5,
        "invalidations": 0,
    }  # fmt: skip


def test_each_tool_shows_what_the_cache_did_for_it() -> None:
    """Issue 4: hits, misses, stale, coalesced, bytes, entries, evictions, invalidations per tool."""
    metrics = counted(
        outcome("look", cache="hit"),
        outcome("look", cache="stale"),
        outcome("tools/list", service="", cache="miss"),
        outcome("save"),
        outcome("chat", service=""),
    )
    metrics.invalidated("jira", "save")
    held = {"entries": 2, "bytes": 700, "evicted": 5}
    listed = {"entries": 1, "bytes": 300, "evicted": 0}
    nothing = {"entries": 0, "bytes": 0, "evicted": 0}
    kept = {"jira/look": held, "tools/list": listed}
    cache = metrics.cache(kept)
    assert (cache["hits"], cache["stale"], cache["misses"], cache["invalidations"]) == (1, 1, 1, 1)
    rows = {row.pop("tool"): row for row in cache["tools"]}
    assert rows == {
        "look": {
            "service": "jira", "hits": 1, "misses": 0, "collapsed": 0, "stale": 1,
            "hit_ratio": 1.0, "invalidations": 0, **held,
        },
        "tools/list": {
            "service": "", "hits": 0, "misses": 1, "collapsed": 0, "stale": 0,
            "hit_ratio": 0.0, "invalidations": 0, **listed,
        },
        "save": {
            "service": "jira", "hits": 0, "misses": 0, "collapsed": 0, "stale": 0,
            "hit_ratio": 0.0, "invalidations": 1, **nothing,
        },
    }  # fmt: skip
    shown = {row["tool"]: row["cache"] for row in snapshot(metrics, kept)["tools"]}
    assert shown["look"].items() >= held.items()
    assert shown["chat"].items() >= nothing.items()


def test_invalidations_of_names_without_end_share_one_row() -> None:
    """F43."""
    metrics = Metrics()
    for number in range(2000):
        metrics.invalidated("", f"tool-{number}")
    assert len(snapshot(metrics)["tools"]) == 501
    assert metrics.cache({})["invalidations"] == 2000


def test_latency_is_told_in_milliseconds() -> None:
    latency = snapshot(counted(outcome(seconds=0.1), outcome(seconds=0.3)))["total"]["latency_ms"]
    assert latency == {"mean": 200.0, "p50": 100.0, "p95": 300.0, "p99": 300.0}


def test_names_without_end_share_one_row() -> None:
    """F43: at most N rows after 10⁵ random names; known ones keep theirs."""
    metrics = counted(outcome("known"))
    for number in range(100_000):
        metrics.began()
        metrics.ended(outcome(f"tool-{number}"))
    metrics.began()
    metrics.ended(outcome("known"))
    rows = {row["tool"]: row for row in snapshot(metrics)["tools"]}
    assert len(rows) == 501
    assert rows["known"]["requests"] == 2
    assert (rows[OTHER]["service"], rows[OTHER]["requests"]) == ("", 100_001 - 500)
    assert snapshot(metrics)["total"]["requests"] == 100_002


def test_a_tool_that_works_gets_the_place_of_a_name_that_never_did() -> None:
    """F43: made-up names must not take the places of the real ones."""
    metrics = counted(*(outcome(f"made-up-{n}", Verdict.CLIENT_FAULT) for n in range(600)))
    assert len(metrics.counted()) == 501
    for number in range(510):
        metrics.began()
        metrics.ended(outcome(f"tool-{number}", seconds=0.2))
    rows = {row.tool: row for row in metrics.counted()}
    assert len(rows) == 501
    assert rows.keys() - {OTHER} == {f"tool-{number}" for number in range(500)}
    assert rows[OTHER].verdicts == {"client_fault": 600, "ok": 10}
    assert sum(rows[OTHER].buckets) == 610
    assert snapshot(metrics)["total"]["requests"] == 1110


@pytest.mark.parametrize("name", ["x" * 257, "a\0b", "a\x1b[2J", "a\rb", "\ud800", "a\tb", "\x7f"])
def test_a_name_that_cannot_be_shown_has_no_row(name: str) -> None:
    """F41."""
    metrics = counted(outcome(name), outcome(service=name), outcome('a\n"\\b'), outcome("x" * 256))
    rows = {(row.service, row.tool): sum(row.verdicts.values()) for row in metrics.counted()}
    assert rows == {("", OTHER): 2, ("jira", 'a\n"\\b'): 1, ("jira", "x" * 256): 1}


def test_a_row_tells_what_was_counted() -> None:
    metrics = counted(
        outcome(seconds=0.0005, attempts=3, cache="miss", trace_id="a"),
        outcome(seconds=0.0006, verdict=Verdict.BUSY, code="overloaded", attempts=0),
        outcome(seconds=0.0006, trace_id="b"),
        outcome(seconds=0.0007, trace_id="c"),
        outcome(seconds=400.0),
    )
    metrics.invalidated("jira", "look")
    [row] = metrics.counted()
    buckets = [0] * (len(BOUNDS) + 1)
    buckets[0], buckets[1], buckets[-1] = 1, 3, 1  # a bound belongs to its bucket
    assert row == Counted(
        "jira",
        "look",
        {"ok": 4, "busy": 1},
        {"miss": 1, "bypass": 4},
        {"overloaded": 1},
        attempts=6,
        retries=2,
        invalidations=1,
        seconds=pytest.approx(400.0024),
        buckets=tuple(buckets),
        exemplars={0: ("a", 0.0005), 1: ("c", 0.0007)},
    )


async def test_calls_go_on_between_two_rows() -> None:
    """Also those whose tool has no row yet, and those that take the place of another."""
    metrics = counted(*(outcome(f"tool-{number}", Verdict.BUSY) for number in range(500)))
    asked = 0

    async def others(_: float) -> None:
        nonlocal asked
        asked += 1
        metrics.began()
        metrics.ended(outcome(f"late-{asked}"))
        metrics.counted()

    told = await metrics.snapshot({}, others)
    assert asked == len(told["tools"]) == 500
    assert {row["requests"] for row in told["tools"]} == {1}
    assert told["total"]["requests"] == 1000


def test_what_was_handed_out_does_not_change() -> None:
    """It is read in another thread."""
    metrics = counted(outcome(trace_id="a"))
    [before] = metrics.counted()
    kept = repr(before)
    metrics.began()
    metrics.ended(outcome(verdict=Verdict.BUSY, cache="hit", code="overloaded", trace_id="b"))
    metrics.invalidated("jira", "look")
    assert metrics.counted() != [before]
    assert repr(before) == kept


def test_percentiles_are_of_the_latest_calls() -> None:
    metrics = counted(*(outcome(seconds=9.0) for _ in range(1024)))
    for _ in range(1024):
        metrics.began()
        metrics.ended(outcome(seconds=0.001))
    assert snapshot(metrics)["total"]["latency_ms"]["p99"] == 1.0


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, (1, 1, 1)),
        (2, (1, 2, 2)),
        (20, (10, 19, 20)),
        (100, (50, 95, 99)),
        (1000, (500, 950, 990)),
    ],
)
def test_a_percentile_is_the_nearest_rank(number: int, expected: tuple[int, int, int]) -> None:
    """The smallest sample that at least so many of a hundred do not exceed."""
    samples = [rank / 1000 for rank in range(number, 0, -1)]
    assert percentiles(samples) == dict(zip(("p50", "p95", "p99"), expected, strict=True))


@given(st.lists(st.floats(0, 300), min_size=1, max_size=1024))
@settings(deadline=None)
def test_a_percentile_is_a_sample_and_they_are_in_order(samples: list[float]) -> None:
    told = percentiles(samples)
    assert told["p50"] <= told["p95"] <= told["p99"]
    assert set(told.values()) <= {milliseconds(sample) for sample in samples}
    for share in (50, 95, 99):
        below = sum(milliseconds(sample) <= told[f"p{share}"] for sample in samples)
        assert below * 100 >= share * len(samples)


def test_a_share_of_nothing_is_nothing() -> None:
    assert (ratio(0, 0), ratio(1, 3)) == (0.0, 0.3333)
