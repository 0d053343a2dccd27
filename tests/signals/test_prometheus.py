"""The formats that Prometheus reads, held against prometheus_client's own parsers."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from mcp_proxy.core.accept import OPENMETRICS, TEXT, Form
from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.signals.metrics import BOUNDS, OTHER, Metrics
from mcp_proxy.signals.prometheus import Prometheus, Reached, Seen, render
from tests.fakes import FakeClock, settle, spawn, within

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
FORMS = [TEXT, OPENMETRICS]
HOSTILE = [
    'a"b',
    "a\nb",
    "a\\b",
    "a\\nb",
    "\\",
    '"} 1\nmcp_sidecar_sessions 99',
    "x" * 256,
    "{}=,#",
    "# EOF",
    "naïve ☃ \u2028 \U0001f600",
    "",
    " ",
]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def counted(*outcomes: Outcome) -> Metrics:
    metrics = Metrics()
    for outcome in outcomes:
        metrics.began()
        metrics.ended(outcome)
    return metrics


def outcome(tool: str = "look", seconds: float = 0.1, **fields: Any) -> Outcome:
    known = {"verdict": Verdict.OK, "attempts": 1, "cache": "miss", "code": None}
    return Outcome(service="jira", tool=tool, seconds=seconds, **{**known, **fields})


def seen(*outcomes: Outcome, **fields: Any) -> Seen:
    """Return what a sidecar with something of everything knows."""
    return replace(
        Seen(
            tools=counted(*(outcomes or [outcome()])).counted(),
            in_flight=3,
            answered_at_once=4,
            concurrency={"in_flight": 5, "waiting": 6, "limit": 7},
            shed={"queue full": 8, "tool's share": 0},
            circuits={
                "target a:1": {"state": "closed", "opened": 0},
                "tool jira/look": {"state": "open", "opened": 2},
            },
            targets=[Reached("a:1", True, True, 9, 10), Reached("b:2", False, False, 0, 0)],
            cache={
                "entries": 11, "bytes": 12, "max_entries": 13, "max_bytes": 14, "evicted": 15,
                "redis_up": True, "redis_failures": 16,
            },
            sessions=17,
            open_streams=18,
            log_lines_dropped=19,
            began=1_700_000_000.5,
            uptime=20.25,
            version="1.2.3",
            workers=(21, 20),
        ),
        **fields,
    )  # fmt: skip


def families(known: Seen, form: Form) -> dict[str, Metric]:
    read: Callable[[str], Iterable[Metric]] = read_openmetrics if form == OPENMETRICS else read_text
    found = list(read(render(known, form).decode()))
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def values(known: Seen, form: Form = OPENMETRICS) -> dict[tuple[str, ...], float]:
    """Return the sidecar's samples: name and sorted label values, then the value."""
    samples = [
        ((one.name, *(f"{name}={value}" for name, value in sorted(one.labels.items()))), one.value)
        for family in families(known, form).values()
        for one in family.samples
        if one.name.startswith("mcp_sidecar_")
    ]
    assert len(dict(samples)) == len(samples), "a series is there twice"
    return dict(samples)


# --- what it says


@pytest.mark.parametrize("form", FORMS)
def test_everything_is_told_with_its_value(form: Form) -> None:
    told = values(seen(), form)
    expected: dict[tuple[str, ...], float] = {
        ("calls_in_flight",): 3,
        ("answered_at_once_total",): 4,
        ("calls_admitted",): 5,
        ("calls_queued",): 6,
        ("admission_limit",): 7,
        ("calls_shed_total", "reason=queue_full"): 8,
        ("calls_shed_total", "reason=tools_share"): 0,
        ("circuit_state", "circuit=target a:1", "state=closed"): 1,
        ("circuit_state", "circuit=target a:1", "state=half_open"): 0,
        ("circuit_state", "circuit=target a:1", "state=open"): 0,
        ("circuit_state", "circuit=tool jira/look", "state=open"): 1,
        ("circuit_state", "circuit=tool jira/look", "state=closed"): 0,
        ("circuit_opened_total", "circuit=tool jira/look"): 2,
        ("target_up", "target=a:1"): 1,
        ("target_up", "target=b:2"): 0,
        ("target_healthy", "target=a:1"): 1,
        ("target_healthy", "target=b:2"): 0,
        ("target_calls", "target=a:1"): 9,
        ("target_streams", "target=a:1"): 10,
        ("cache_entries",): 11,
        ("cache_bytes",): 12,
        ("cache_max_entries",): 13,
        ("cache_max_bytes",): 14,
        ("cache_evictions_total",): 15,
        ("redis_up",): 1,
        ("redis_failures_total",): 16,
        ("sessions",): 17,
        ("open_streams",): 18,
        ("log_lines_dropped_total",): 19,
        ("start_time_seconds",): 1_700_000_000.5,
        ("uptime_seconds",): 20.25,
    }
    for (name, *labels), value in expected.items():
        assert told[f"mcp_sidecar_{name}", *labels] == value
    [built] = [labels for labels in told if labels[0] == "mcp_sidecar_build_info"]
    assert "version=1.2.3" in built


