"""The counts in the formats that Prometheus reads; the only importer of prometheus_client.

500 tools are some twenty thousand lines, which take half a second to render. So the values are
copied in the event loop (2 ms), and rendered in a thread. A thread that only computes lets go of the
interpreter every 5 ms, and only when asked, so each step of the loop was 5 ms late meanwhile; this
one rests again and again.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import sleep
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from mcp_proxy.core.accept import OPENMETRICS, TEXT, Form
from mcp_proxy.core.clock import Running, Spawn
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.signals.metrics import BOUNDS, OTHER, Counted, is_fit

_PREFIX = "mcp_sidecar_"
# A rendering is good for so many seconds: several who scrape at once, or one that hurries, cost one.
FRESH = 1.0
# After so many lines the thread rests for so many seconds: any pause will do that is longer than it
# takes the loop to wake up.
_LINES = 16
_REST = 0.0001
_TYPES = {
    form: f"{form.media}; version={form.version}; charset=utf-8" for form in (TEXT, OPENMETRICS)
}
_LE = (*map(str, BOUNDS), "+Inf")
_TOOL = ("service", "tool")
# What has not happened yet is told as 0: `rate` sees no first time of what was not there before.
_CODES = tuple(kind.code for kind in ProxyError.__subclasses__())
_LOOKED = ("hit", "stale", "miss", "expired", "collapsed")
_STATES = ("closed", "half_open", "open")  # the worst last


@dataclass(frozen=True, slots=True)
class Reached:
    """How one target stands."""

    name: str
    up: bool
    healthy: bool
    calls: int
    streams: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rooms know at the moment of a scrape: values that nobody changes any more."""

    tools: Sequence[Counted]
    in_flight: int
    answered_at_once: int
    concurrency: Mapping[str, Any]
    shed: Mapping[str, int]
    circuits: Mapping[str, Mapping[str, Any]]
    targets: Sequence[Reached]
    cache: Mapping[str, Any] | None
    sessions: int
    open_streams: int
    log_lines_dropped: int
    began: float  # seconds since 1970
    uptime: float
    version: str
    process: Mapping[str, float] | None = None  # process_* of all workers; None: of this one alone
    workers: tuple[int, int] | None = None  # of several: how many there are, and have answered


Render = Callable[[Seen, Form], bytes]


def render(seen: Seen, form: Form) -> bytes:
    """Return the page. The registry is its own, so that sidecars in one process share nothing."""
    registry = CollectorRegistry()
    registry.register(_Seen(seen))
    registry.register(_Processes(seen.process))
    if form == OPENMETRICS:
        page: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return page
    return generate_latest(registry)


class Prometheus:
    """Render what is seen: never in the loop, once at a time, and at most once a second.

    With `fresh` 0 each who asks gets a page of his own: where several workers answer in turn, one
    that is told again could be older than what another has told meanwhile.
    """

    def __init__(
        self,
        see: Callable[[], Awaitable[Seen]],
        now: Callable[[], float],
        spawn: Spawn,
        render: Render = render,
        fresh: float = FRESH,
    ) -> None:
        self._see = see
        self._now = now
        self._spawn = spawn
        self._render = render
        self._fresh = fresh  # seconds
        self._turn = asyncio.Lock()
        self._pages: dict[Form, tuple[float, bytes]] = {}
        self._coming: dict[Form, Running] = {}

    async def page(self, form: Form) -> tuple[str, bytes]:
        """Return the content type and the page in one of the two forms."""
        known = self._pages.get(form)
        if known is not None and self._now() - known[0] < self._fresh:
            return _TYPES[form], known[1]
        coming = self._coming.get(form)
        if coming is None or not self._fresh:
            coming = self._coming[form] = self._spawn(self._rendered(form), "render metrics")
        # who leaves does not end it: the thread would go on, and another begin beside it
        return _TYPES[form], await asyncio.shield(coming)

    async def _rendered(self, form: Form) -> bytes:
        try:
            async with self._turn:
                when = self._now()
                page = await asyncio.to_thread(self._render, await self._see(), form)
            self._pages[form] = (when, page)
        finally:
            self._coming.pop(form, None)
        return page


