"""What the own endpoints tell: of one process, or of all workers together."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mcp_proxy.core.report import Standing
from mcp_proxy.signals.errors import SHOWN
from mcp_proxy.signals.metrics import Metrics
from mcp_proxy.signals.prometheus import Reached

_CIRCUITS = ("closed", "half_open", "open")  # the worst last
_TARGETS = ("unknown", "present", "restarting", "lost")
_BUSIEST = 5
# Of a store: what is well only if it is for all, what they agree on, and what is counted for good.
_ALL = frozenset({"redis_up"})
_COUNTED = frozenset({"evicted", "invalidations", "redis_failures", "write_back_lost", "failures"})
_PROCESS_LEAST = frozenset({"process_start_time_seconds", "process_max_fds"})
_PROCESS_COUNTED = frozenset({"process_cpu_seconds"})


class Answered(NamedTuple):
    """How many workers were asked, and how many spoke for themselves."""

    asked: int
    answered: int


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment."""

    metrics: Metrics
    answered_at_once: int
    load: Mapping[str, Any]  # of admit
    circuits: Mapping[str, Mapping[str, Any]]
    standings: Sequence[Standing]
    reached: Sequence[Reached]
    cache: Mapping[str, Any] | None  # the store's sizes and bounds
    kept: Mapping[str, Mapping[str, int]]  # what is in memory, by label
    sessions: int
    connections: Mapping[str, int]  # of clients: open, and refused since the start
    open_streams: int
    tools: int
    errors: Sequence[Mapping[str, Any]]
    log_lines_dropped: int
    began: float  # seconds since 1970
    uptime: float
    process: Mapping[str, float] | None = None  # process_*; None: of this process, read later
    workers: Answered | None = None


Sleep = Callable[[float], Awaitable[None]]


async def report(view: View, sleep: Sleep, *, samples: bool) -> dict[str, Any]:
    """Return a view as JSON has it, for another worker."""
    plain = {
        name: getattr(view, name)
        for name in View.__slots__
        if name not in {"metrics", "standings", "reached", "workers"}
    }
    return {
        **plain,
        "metrics": await view.metrics.report(sleep, samples=samples),
        "standings": [asdict(one) for one in view.standings],
        "reached": [asdict(one) for one in view.reached],
    }


