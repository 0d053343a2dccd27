"""Whether a call stays as cheap with many keys, tools and sessions, and what a second worker brings.

    make bench-scale        (or: .venv/bin/python -m benchmarks.scale --rounds 15)

Few and many of a thing are loaded in turn, each at a sidecar of its own: CPU time of its processes per
call, medians of the ratios within a round. What is many is beyond the bound of its table where it has
one. Of two workers the speed is told that they would have with a core for each: the calls, over the CPU
time of the busier one. On a machine that the load generator and the server share with them nothing else
can be seen.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import nginx
from benchmarks.bench import HEADERS, request, rest, sidecar
from benchmarks.load import Request, Stage, cpu_seconds, family, free_port, need

FLAT = 1.15  # of the CPU time of a call with few, at most
WORKERS = 1.8  # times the calls of one, at least
# Seconds of load that make all of it known: at some 2000 calls a second twice the largest number.
_FILL = 10
_OPENED = 9000  # sessions
# More than the requests that are recognised by their bytes (512, core/traffic): that is another matter.
_FEW = 3000
# Connections: the kernel gives each to a worker by its hash, so of few one may get far more.
_SPREAD = 256


@dataclass(frozen=True, slots=True)
class Case:
    """A thing of which there may be few or many."""

    name: str
    asked: Request
    few: int
    many: int


def cases(stage: Stage) -> Iterator[tuple[Case, dict[int, tuple[int, int]]]]:
    """Start two sidecars for each case; return by number of things its port and process."""
    behind, opening = free_port(), free_port()
    stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    stage.python("-m", "benchmarks.subjects", "sessions", str(opening), port=opening)
    read = rest("read_accounts").replace(b'"limit": 10', b'"limit": @@@@@@')
    # may be repeated and is not kept: a write would first ask whether its session still lives, where
    # that was quiet for half a second, and among many sessions each is
    look = {"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "p"}}
    in_session = replace(
        request(0, json.dumps(look).encode(), "/mcp"),
        headers={**HEADERS, "Mcp-Session-Id": "s@@@@@@", "MCP-Protocol-Version": "2025-11-25"},
    )
    for case in (
        # MCP_CACHE_MAX_ENTRIES is 10 000
        Case("stored answers, all hits", request(0, read), _FEW, 9000),
        # each has a circuit, and a row of metrics: 1000 and 500 of them
        Case("tools, all writes", request(0, rest("write_@@@@@@")), _FEW, 30_000),
        Case("sessions, all reads", in_session, _FEW, _OPENED),
    ):
        found = {}
        for number in (case.few, case.many):
            of_sessions = case.asked is in_session
            port, pid = sidecar(stage, opening if of_sessions else behind)
            found[number] = port, pid
            if of_sessions:
                open_sessions(port, number)
        yield case, found


def open_sessions(port: int, number: int) -> None:
    """Open so many sessions, as their clients do."""
    said = {"protocolVersion": "2025-11-25", "capabilities": {}}
    said["clientInfo"] = {"name": "bench", "version": "1"}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}
    url = f"http://127.0.0.1:{port}/mcp"
    for _ in range(number):
        asked = urllib.request.Request(url, json.dumps(hello).encode(), HEADERS)
        with urllib.request.urlopen(asked) as answer:
            answer.read()


def at(case: Case, number: int, port: int) -> Request:
    """Return what asks a sidecar for so many."""
    url = case.asked.url.replace(":0/", f":{port}/")
    return replace(case.asked, url=url, many=number)


def things(stage: Stage, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Return the ratios of many to few, round by round."""
    found = {}
    for case, sidecars in cases(stage):
        asked = {number: at(case, number, port) for number, (port, _) in sidecars.items()}
        for number, (_, pid) in sidecars.items():
            stage.burst(asked[number], pid, _FILL)
        ratios = []
        for turn in range(rounds):
            order = list(sidecars) if turn % 2 else list(sidecars)[::-1]
            cpu = {n: stage.burst(asked[n], sidecars[n][1], seconds).cpu_us for n in order}
            ratios.append(cpu[case.many] / cpu[case.few])
        found[f"{case.name}: {case.many} / {case.few}"] = ratios
        print(f"{case.name}: {statistics.median(ratios):.2f}", file=sys.stderr)
    return found


def workers(stage: Stage, rounds: int, seconds: int) -> list[float]:
    """Return how many times the calls of one worker two of them do, round by round."""
    behind = free_port()
    stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    subjects = {number: sidecar(stage, behind, MCP_WORKERS=str(number)) for number in (1, 2)}
    write = rest("write_account")
    ratios = []
    for turn in range(rounds + 1):
        speed = {}
        for number in (1, 2) if turn % 2 else (2, 1):
            port, pid = subjects[number]
            processes = family(pid)
            before = {one: cpu_seconds(one) for one in processes}
            # the supervisor's own time counts with its descendants'; alone it is next to nothing
            burst = stage.burst(request(port, write), pid, seconds, _SPREAD)
            workers_of = processes[1:] if number > 1 else processes
            busiest = max(cpu_seconds(one) - before[one] for one in workers_of)
            speed[number] = burst.requests / busiest
        if turn:  # the first round warms up
            ratios.append(speed[2] / speed[1])
    print(f"two workers: {statistics.median(ratios):.2f}", file=sys.stderr)
    return ratios


def starts(stage: Stage, rounds: int) -> dict[str, list[float]]:
    """Return the seconds from the start to the first answer, and of CPU for the import."""
    behind = free_port()
    stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    found: dict[str, list[float]] = {"first answer, s": [], "import mcp_proxy.cli, CPU s": []}
    told = "import resource, mcp_proxy.cli; used = resource.getrusage(resource.RUSAGE_SELF); "
    told += "print(used.ru_utime + used.ru_stime)"
    for _ in range(rounds):
        began = time.perf_counter()
        port, pid = sidecar(stage, behind)
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/call-tool", rest("write_account"), HEADERS
        )
        with urllib.request.urlopen(asked) as answer:
            answer.read()
        found["first answer, s"].append(time.perf_counter() - began)
        stage.stop(pid)
        done = subprocess.run(
            [sys.executable, "-c", told], capture_output=True, text=True, check=True
        )
        found["import mcp_proxy.cli, CPU s"].append(float(done.stdout))
    return found


def show(name: str, values: list[float], goal: str) -> None:
    """Print a line of the table."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    span = f"{ordered[quarter]:.2f} to {ordered[-1 - quarter]:.2f}"
    print(f"{name:48} {statistics.median(ordered):8.2f} {span:>16} {goal:>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2, help="of load, for each burst")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    need("wrk", "nginx")
    with Stage() as stage:
        started = starts(stage, options.rounds)
    with Stage() as stage:
        several = workers(stage, options.rounds, options.seconds)
    with Stage() as stage:
        ratios = things(stage, options.rounds, options.seconds)
    print(f"{'figure':48} {'median':>8} {'quartiles':>16} {'goal':>8}")
    for (name, values), goal in zip(started.items(), ("<= 1", "<= 0.35"), strict=True):
        show(name, values, goal)
    show("two workers / one, calls per busiest core", several, f">= {WORKERS}")
    for name, values in ratios.items():
        show(name, values, f"<= {FLAT}")
    if options.json:
        options.json.write_text(json.dumps({**started, "workers": several, **ratios}, indent=1))


if __name__ == "__main__":
    main()