class _Processes(Collector):
    """Tell what the system knows of a process, or of several together."""

    def __init__(self, process: Mapping[str, float] | None) -> None:
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this process, with the values of all where there are several."""
        for metric in ProcessCollector(registry=None).collect():
            if self._process is not None:
                value = self._process.get(metric.name, 0.0)
                metric.samples = [one._replace(value=value) for one in metric.samples]
            yield metric


def of_this_process() -> dict[str, float]:
    """Return what the system knows of this process, by metric."""
    return {
        metric.name: sum(one.value for one in metric.samples)
        for metric in ProcessCollector(registry=None).collect()
    }


class _Seen(Collector):
    """Turn values into metrics."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, area by area."""
        for metric in self._areas():
            metric.samples = _Resting(metric.samples)
            yield metric

    def _areas(self) -> Iterator[Metric]:
        yield from _of_tools(self._seen.tools)
        yield from _of_load(self._seen)
        yield from _of_circuits(self._seen.circuits)
        yield from _of_targets(self._seen.targets)
        if self._seen.cache is not None:
            yield from _of_cache(self._seen.cache)
        yield from _of_the_process(self._seen)


T = TypeVar("T")


class _Resting(list[T]):
    """A list whose reader rests now and then."""

    def __iter__(self) -> Iterator[T]:
        for number, one in enumerate(super().__iter__(), 1):
            yield one
            if not number % _LINES:
                sleep(_REST)


# --- areas


def _of_tools(tools: Sequence[Counted]) -> Iterator[Metric]:
    yield _counter(
        "calls",
        "Calls that ended, by how: ok, tool_failed, busy, upstream_failed, client_fault, left.",
        (*_TOOL, "verdict"),
        (
            (one.service, one.tool, verdict.value, one.verdicts.get(verdict.value, 0))
            for one in tools
            for verdict in Verdict
        ),
    )
    yield _durations(tools)
    yield _counter(
        "attempts",
        "Tries at the server, first ones and retries.",
        _TOOL,
        ((one.service, one.tool, one.attempts) for one in tools),
    )
    yield _counter(
        "retries",
        "Tries after the first.",
        _TOOL,
        ((one.service, one.tool, one.retries) for one in tools),
    )
    yield _counter(
        "cache_results",
        "Calls by the cache's part: hit, stale, miss, expired, collapsed, request, bypass.",
        (*_TOOL, "result"),
        (
            (one.service, one.tool, word, number)
            for one in tools
            for word, number in _cache_words(one.cache).items()
        ),
    )
    yield _counter(
        "cache_invalidations",
        "Calls that made stored answers invalid, by the tool that was called.",
        _TOOL,
        ((one.service, one.tool, one.invalidations) for one in tools),
    )
    codes = {code: sum(one.codes.get(code, 0) for one in tools) for code in _CODES}
    yield _counter("proxy_errors", "Errors that the sidecar made.", ("code",), codes.items())
    yield _counter("rate_limited", "Calls refused by a rate limit.", (), [(codes["rate_limited"],)])


def _cache_words(words: Mapping[str, int]) -> Mapping[str, int]:
    """Return how often each part was taken; of a tool that looks into the cache, all parts."""
    looked = any(word in words for word in _LOOKED)
    return {**dict.fromkeys(_LOOKED, 0), **words} if looked else words


def _durations(tools: Sequence[Counted]) -> Metric:
    family = HistogramMetricFamily(
        f"{_PREFIX}call_duration",
        "Time from the arrival of a call to the end of its answer.",
        labels=_TOOL,
        unit="seconds",
    )
    for one in _Resting(tools):
        rows: list[Any] = []
        for bucket, (bound, number) in enumerate(zip(_LE, accumulate(one.buckets), strict=True)):
            latest = one.exemplars.get(bucket)
            rows.append((bound, number, _exemplar(*latest)) if latest else (bound, number))
        family.add_metric((one.service, one.tool), rows, one.seconds)
    return family


def _exemplar(trace_id: str, seconds: float) -> Exemplar:
    return Exemplar({"trace_id": trace_id}, seconds)


