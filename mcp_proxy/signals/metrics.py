"""Counts of this process, for `/api/metrics` and `/metrics`."""

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple

from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict

# Tool names come from callers: beyond this many they share one row (F43).
_TOOLS_LIMIT = 500
OTHER = "_other"
_OTHERS = ("", OTHER)
# MCP gives a tool's name 128 characters at most; what is longer, or cannot be shown on one line of
# every format, gets no row of its own.
_NAME_LIMIT = 256
_UNFIT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]")
# Seconds; upper bounds of the histogram. A hit takes well below a millisecond, and a call may take
# as long as MCP_REQUEST_TIMEOUT, 300 s.
BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
# Percentiles are of the last so many calls: enough for a p99, small enough to sort at once.
_SAMPLES = 1024
_TOGETHER = 256
# What is stored in memory, by label: entries, bytes and evicted.
Kept = Mapping[str, Mapping[str, int]]
_NOTHING_KEPT = {"entries": 0, "bytes": 0, "evicted": 0}
_FAILED = frozenset({Verdict.TOOL_FAILED, Verdict.UPSTREAM_FAILED, Verdict.BUSY})


class _Recent:
    """The seconds of the last _SAMPLES calls, in no order.

    Eight bytes each: as objects in a deque they are 32, 16 MiB with all rows full
    (docs/performance.md).
    """

    __slots__ = ("_next", "seconds")

    def __init__(self, seconds: Sequence[float] = ()) -> None:
        self.seconds = array("d", seconds)
        self._next = 0

    def append(self, seconds: float) -> None:
        if len(self.seconds) < _SAMPLES:
            self.seconds.append(seconds)
        else:
            self.seconds[self._next] = seconds
            self._next = (self._next + 1) % _SAMPLES


@dataclass(slots=True)
class _Row:
    """What is known of one tool or method."""

    requests: int = 0
    attempts: int = 0
    retries: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    invalidations: int = 0  # how often its calls made stored answers invalid
    recent: _Recent = field(default_factory=_Recent)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    exemplars: dict[int, tuple[str, float]] = field(default_factory=dict)  # by bucket, the latest

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.attempts += outcome.attempts
        self.retries += max(0, outcome.attempts - 1)
        self.seconds += outcome.seconds
        self.verdicts[outcome.verdict.value] += 1
        self.cache[outcome.cache] += 1
        if outcome.code:
            self.codes[outcome.code] += 1
        self.recent.append(outcome.seconds)
        bucket = bisect_left(BOUNDS, outcome.seconds)
        self.buckets[bucket] += 1
        if outcome.trace_id:
            self.exemplars[bucket] = (outcome.trace_id, outcome.seconds)

    def merge(self, other: "_Row") -> None:
        self.requests += other.requests
        self.attempts += other.attempts
        self.retries += other.retries
        self.seconds += other.seconds
        self.verdicts += other.verdicts
        self.cache += other.cache
        self.codes += other.codes
        self.invalidations += other.invalidations
        self.buckets = [one + more for one, more in zip(self.buckets, other.buckets, strict=True)]
        self.exemplars |= other.exemplars

    def report(self, *, samples: bool) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "requests": self.requests,
            "attempts": self.attempts,
            "retries": self.retries,
            "seconds": self.seconds,
            "verdicts": dict(self.verdicts),
            "cache": dict(self.cache),
            "codes": dict(self.codes),
            "invalidations": self.invalidations,
            "recent": self.recent.seconds.tolist() if samples else [],
            "buckets": list(self.buckets),
            "exemplars": list(self.exemplars.items()),
        }

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "_Row":
        """Return what a report says."""
        return cls(
            said["requests"],
            said["attempts"],
            said["retries"],
            said["seconds"],
            Counter(said["verdicts"]),
            Counter(said["cache"]),
            Counter(said["codes"]),
            said["invalidations"],
            _Recent(said["recent"]),
            said["buckets"],
            {bucket: (trace, seconds) for bucket, (trace, seconds) in said["exemplars"]},
        )

    def cached(self) -> dict[str, Any]:
        """Return what the cache did for it."""
        told = self.cache["hit"] + self.cache["stale"]
        missed = self.cache["miss"] + self.cache["expired"]
        looked = told + missed + self.cache["collapsed"]
        return {
            "hits": self.cache["hit"],
            "misses": missed,
            "collapsed": self.cache["collapsed"],
            "stale": self.cache["stale"],
            "hit_ratio": ratio(told, looked),
            "invalidations": self.invalidations,
        }

    @property
    def uses_cache(self) -> bool:
        """Tell whether the cache had anything to do with its calls."""
        return bool(self.invalidations or self.cache.keys() - {"bypass"})

    def shown(self, held: Mapping[str, int]) -> dict[str, Any]:
        failed = sum(self.verdicts[verdict.value] for verdict in _FAILED)
        return {
            "requests": self.requests,
            "errors": failed,
            "error_rate": ratio(failed, self.requests),
            "verdicts": dict(self.verdicts),
            "proxy_errors": dict(self.codes),
            "retries": self.retries,
            "cache": {**self.cached(), **held},
            "latency_ms": {
                "mean": milliseconds(self.seconds / self.requests if self.requests else 0.0),
                **percentiles(self.recent.seconds),
            },
        }


class Counted(NamedTuple):
    """What was counted of one tool or method: values that nobody changes any more."""

    service: str
    tool: str
    verdicts: Mapping[str, int]
    cache: Mapping[str, int]
    codes: Mapping[str, int]
    attempts: int
    retries: int
    invalidations: int
    seconds: float
    buckets: Sequence[int]  # one for each of BOUNDS, and one beyond
    exemplars: Mapping[int, tuple[str, float]]  # by bucket: trace and seconds