@pytest.mark.parametrize("form", FORMS)
def test_calls_are_told_by_tool(form: Form) -> None:
    told = values(
        seen(
            outcome(attempts=3, cache="hit"),
            outcome(cache="stale"),
            outcome(verdict=Verdict.UPSTREAM_FAILED, code="upstream_timeout"),
            outcome(verdict=Verdict.BUSY, code="rate_limited", attempts=0),
            outcome("save", cache="bypass"),
        ),
        form,
    )
    look, save = ("service=jira", "tool=look"), ("service=jira", "tool=save")
    calls, results = "mcp_sidecar_calls_total", "mcp_sidecar_cache_results_total"
    assert {labels[3]: n for labels, n in told.items() if labels[:3] == (calls, *look)} == {
        "verdict=ok": 2, "verdict=upstream_failed": 1, "verdict=busy": 1,
        "verdict=tool_failed": 0, "verdict=client_fault": 0, "verdict=left": 0,
    }  # fmt: skip
    parts = {
        labels[1]: n for labels, n in told.items() if labels[0] == results and look[1] in labels
    }
    assert parts == {
        "result=hit": 1, "result=stale": 1, "result=miss": 2, "result=expired": 0,
        "result=collapsed": 0,
    }  # fmt: skip
    assert [labels[1] for labels in told if labels[0] == results and save[1] in labels] == [
        "result=bypass"
    ]
    assert told["mcp_sidecar_attempts_total", *look] == 5
    assert told["mcp_sidecar_retries_total", *look] == 2
    assert told["mcp_sidecar_cache_invalidations_total", *save] == 0
    assert told["mcp_sidecar_proxy_errors_total", "code=upstream_timeout"] == 1
    assert told["mcp_sidecar_proxy_errors_total", "code=circuit_open"] == 0
    assert told["mcp_sidecar_rate_limited_total",] == 1


@pytest.mark.parametrize("form", FORMS)
def test_durations_are_counted_up_to_each_bound(form: Form) -> None:
    """Cumulative, in seconds, from half a millisecond up."""
    times = [0.0001, 0.0005, 0.0006, 0.03, 0.03, 299.0, 301.0]
    told = values(seen(*(outcome(seconds=one) for one in times)), form)
    name, look = "mcp_sidecar_call_duration_seconds", ("service=jira", "tool=look")
    buckets = {
        float(labels[1].removeprefix("le=")): number
        for labels, number in told.items()
        if labels[0] == f"{name}_bucket"
    }
    assert buckets == {bound: sum(one <= bound for one in times) for bound in (*BOUNDS, inf)}
    assert told[f"{name}_count", *look] == len(times)
    assert told[f"{name}_sum", *look] == pytest.approx(sum(times))


def test_a_bucket_names_the_trace_of_its_latest_call() -> None:
    """OpenMetrics 1.0, Exemplars; the older format has none."""
    known = seen(
        outcome(seconds=0.002, trace_id="0" * 32),
        outcome(seconds=0.0021, trace_id=TRACE),
        outcome(seconds=0.0022),
        outcome(seconds=400.0, trace_id="f" * 32),
    )
    family = families(known, OPENMETRICS)["mcp_sidecar_call_duration_seconds"]
    exemplars = {
        one.labels["le"]: (one.exemplar.labels, one.exemplar.value)
        for one in family.samples
        if one.exemplar
    }
    assert exemplars == {
        "0.0025": ({"trace_id": TRACE}, 0.0021),
        "+Inf": ({"trace_id": "f" * 32}, 400.0),
    }
    assert TRACE.encode() not in render(known, TEXT)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_comes_out_as_it_went_in(form: Form, name: str) -> None:
    """F41, F43: no name breaks a line, or makes up a metric."""
    circuit = {f"tool {name}": {"state": "open", "opened": 1}}
    known = seen(outcome(name, trace_id=TRACE), circuits=circuit)
    found = families(known, form)
    tools = {one.labels["tool"] for one in found["mcp_sidecar_calls"].samples}
    assert tools == {name}
    circuits = {one.labels["circuit"] for one in found["mcp_sidecar_circuit_state"].samples}
    assert circuits == {f"tool {name}"} if len(name) < 252 else {OTHER}
    assert found.keys() == families(seen(), form).keys()
    assert found["mcp_sidecar_sessions"].samples[0].value == 17


