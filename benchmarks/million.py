"""What a million mixed calls leave behind in the sidecar: memory, descriptors, calls, sessions.

    make bench-million        (or: .venv/bin/python -m benchmarks.million --calls 1000000)

Hits and misses of 3000 keys, writes of 2000 tools and MCP calls in 500 sessions come at once from three
load generators, in bursts; in every other burst only the reads, since writes drop what is kept. After
each burst the sidecar rests until its connections to the server are closed, and is looked at. Memory is
to be flat after the warm-up, which is the first third: less than one MiB for 100 000 calls, by least squares.
"""

import argparse
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.bench import HEADERS, request, rest, rpc, sidecar
from benchmarks.load import Process, Request, Stage, free_port, need
from benchmarks.scale import open_sessions

SESSIONS = 500
LIMIT = 1024.0  # KiB per 100 000 calls
_BURST = 20  # seconds
_REST = 9.0  # seconds: a connection to the server is closed after 4 to 8 idle ones


@dataclass(frozen=True, slots=True)
class Sample:
    """The sidecar at rest."""

    calls: int
    mib: float
    descriptors: int
    in_flight: int


def loads(port: int) -> list[Request]:
    """Return what the load generators send; the first one only reads."""
    read = rest("read_accounts").replace(b'"limit": 10', b'"limit": @@@@@@')
    in_session = {**HEADERS, "Mcp-Session-Id": "s@@@@@@", "MCP-Protocol-Version": "2025-11-25"}
    return [
        replace(request(port, read), many=3000),
        replace(request(port, rest("write_@@@@@@")), many=2000),
        replace(request(port, rpc("write_account"), "/mcp"), headers=in_session, many=SESSIONS),
    ]


def run(stage: Stage, wanted: int) -> list[Sample]:
    """Send so many calls; return what was seen after each burst."""
    behind = free_port()
    stage.python("-m", "benchmarks.subjects", "sessions", str(behind), port=behind)
    # what wrk breaks off at the end of a burst is a write of unknown fate
    port, pid = sidecar(stage, behind, MCP_CACHE_QUARANTINE="0")
    open_sessions(port, SESSIONS)
    process, asked, samples, sent = Process(pid, port), loads(port), [], 0
    with ThreadPoolExecutor(len(asked)) as pool:
        while sent < wanted:
            chosen = asked if len(samples) % 2 else asked[:1]
            bursts = [pool.submit(stage.burst, one, pid, _BURST, 6) for one in chosen]
            sent += sum(one.result().requests for one in bursts)
            time.sleep(_REST)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/metrics") as answer:
                told = json.load(answer)
            under_way = told["in_flight"]
            seen = Sample(sent, process.memory("VmRSS"), process.descriptors(), under_way)
            samples.append(seen)
            print(seen, file=sys.stderr)
    return samples


def growth(samples: Sequence[Sample]) -> float:
    """Return the KiB that 100 000 calls add, after the first third."""
    kept = [one for one in samples if one.calls > samples[-1].calls / 3]
    slope, _ = statistics.linear_regression([one.calls for one in kept], [one.mib for one in kept])
    return slope * 1024 * 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    need("wrk")
    with Stage() as stage:
        samples = run(stage, options.calls)
    first, last = samples[0], samples[-1]
    grown = growth(samples)
    print(f"calls                          {last.calls:>10}")
    print(f"resident, MiB: first, last     {first.mib:10.1f} {last.mib:10.1f}")
    print(f"KiB per 100 000 calls          {grown:10.0f}    <= {LIMIT:.0f}")
    print(f"descriptors: first, last       {first.descriptors:10} {last.descriptors:10}")
    print(f"calls under way at the end     {last.in_flight:10}")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in samples], indent=1))
    flat = grown <= LIMIT and last.descriptors <= first.descriptors and not last.in_flight
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