class Metrics:
    """Count how calls ended, per tool; the total is added up when somebody asks."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._recent = _Recent()
        self._uncounted: list[Outcome] = []
        self._settled = False  # all rows are full, and of names that were right once
        self.in_flight = 0

    def began(self) -> None:
        """Count a call that is under way."""
        self.in_flight += 1

    def ended(self, outcome: Outcome) -> None:
        """Take note of how it ended; many are counted together, which costs less than one by one."""
        self.in_flight -= 1
        self._uncounted.append(outcome)
        if len(self._uncounted) >= _TOGETHER:
            self._count()

    def invalidated(self, service: str, tool: str) -> None:
        """Count a call that made stored answers invalid."""
        self._row(service, tool).invalidations += 1

    def _count(self) -> None:
        for outcome in self._uncounted:
            worked = outcome.verdict is Verdict.OK
            self._row(outcome.service, outcome.tool, worked=worked).add(outcome)
            self._recent.append(outcome.seconds)
        self._uncounted.clear()

    def _row(self, service: str, tool: str, *, worked: bool = False) -> _Row:
        row = self._rows.get((service, tool))
        if row is None:
            fits = is_fit(service) and is_fit(tool)
            has_place = len(self._rows) < _TOOLS_LIMIT or (worked and self._makes_place())
            row = self._rows.setdefault((service, tool) if fits and has_place else _OTHERS, _Row())
        return row

    def _makes_place(self) -> bool:
        """Fold a row of which no call ever went well into that of the others; True if there was one.

        Whoever calls tools that do not exist must not take the places of those that do.
        """
        if self._settled:
            return False
        for key, row in self._rows.items():
            if key != _OTHERS and not row.verdicts[Verdict.OK.value]:
                others = self._rows.setdefault(_OTHERS, _Row())
                others.merge(self._rows.pop(key))
                for seconds in row.recent.seconds:
                    others.recent.append(seconds)
                return True
        self._settled = True
        return False

    def counted(self) -> list[Counted]:
        """Return a copy of all rows, which may be read in another thread."""
        self._count()
        return [
            Counted(
                service,
                tool,
                dict(row.verdicts),
                dict(row.cache),
                dict(row.codes),
                row.attempts,
                row.retries,
                row.invalidations,
                row.seconds,
                tuple(row.buckets),
                dict(row.exemplars),
            )
            for (service, tool), row in self._rows.items()
        ]

    async def report(
        self, sleep: Callable[[float], Awaitable[None]], *, samples: bool
    ) -> dict[str, Any]:
        """Return all counts as JSON has them, for another worker; calls go on between two rows."""
        self._count()
        rows = []
        for (service, tool), row in list(self._rows.items()):
            rows.append((service, tool, row.report(samples=samples)))
            await sleep(0)
        recent = self._recent.seconds.tolist() if samples else []
        return {"in_flight": self.in_flight, "recent": recent, "rows": rows}

    @classmethod
    async def together(
        cls, reports: Sequence[Mapping[str, Any]], sleep: Callable[[float], Awaitable[None]]
    ) -> "Metrics":
        """Return the counts of several workers as one.

        Percentiles are of the last calls of each, together: they cannot be made of percentiles.
        """
        whole = cls()
        for report in reports:
            whole.in_flight += report["in_flight"]
            whole._recent.seconds.extend(report["recent"])
            for service, tool, said in report["rows"]:
                row, more = whole._rows.get((service, tool)), _Row.of(said)
                if row is None:
                    whole._rows[service, tool] = more
                else:
                    row.merge(more)
                    row.recent.seconds.extend(more.recent.seconds)
                await sleep(0)
        return whole

    def _total(self) -> _Row:
        self._count()
        total = _Row(recent=self._recent)
        for row in self._rows.values():
            total.merge(row)
        return total

    def cache(self, kept: Kept) -> dict[str, Any]:
        """Return what the cache did for all calls, and for each tool that it had to do with."""
        total = self._total().cached()
        rows = [
            {"service": service, "tool": tool, **row.cached(), **held(kept, service, tool)}
            for (service, tool), row in self._rows.items()
            if row.uses_cache
        ]
        return {**total, "tools": rows}

    @property
    def outcomes(self) -> dict[str, int]:
        """Return how often calls ended in which verdict, and in which error of ours."""
        total = self._total()
        return {**total.verdicts, **total.codes}

    async def snapshot(
        self, kept: Kept, sleep: Callable[[float], Awaitable[None]]
    ) -> dict[str, Any]:
        """Return all counts as JSON-able values.

        To sort the samples of 500 tools takes a quarter of a second: calls go on between two rows.
        """
        self._count()
        rows = []
        for (service, tool), row in list(self._rows.items()):
            rows.append({"service": service, "tool": tool, **row.shown(held(kept, service, tool))})
            await sleep(0)
        return {"in_flight": self.in_flight, "total": self._total().shown({}), "tools": rows}


def is_fit(name: str) -> bool:
    """Tell whether a name from outside may stand in a table and in a label."""
    return len(name) <= _NAME_LIMIT and not _UNFIT.search(name)


def held(kept: Kept, service: str, tool: str) -> Mapping[str, int]:
    """Return what is stored of the answers of a tool or method (core/scopes has the labels)."""
    return kept.get(f"{service}/{tool}") or kept.get(tool) or _NOTHING_KEPT


def ratio(part: int, whole: int) -> float:
    """Return a share between 0 and 1; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def percentiles(samples: Iterable[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds (nearest rank)."""
    ordered = sorted(samples)
    if not ordered:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    return {
        f"p{share}": milliseconds(ordered[ceil(len(ordered) * share / 100) - 1])
        for share in (50, 95, 99)
    }