@pytest.mark.parametrize("form", FORMS)
def test_circuits_whose_names_cannot_be_shown_are_one(form: Form) -> None:
    """A series that is there twice would cost the whole page; the worst state is told."""
    circuits = {
        "tool a\0": {"state": "half_open", "opened": 1},
        "tool b\ud800": {"state": "closed", "opened": 2},
    }
    told = values(seen(circuits=circuits), form)
    states = {
        labels[2]: n for labels, n in told.items() if labels[0] == "mcp_sidecar_circuit_state"
    }
    assert states == {"state=closed": 0, "state=half_open": 1, "state=open": 0}
    assert told["mcp_sidecar_circuit_opened_total", f"circuit={OTHER}"] == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_sidecar_of_which_nothing_is_known_yet_can_be_read(form: Form) -> None:
    found = families(seen(tools=[], circuits={}, targets=[], cache=None), form)
    assert not any("cache_entries" in name for name in found)
    assert found["mcp_sidecar_calls"].samples == []


def test_nothing_is_shared_between_sidecars_of_one_process() -> None:
    from prometheus_client import REGISTRY

    before = {one.name for one in REGISTRY.collect()}
    first, second = seen(sessions=1), seen(sessions=2)
    assert values(first)["mcp_sidecar_sessions",] == 1
    assert values(second)["mcp_sidecar_sessions",] == 2
    assert {one.name for one in REGISTRY.collect()} == before


def test_the_process_is_told_under_its_usual_names() -> None:
    found = families(seen(), TEXT)
    assert "process_resident_memory_bytes" in found
    assert "process_cpu_seconds" in found


# --- what the documents say of it


def shown(family: Metric) -> tuple[str, str, str, str]:
    name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = {label for one in family.samples for label in one.labels if label != "le"}
    return name, family.type, ", ".join(sorted(labels)), family.documentation


def test_the_table_of_the_documents_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(mcp_sidecar_\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|$",
        DOCS.read_text(),
        re.MULTILINE,
    )
    found = families(seen(), OPENMETRICS).values()
    code = [shown(one) for one in found if one.name.startswith("mcp_sidecar_")]
    listed = [(name, kind, labels.strip(), what.strip()) for name, kind, labels, what in rows]
    assert listed == code, "\n".join("| `{}` | {} | {} | {} |".format(*row) for row in code)


def test_the_documents_know_the_bounds() -> None:
    assert ", ".join(f"{bound:g}" for bound in BOUNDS) in re.sub(r"\s+", " ", DOCS.read_text())


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Base units, `_total` on counters, one prefix (prometheus.io, Metric and label naming)."""
    for name, kind, _, what in map(shown, families(seen(), OPENMETRICS).values()):
        assert what.endswith("."), name
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"(_ms|_milli|_kb|_count|_percent|_ratio)(_|$)", name)


# --- when it is rendered


class Stage:
    """A renderer that begins when it is asked, and ends when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun: list[Seen] = []
        self.threads: set[int] = set()
        self.at_once = self.most_at_once = 0

    def __call__(self, known: Seen, form: Form) -> bytes:
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.begun.append(known)
        try:
            assert self.may_end.wait(5)
            return render(known, form)
        finally:
            self.at_once -= 1

    async def until(self, number: int) -> None:
        """Let the loop go on until so many renderings have begun."""
        async with asyncio.timeout(5):  # noqa: TID251 - bounds the test
            while len(self.begun) < number:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0)  # noqa: TID251 - the loop goes on: that is what is shown


def pages(stage: Stage, clock: FakeClock, *known: Seen) -> Prometheus:
    told = iter(known)

    async def see() -> Seen:
        return next(told)

    return Prometheus(see, clock.now, spawn, stage)


