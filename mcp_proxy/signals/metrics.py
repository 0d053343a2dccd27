"""Counts of this process, for `/api/metrics`."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict

# Tool names come from callers: beyond this many they share one row (F43).
_TOOLS_LIMIT = 500
OTHER = "_other"
# Percentiles are of the last so many calls: enough for a p99, small enough to sort at once.
_SAMPLES = 1024
_TOGETHER = 256
# What is stored in memory, by label: entries, bytes and evicted.
Kept = Mapping[str, Mapping[str, int]]
_NOTHING_KEPT = {"entries": 0, "bytes": 0, "evicted": 0}
_FAILED = frozenset({Verdict.TOOL_FAILED, Verdict.UPSTREAM_FAILED, Verdict.BUSY})


@dataclass(slots=True)
class _Row:
    """What is known of one tool or method."""

    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    invalidations: int = 0  # how often its calls made stored answers invalid
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.retries += max(0, outcome.attempts - 1)
        self.seconds += outcome.seconds
        self.verdicts[outcome.verdict.value] += 1
        self.cache[outcome.cache] += 1
        if outcome.code:
            self.codes[outcome.code] += 1
        self.recent.append(outcome.seconds)

    def merge(self, other: "_Row") -> None:
        self.requests += other.requests
        self.retries += other.retries
        self.seconds += other.seconds
        self.verdicts += other.verdicts
        self.cache += other.cache
        self.codes += other.codes
        self.invalidations += other.invalidations

    def cached(self) -> dict[str, Any]:
        """Return what the cache did for it."""
        told = self.cache["hit"] + self.cache["stale"]
        looked = told + self.cache["miss"] + self.cache["collapsed"]
        return {
            "hits": self.cache["hit"],
            "misses": self.cache["miss"],
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
                **percentiles(self.recent),
            },
        }


class Metrics:
    """Count how calls ended, per tool; the total is added up when somebody asks."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._recent: deque[float] = deque(maxlen=_SAMPLES)
        self._uncounted: list[Outcome] = []
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
            self._row(outcome.service, outcome.tool).add(outcome)
            self._recent.append(outcome.seconds)
        self._uncounted.clear()

    def _row(self, service: str, tool: str) -> _Row:
        row = self._rows.get((service, tool))
        if row is None:
            key = ("", OTHER) if len(self._rows) >= _TOOLS_LIMIT else (service, tool)
            row = self._rows.setdefault(key, _Row())
        return row

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

    def snapshot(self, kept: Kept) -> dict[str, Any]:
        """Return all counts as JSON-able values."""
        total = self._total().shown({})
        rows = [
            {"service": service, "tool": tool, **row.shown(held(kept, service, tool))}
            for (service, tool), row in self._rows.items()
        ]
        return {"in_flight": self.in_flight, "total": total, "tools": rows}


def held(kept: Kept, service: str, tool: str) -> Mapping[str, int]:
    """Return what is stored of the answers of a tool or method (core/scopes has the labels)."""
    return kept.get(f"{service}/{tool}") or kept.get(tool) or _NOTHING_KEPT


def ratio(part: int, whole: int) -> float:
    """Return a share between 0 and 1; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def percentiles(samples: Sequence[float] | deque[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds (nearest rank)."""
    ordered = sorted(samples)
    if not ordered:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    return {
        f"p{share}": milliseconds(ordered[ceil(len(ordered) * share / 100) - 1])
        for share in (50, 95, 99)
    }