def _of_load(seen: Seen) -> Iterator[Metric]:
    load = seen.concurrency
    yield _gauge("calls_in_flight", "Calls that came and have not ended.", (), [(seen.in_flight,)])
    yield _counter(
        "answered_at_once",
        "Calls answered from memory in the step in which they came.",
        (),
        [(seen.answered_at_once,)],
    )
    yield _gauge("calls_admitted", "Calls that hold a place.", (), [(load["in_flight"],)])
    yield _gauge("calls_queued", "Calls that wait for a place.", (), [(load["waiting"],)])
    yield _gauge("admission_limit", "Places for calls.", (), [(load["limit"],)])
    yield _counter(
        "calls_shed",
        "Calls refused because there was no place, by reason.",
        ("reason",),
        ((reason.replace("'", "").replace(" ", "_"), n) for reason, n in seen.shed.items()),
    )


def _of_circuits(circuits: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    worst: dict[str, tuple[int, int]] = {}
    for name, circuit in circuits.items():
        shown = name if is_fit(name) else OTHER
        state, opened = worst.get(shown, (0, 0))
        state = max(state, _STATES.index(circuit["state"]))
        worst[shown] = (state, opened + circuit["opened"])
    yield _gauge(
        "circuit_state",
        "1 for the state in which a circuit is: closed, half_open or open; else 0.",
        ("circuit", "state"),
        (
            (name, word, int(state == number))
            for name, (state, _) in worst.items()
            for number, word in enumerate(_STATES)
        ),
    )
    yield _counter(
        "circuit_opened",
        "How often a circuit has opened.",
        ("circuit",),
        ((name, opened) for name, (_, opened) in worst.items()),
    )


def _of_targets(targets: Sequence[Reached]) -> Iterator[Metric]:
    label = ("target",)
    yield _gauge(
        "target_up",
        "1 while a server accepts connections, as far as is known.",
        label,
        ((one.name, int(one.up)) for one in targets),
    )
    yield _gauge(
        "target_healthy",
        "1 while the last health probe of a server was answered below 500.",
        label,
        ((one.name, int(one.healthy)) for one in targets),
    )
    yield _gauge(
        "target_calls",
        "Calls under way at a server.",
        label,
        ((one.name, one.calls) for one in targets),
    )
    yield _gauge(
        "target_streams",
        "Streams that answer no call, open at a server.",
        label,
        ((one.name, one.streams) for one in targets),
    )


def _of_cache(cache: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("cache_entries", "Answers kept in memory.", (), [(cache["entries"],)])
    yield _gauge("cache_max_entries", "Answers kept at most.", (), [(cache["max_entries"],)])
    yield _gauge("cache_bytes", "What they take up.", (), [(cache["bytes"],)])
    yield _gauge("cache_max_bytes", "What they take up at most.", (), [(cache["max_bytes"],)])
    yield _counter("cache_evictions", "Answers that gave way to others.", (), [(cache["evicted"],)])
    if "redis_up" in cache:
        yield _gauge("redis_up", "1 while Redis answers.", (), [(int(cache["redis_up"]),)])
        yield _counter("redis_failures", "Failures of Redis.", (), [(cache["redis_failures"],)])


def _of_the_process(seen: Seen) -> Iterator[Metric]:
    yield _gauge("sessions", "Sessions that could be opened again.", (), [(seen.sessions,)])
    yield _gauge("open_streams", "Open event streams and WebSockets.", (), [(seen.open_streams,)])
    yield _counter(
        "log_lines_dropped",
        "Log lines lost because nobody read them in time.",
        (),
        [(seen.log_lines_dropped,)],
    )
    if seen.workers is not None:
        there, answered = seen.workers
        yield _gauge("workers", "Processes that serve the port.", (), [(there,)])
        yield _gauge("workers_answering", "Those that told their counts.", (), [(answered,)])
    yield _gauge("start_time_seconds", "When it started, since 1970.", (), [(seen.began,)])
    yield _gauge("uptime_seconds", "How long it has run.", (), [(seen.uptime,)])
    built = {"version": seen.version, "python": platform.python_version()}
    yield InfoMetricFamily(f"{_PREFIX}build", "What runs here.", built)


# --- shapes

Rows = Iterable[tuple[Any, ...]]  # label values, then the value


def _counter(name: str, what: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, what, labels=labels)
    for *values, number in _Resting(rows):
        family.add_metric(values, number)
    return family


def _gauge(name: str, what: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, what, labels=labels)
    for *values, number in _Resting(rows):
        family.add_metric(values, number)
    return family
