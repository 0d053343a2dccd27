"""What the hop and the hit cost, against what they are built on and what a user would pick instead.

    make bench        (or: .venv/bin/python -m benchmarks.bench --rounds 15)

Each round loads every subject once with wrk, in an order that changes from round to round; a figure is
the median over the rounds of the ratio within a round, so that a machine that is slow for a while is
slow for both. CPU time is user + system of the subject's own processes, read from /proc: neither the
load generator nor the server behind counts, and neither does waiting. Beside that the throughput, and
the latency of a single client. Results go to stdout as a table and, with --json, to a file.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import nginx
from benchmarks.load import ROOT, Burst, Request, Stage, free_port, need

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "Authorization": "Bearer 0123456789abcdef",
}


def rest(tool: str) -> bytes:
    """Return a REST tool call."""
    params = {"limit": 10, "name": "Acme"}
    return json.dumps({"service": "bench", "tool_name": tool, "params": params}).encode()


def rpc(tool: str) -> bytes:
    """Return an MCP tool call."""
    params = {"name": tool, "arguments": {"limit": 10}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return json.dumps(call).encode()


# What a part costs: the sidecar without it. What no setting switches off stays.
WITHOUT = {
    "cache, coalesce and invalidate": {"MCP_CACHE_ENABLED": "false"},
    "retry": {"MCP_MAX_RETRIES": "0"},
    "breaker": {"MCP_ENABLE_CIRCUIT_BREAKER": "false"},
    "session recovery": {"MCP_SESSION_RECOVERY": "false"},
    "our fields in the answer": {"MCP_ENRICH_RESPONSES": "false"},
    "log lines of calls": {"MCP_LOG_LEVEL": "error"},
}
PEERS = {"mcp-proxy": ".venv-bench-mcp-proxy", "FastMCP's proxy": ".venv-bench-fastmcp"}


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is measured."""

    name: str
    request: Request
    pid: int


class Load(NamedTuple):
    """How much of it, for each burst."""

    seconds: int
    connections: int


