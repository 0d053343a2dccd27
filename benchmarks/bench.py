"""What the hop and the hit cost: CPU time per request, as ratios within one run.

    make bench        (or: .venv/bin/python -m benchmarks.bench --rounds 9 --requests 3000)

Each round drives every subject once, in an order that changes from round to round, with the same
load generator; the figure is the median over the rounds of the ratio within a round. CPU time is
user + system of the subject's own process, read from /proc, so the load generator and the upstream
do not count, and neither does waiting. Results go to stdout as a table and, with --json, to a file.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
ROOT = Path(__file__).parents[1]

READ = json.dumps(
    {
        "service": "bench",
        "tool_name": "read_accounts",
        "params": {"limit": 10, "name": "Acme"},
    }
).encode()
WRITE = READ.replace(b"read_accounts", b"write_account")
JSON_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "Authorization": "Bearer 0123456789abcdef",
}


@dataclass
class Subject:
    """One thing that is measured."""

    name: str
    url: str
    body: bytes
    process: subprocess.Popen
    against: str | None = None  # the subject whose cost is 1
    goal: float | None = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


started: list[subprocess.Popen] = []


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"cannot start {arguments}")
    # events are written as in production, and read as fast as they come
    started.append(subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL))
    return process


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


async def drive(url: str, body: bytes, requests: int) -> float:
    """Send `requests` over keep-alive connections; return the seconds it took."""
    left = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            for _ in left:
                async with session.post(url, data=body, headers=JSON_HEADERS) as response:
                    await response.read()
                    assert response.status == 200, response.status

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return time.perf_counter() - began


def subjects() -> list[Subject]:
    ports = {name: free_port() for name in ("upstream", "fixed", "pass", "sidecar", "plain")}
    upstream = f"http://127.0.0.1:{ports['upstream']}"
    start("-m", "benchmarks.subjects", "fixed", str(ports["upstream"]))
    fixed = start("-m", "benchmarks.subjects", "fixed", str(ports["fixed"]))
    passing = start("-m", "benchmarks.subjects", "pass", str(ports["pass"]), upstream)
    sidecar = start(
        "-m",
        "mcp_proxy",
        "run",
        "--upstream",
        upstream,
        "--host",
        "127.0.0.1",
        "--port",
        str(ports["sidecar"]),
        MCP_CONFIG_FILE=str(ROOT / "benchmarks/rules.toml"),
    )
    at = {name: f"http://127.0.0.1:{port}/api/call-tool" for name, port in ports.items()}
    return [
        Subject("aiohttp, fixed answer", at["fixed"], READ, fixed),
        Subject(
            "sidecar, cached REST call", at["sidecar"], READ, sidecar, "aiohttp, fixed answer", 1.5
        ),
        Subject("aiohttp, pass-through", at["pass"], WRITE, passing),
        Subject(
            "sidecar, uncached REST call",
            at["sidecar"],
            WRITE,
            sidecar,
            "aiohttp, pass-through",
            1.25,
        ),
    ]


def measure(rounds: int, requests: int) -> dict[str, dict[str, list[float]]]:
    found = subjects()
    for subject in found:  # warm up: pools, memos, the one miss
        asyncio.run(drive(subject.url, subject.body, 500))
    seen: dict[str, dict[str, list[float]]] = {
        subject.name: {"cpu_us": [], "per_second": [], "ratio": []} for subject in found
    }
    for number in range(rounds):
        turn = number % len(found)
        for subject in found[turn:] + found[:turn]:
            before = cpu_seconds(subject.process.pid)
            seconds = asyncio.run(drive(subject.url, subject.body, requests))
            used = cpu_seconds(subject.process.pid) - before
            seen[subject.name]["cpu_us"].append(used / requests * 1e6)
            seen[subject.name]["per_second"].append(requests / seconds)
        for subject in found:
            if subject.against:
                base = seen[subject.against]["cpu_us"][-1]
                seen[subject.name]["ratio"].append(seen[subject.name]["cpu_us"][-1] / base)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    show(found, seen)
    return seen


def show(found: list[Subject], seen: dict[str, dict[str, list[float]]]) -> None:
    print(f"{'subject':32} {'CPU µs':>8} {'calls/s':>9} {'ratio':>7} {'spread':>13} {'goal':>6}")
    for subject in found:
        values = seen[subject.name]
        line = (
            f"{subject.name:32} {statistics.median(values['cpu_us']):8.0f} "
            f"{statistics.median(values['per_second']):9.0f}"
        )
        if subject.against:
            ratios = sorted(values["ratio"])
            line += (
                f" {statistics.median(ratios):7.2f} {ratios[0]:6.2f}-{ratios[-1]:<6.2f}"
                f" {subject.goal:6.2f}"
            )
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=3000, help="for each subject and round")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    try:
        seen = measure(options.rounds, options.requests)
    finally:
        for process in started:
            process.kill()
            process.wait()
    if options.json:
        options.json.write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main()