async def test_calls_go_on_while_500_tools_are_rendered() -> None:
    """The rendering cannot end before the loop has taken further steps."""
    metrics = counted(*(outcome(f"tool-{number}") for number in range(500)))
    stage = Stage()

    async def see() -> Seen:
        return seen(tools=metrics.counted())

    prometheus = Prometheus(see, FakeClock().now, spawn, stage)
    page = spawn(prometheus.page(TEXT), "scrape")
    await stage.until(1)
    metrics.began()
    metrics.ended(outcome("tool-7"))
    assert sum(sum(row.buckets) for row in metrics.counted()) == 501
    assert not page.done()
    stage.may_end.set()
    kind, text = await within(page)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert stage.threads.isdisjoint({threading.get_ident()})
    counts = {
        one.labels["tool"]: one.value
        for family in read_text(text.decode())
        for one in family.samples
        if one.name == "mcp_sidecar_calls_total" and one.labels["verdict"] == "ok"
    }
    assert counts == {f"tool-{number}": 1 for number in range(500)}, "it is of one moment"


async def test_a_page_is_told_again_for_a_second() -> None:
    stage, clock = Stage(), FakeClock()
    stage.may_end.set()
    prometheus = pages(stage, clock, *(seen(sessions=number) for number in range(3)))
    _, first = await within(prometheus.page(TEXT))
    await clock.advance(0.99)
    assert (await prometheus.page(TEXT))[1] is first
    await clock.advance(0.01)
    _, second = await within(prometheus.page(TEXT))
    assert b"\nmcp_sidecar_sessions 0.0\n" in first
    assert b"\nmcp_sidecar_sessions 1.0\n" in second


async def test_of_several_workers_no_page_is_told_again() -> None:
    """Another worker may have told later counts meanwhile: then counters would go backwards."""
    stage = Stage()
    stage.may_end.set()
    told = iter(seen(sessions=number) for number in range(3))

    async def see() -> Seen:
        return next(told)

    prometheus = Prometheus(see, FakeClock().now, spawn, stage, fresh=0.0)
    found = [await within(spawn(prometheus.page(TEXT), "scrape")) for _ in range(2)]
    assert [b"\nmcp_sidecar_sessions %d.0\n" % n in page for n, (_, page) in enumerate(found)] == [
        True,
        True,
    ]
    stage.may_end.clear()
    begun = len(stage.begun)
    first = spawn(prometheus.page(TEXT), "scrape")
    await stage.until(begun + 1)
    told = iter([seen(sessions=9)])
    second = spawn(prometheus.page(TEXT), "scrape")
    stage.may_end.set()
    await within(first)
    assert b"\nmcp_sidecar_sessions 9.0\n" in (await within(second))[1]


async def test_those_who_ask_together_get_one_rendering() -> None:
    stage = Stage()
    prometheus = pages(stage, FakeClock(), seen())
    asking = [spawn(prometheus.page(OPENMETRICS), "scrape") for _ in range(5)]
    await stage.until(1)
    stage.may_end.set()
    told = [await within(one) for one in asking]
    assert {kind for kind, _ in told} == {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }
    assert len({id(page) for _, page in told}) == len(stage.begun) == 1


async def test_one_rendering_runs_at_a_time() -> None:
    """And who leaves makes no room for another beside it."""
    stage = Stage()
    prometheus = pages(stage, FakeClock(), seen(sessions=1), seen(sessions=2))
    leaver = spawn(prometheus.page(TEXT), "scrape")
    await stage.until(1)
    leaver.cancel()
    again, other = [spawn(prometheus.page(form), "scrape") for form in FORMS]
    await settle()
    assert len(stage.begun) == 1
    stage.may_end.set()
    assert b"sessions 1.0" in (await within(again))[1]
    assert b"sessions 2.0" in (await within(other))[1], "seen when its turn came"
    assert stage.most_at_once == 1
    assert leaver.cancelled()


async def test_a_rendering_that_failed_is_tried_again() -> None:
    broken = [True]

    def sometimes(known: Seen, form: Form) -> bytes:
        if broken.pop():
            raise ValueError
        return render(known, form)

    async def see() -> Seen:
        return seen()

    prometheus = Prometheus(see, FakeClock().now, spawn, sometimes)
    with pytest.raises(ValueError):
        await within(prometheus.page(TEXT))
    broken.append(False)
    assert (await within(prometheus.page(TEXT)))[1]