# What stands in front of an SDK server is slow: it gets the time for a number of calls that says something.
REST_LOAD, MCP_LOAD = Load(1, 32), Load(3, 8)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach: a ratio of one subject to another."""

    name: str
    subject: str
    against: str
    figure: (
        str  # an attribute of a burst, or "hop": the median of one client beyond the server's own
    )
    limit: float
    least: bool = False  # the ratio is to be at least that


GOALS = (
    Goal("cached call, CPU", "sidecar, cached", "aiohttp, fixed answer", "cpu_us", 1.25),
    Goal("uncached call, CPU", "sidecar, uncached", "aiohttp, pass-through", "cpu_us", 1.15),
    Goal("added median, one client", "sidecar, uncached", "aiohttp, pass-through", "hop", 1.25),
    Goal("cached MCP call, calls/s", "sidecar, MCP cached", "SDK server", "per_second", 30, True),
    Goal("in front of the SDK server", "sidecar, MCP", "SDK server", "per_second", 0.92, True),
    Goal("against mcp-proxy", "sidecar, MCP", "mcp-proxy", "per_second", 2.2, True),
    Goal("against FastMCP's proxy", "sidecar, MCP", "FastMCP's proxy", "per_second", 15, True),
)
DIRECT = "nginx, direct"


def rest_subjects(stage: Stage) -> Iterator[Subject]:
    """Start what is measured with REST calls, in front of nginx with a fixed answer."""
    behind = free_port()
    serving = stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    read, write = rest("read_accounts"), rest("write_account")
    yield Subject(DIRECT, request(behind, write), serving.pid)
    for name, kind, body in (
        ("aiohttp, fixed answer", "fixed", read),
        ("aiohttp, pass-through", "pass", write),
    ):
        port = free_port()
        process = stage.python(
            "-m", "benchmarks.subjects", kind, str(port), f"http://127.0.0.1:{behind}", port=port
        )
        yield Subject(name, request(port, body), process.pid)
    # one for each: wrk breaks off what is under way at the end of a burst, and after writes of unknown
    # fate nothing is stored for a while (MCP_CACHE_QUARANTINE)
    for name, body in (("sidecar, cached", read), ("sidecar, uncached", write)):
        port, pid = sidecar(stage, behind)
        yield Subject(name, request(port, body), pid)
    for name, cache, body in (("nginx, proxy", False, write), ("nginx, proxy cache", True, read)):
        port = free_port()
        conf = nginx.proxy(stage.directory, port, behind, cache=cache)
        yield Subject(
            name, request(port, body), stage.start("nginx", "-c", str(conf), port=port).pid
        )
    for name, settings in WITHOUT.items():
        port, pid = sidecar(stage, behind, **settings)
        yield Subject(f"uncached, without {name}", request(port, write), pid)


def mcp_subjects(stage: Stage) -> Iterator[Subject]:
    """Start what is measured with MCP calls, in front of a server of the official SDK."""
    behind = free_port()
    serving = stage.python("-m", "benchmarks.subjects", "sdk", str(behind), port=behind)
    read, write = rpc("read_accounts"), rpc("write_account")
    yield Subject("SDK server", request(behind, write, "/mcp"), serving.pid)
    for name, body in (("sidecar, MCP", write), ("sidecar, MCP cached", read)):
        port, pid = sidecar(stage, behind)
        yield Subject(name, request(port, body, "/mcp"), pid)
    for name, environment in PEERS.items():
        folder = ROOT / environment / "bin"
        if not folder.exists():
            print(f"without {name}: make {environment}/.ready", file=sys.stderr)
            continue
        port = free_port()
        if name == "mcp-proxy":
            # its own trade: a stdio server behind, spoken to over HTTP
            command = [str(folder / "mcp-proxy"), "--stateless", "--port", str(port), "--"]
            command += [sys.executable, "-m", "benchmarks.subjects", "sdk", "0"]
        else:
            command = [str(folder / "python"), "-m", "benchmarks.fastmcp_proxy", str(port)]
            command += [f"http://127.0.0.1:{behind}/mcp"]
        process = stage.start(*command, port=port)
        yield Subject(name, request(port, write, "/mcp"), process.pid)


def sidecar(stage: Stage, behind: int, **settings: str) -> tuple[int, int]:
    """Start a sidecar with its defaults and these settings; return its port and process."""
    port = free_port()
    process = stage.python(
        "-m",
        "mcp_proxy",
        "run",
        port=port,
        MCP_UPSTREAM_URL=f"http://127.0.0.1:{behind}",
        MCP_HOST="127.0.0.1",
        MCP_PORT=str(port),
        MCP_CONFIG_FILE=str(ROOT / "benchmarks/rules.toml"),
        **settings,
    )
    return port, process.pid


def request(port: int, body: bytes, path: str = "/api/call-tool") -> Request:
    """Return what is sent to a subject."""
    return Request(f"http://127.0.0.1:{port}{path}", body, HEADERS)


Seen = dict[str, list[Burst]]


def measure(stage: Stage, subjects: list[Subject], rounds: int, load: Load) -> dict[str, Seen]:
    """Return the bursts of every subject, round by round: of many clients, and of one."""
    many: Seen = {subject.name: [] for subject in subjects}
    one: Seen = {subject.name: [] for subject in subjects}
    for subject in subjects:  # pools, memos, the one miss
        stage.burst(subject.request, subject.pid, 1)
    for number in range(rounds):
        turn = number % len(subjects)
        for subject in subjects[turn:] + subjects[:turn]:
            many[subject.name].append(stage.burst(subject.request, subject.pid, *load))
            one[subject.name].append(stage.burst(subject.request, subject.pid, load.seconds, 1))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return {"many": many, "one": one}


def ratios(goal: Goal, seen: dict[str, Seen]) -> list[float]:
    """Return the ratio of each round."""
    if goal.subject not in seen["many"] or goal.against not in seen["many"]:
        return []
    if goal.figure != "hop":
        pairs = zip(seen["many"][goal.subject], seen["many"][goal.against], strict=True)
        return [getattr(ours, goal.figure) / getattr(theirs, goal.figure) for ours, theirs in pairs]
    # the server's own share is taken from the same round
    trios = zip(
        seen["one"][goal.subject], seen["one"][goal.against], seen["one"][DIRECT], strict=True
    )
    return [
        (ours.median_ms - direct.median_ms) / (theirs.median_ms - direct.median_ms)
        for ours, theirs, direct in trios
    ]


def results(seen: dict[str, Seen]) -> dict[str, dict[str, object]]:
    """Return for each goal its median ratio and between which quartiles it lies."""
    found: dict[str, dict[str, object]] = {}
    for goal in GOALS:
        values = sorted(ratios(goal, seen))
        if not values:
            continue
        quarter = len(values) // 4
        found[goal.name] = {
            "ratio": round(statistics.median(values), 3),
            "from": round(values[quarter], 3),
            "to": round(values[-1 - quarter], 3),
            "goal": goal.limit,
            "least": goal.least,
        }
    return found


def show(seen: dict[str, Seen], found: dict[str, dict[str, object]]) -> None:
    """Print the tables."""
    print(f"{'subject':46} {'CPU µs':>8} {'calls/s':>9} {'median of one, ms':>18}")
    for name, bursts in seen["many"].items():
        cpu = statistics.median(burst.cpu_us for burst in bursts)
        rate = statistics.median(burst.per_second for burst in bursts)
        single = statistics.median(burst.median_ms for burst in seen["one"][name])
        print(f"{name:46} {cpu:8.0f} {rate:9.0f} {single:18.2f}")
    print()
    print(f"{'figure':32} {'ratio':>8} {'quartiles':>16} {'goal':>9}")
    for name, row in found.items():
        sign = ">=" if row["least"] else "<="
        span = f"{row['from']:.2f} to {row['to']:.2f}"
        print(f"{name:32} {row['ratio']:8.2f} {span:>16} {sign:>4} {row['goal']:g}")


def run(rounds: int, *, layers: bool) -> tuple[dict[str, Seen], dict[str, dict[str, object]]]:
    """Measure everything; REST and MCP one after the other, each group in rounds of its own."""
    need("wrk", "nginx")
    seen: dict[str, Seen] = {"many": {}, "one": {}}
    for start, load in ((rest_subjects, REST_LOAD), (mcp_subjects, MCP_LOAD)):
        with Stage() as stage:
            subjects = [
                subject
                for subject in start(stage)
                if layers or not subject.name.startswith("uncached, without")
            ]
            for kind, bursts in measure(stage, subjects, rounds, load).items():
                seen[kind] |= bursts
    return seen, results(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    seen, found = run(options.rounds, layers=True)
    show(seen, found)
    if options.json:
        figures = {
            kind: {
                name: [[burst.cpu_us, burst.per_second, burst.median_ms] for burst in bursts]
                for name, bursts in group.items()
            }
            for kind, group in seen.items()
        }
        options.json.write_text(json.dumps({"ratios": found, "bursts": figures}, indent=1))


if __name__ == "__main__":
    main()