def past(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a dead worker's last report what stays true: its counts."""
    cache = said["cache"]
    return {
        **said,
        "metrics": {**said["metrics"], "in_flight": 0, "recent": []},
        "load": {
            "in_flight": 0,
            "waiting": 0,
            "limit": 0,
            "shed": said["load"]["shed"],
            "busiest": [],
        },
        "circuits": {
            name: {"state": "closed", "failures": 0, "opened": one["opened"], "retry_after_s": None}
            for name, one in said["circuits"].items()
        },
        "standings": [],
        "reached": [],
        "cache": cache
        and {
            name: value if name in _COUNTED or not is_number(value) else 0
            for name, value in cache.items()
        },
        "kept": {
            label: {"entries": 0, "bytes": 0, "evicted": one["evicted"]}
            for label, one in said["kept"].items()
        },
        "sessions": 0,
        "connections": {**said["connections"], "open": 0},
        "open_streams": 0,
        "tools": 0,
        "errors": [],
        "uptime": 0.0,
        "process": {
            name: value for name, value in said["process"].items() if name in _PROCESS_COUNTED
        },
    }


async def together(reports: Sequence[Mapping[str, Any]], sleep: Sleep) -> View:
    """Return what several workers know as one view; there is at least one that lives."""
    lives = [one for one in reports if one["standings"]]
    informed = [one for one in lives if not _is_new(one)] or lives
    return View(
        metrics=await Metrics.together([one["metrics"] for one in reports], sleep),
        answered_at_once=total(reports, "answered_at_once"),
        load=_load([one["load"] for one in reports]),
        circuits=_circuits(one["circuits"] for one in reports),
        standings=[_standing(some) for some in _by_target(informed, "standings", "target")],
        reached=[_reached(some) for some in _by_target(informed, "reached", "name")],
        cache=_cache([one["cache"] for one in reports if one["cache"]]),
        kept=_kept(one["kept"] for one in reports),
        sessions=total(reports, "sessions"),
        connections=dict(sum((Counter(one["connections"]) for one in reports), Counter())),
        open_streams=total(reports, "open_streams"),
        tools=max(one["tools"] for one in reports),
        errors=_errors(one["errors"] for one in reports),
        log_lines_dropped=total(reports, "log_lines_dropped"),
        began=min(one["began"] for one in lives),
        uptime=max(one["uptime"] for one in lives),
        process=_process([one["process"] for one in reports]),
    )


def _is_new(said: Mapping[str, Any]) -> bool:
    """Tell whether a worker has looked at no server yet: what it does not know is no news."""
    return all(one["state"] == "unknown" for one in said["standings"])


def counting(view: View, answered: Answered) -> View:
    """Return a view that says how many workers spoke for themselves."""
    return replace(view, workers=answered)


def is_number(value: object) -> bool:
    """Tell whether a value can be added up; True and False cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def total(reports: Iterable[Mapping[str, Any]], name: str) -> int:
    """Return the sum of a field."""
    return sum(one[name] for one in reports)


def _load(loads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shed: Counter[str] = Counter()
    busiest: dict[tuple[str, str], dict[str, Any]] = {}
    for load in loads:
        shed.update(load["shed"])
        for row in load["busiest"]:
            called = (row["service"], row["tool"])
            known = busiest.get(called)
            busiest[called] = dict(row) if known is None else {**row, **_sums([known, row])}
    rows = sorted(
        busiest.values(), key=lambda row: (row["in_flight"], row["waiting"]), reverse=True
    )
    return {**_sums(loads), "shed": dict(shed), "busiest": rows[:_BUSIEST]}


def _sums(loads: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: total(loads, name) for name in ("in_flight", "waiting", "limit")}


def _circuits(several: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    whole: dict[str, dict[str, Any]] = {}
    for circuits in several:
        for name, one in circuits.items():
            known = whole.get(name)
            if known is None:
                whole[name] = dict(one)
                continue
            worse = max(known, one, key=lambda circuit: _CIRCUITS.index(circuit["state"]))
            whole[name] = {
                **worse,
                "failures": max(known["failures"], one["failures"]),
                "opened": known["opened"] + one["opened"],
            }
    return whole


def _by_target(
    reports: Sequence[Mapping[str, Any]], field: str, name: str
) -> list[list[dict[str, Any]]]:
    """Return what each worker says of the first target, of the second, and so on."""
    found: dict[str, list[dict[str, Any]]] = {}
    for said in reports:
        for one in said[field]:
            found.setdefault(one[name], []).append(one)
    return list(found.values())


def _standing(several: Sequence[Mapping[str, Any]]) -> Standing:
    """Return the worst that is known of a target, and the latest that it said itself."""
    worst = max(several, key=lambda one: (_TARGETS.index(one["state"]), not one["healthy"]))
    ages = [one for one in several if one["probe"]["probe_age_seconds"] is not None]
    latest = min(ages, key=lambda one: float(one["probe"]["probe_age_seconds"]), default=worst)
    under_way = {name: sum(one["probe"][name] for one in several) for name in ("calls", "streams")}
    return Standing(
        target=worst["target"],
        state=worst["state"],
        for_seconds=worst["for_seconds"],
        healthy=all(one["healthy"] for one in several),
        said=latest["said"] or worst["said"],
        probe={**worst["probe"], **under_way},
    )


def _reached(several: Sequence[Mapping[str, Any]]) -> Reached:
    return Reached(
        several[0]["name"],
        up=all(one["up"] for one in several),
        healthy=all(one["healthy"] for one in several),
        calls=total(several, "calls"),
        streams=total(several, "streams"),
    )


def _cache(several: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    whole: dict[str, Any] = {}
    for one in several:
        for name, value in one.items():
            if name in _ALL:
                whole[name] = whole.get(name, True) and bool(value)
            elif is_number(value):
                whole[name] = whole.get(name, 0) + value
            else:
                whole[name] = value
    return whole or None


def _kept(several: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    whole: dict[str, Counter[str]] = {}
    for kept in several:
        for label, counts in kept.items():
            whole.setdefault(label, Counter(entries=0, bytes=0, evicted=0)).update(counts)
    return {label: dict(counts) for label, counts in whole.items()}


def _errors(several: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    whole: dict[tuple[str, ...], dict[str, Any]] = {}
    for errors in several:
        for one in errors:
            kind = (one["service"], one["tool"], one["code"], one["upstream"])
            known = whole.get(kind)
            if known is None:
                whole[kind] = dict(one)
                continue
            later = max(known, one, key=lambda error: str(error["last"]))
            whole[kind] = {
                **later,
                "count": known["count"] + one["count"],
                "first": min(known["first"], one["first"]),
            }
    return sorted(whole.values(), key=lambda error: int(error["count"]), reverse=True)[:SHOWN]


def _process(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    whole: dict[str, float] = {}
    for one in several:
        for name, value in one.items():
            if name in _PROCESS_LEAST:
                whole[name] = min(whole.get(name, value), value)
            else:
                whole[name] = whole.get(name, 0.0) + value
    return whole
