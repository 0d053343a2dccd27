"""What a hit costs with few and with many keys, with Redis behind, and what a herd costs the server.

    make bench-cache        (or: .venv/bin/python -m benchmarks.cache --rounds 5 --requests 4000)

CPU time per request as in benchmarks/bench.py: of the subject's own process, as a ratio to an aiohttp
server with a fixed answer in the same round. Keys are drawn at random, so that most requests are
none that was recognised from the one before.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import aiohttp

from benchmarks.bench import HEADERS
from benchmarks.load import CONNECTIONS, ROOT, Stage, cpu_seconds, free_port

stage = Stage()

SIZES = (1_000, 10_000, 100_000)
HERD = 200
MCP_HEADERS = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "0123456789abcdef"}


def body(number: int, tool: str = "read_accounts") -> bytes:
    """Return the request whose answer is kept under key number so and so."""
    call = {"service": "bench", "tool_name": tool, "params": {"number": number}}
    return json.dumps(call).encode()


def rpc_body(number: int, request_id: int) -> bytes:
    """Return the same as an MCP call; clients count their ids up."""
    params = {"name": "read_accounts", "arguments": {"number": number}}
    call = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
    return json.dumps(call).encode()


async def drive(url: str, bodies: list[bytes]) -> int:
    """Send each body once over keep-alive connections; return how many answers were hits."""
    left, hits = iter(bodies), 0
    headers = {**HEADERS, **(MCP_HEADERS if url.endswith("/mcp") else {})}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            nonlocal hits
            for data in left:
                async with session.post(url, data=data, headers=headers) as response:
                    await response.read()
                    assert response.status == 200, response.status
                    hits += "; hit" in response.headers.get("Cache-Status", "")

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return hits


def sidecar(upstream: int, **settings: str) -> tuple[subprocess.Popen, str]:
    port = free_port()
    process = stage.python(
        *("-m", "mcp_proxy", "run", "--upstream", f"http://127.0.0.1:{upstream}"),
        *("--host", "127.0.0.1", "--port", str(port)),
        port=port,
        MCP_CONFIG_FILE=str(ROOT / "benchmarks/rules.toml"),
        **settings,
    )
    return process, f"http://127.0.0.1:{port}/api/call-tool"


def resident(process: subprocess.Popen) -> float:
    """Return MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def against(
    fixed: tuple[subprocess.Popen, str],
    subject: tuple[subprocess.Popen, str],
    rounds: int,
    draw: Callable[[], list[bytes]],
) -> list[float]:
    """Return the ratio of each round; all requests must be hits."""
    ratios = []
    for _ in range(rounds):
        bodies = draw()
        requests = len(bodies)
        used = []
        for process, url in (fixed, subject):
            before = cpu_seconds(process.pid)
            hits = asyncio.run(drive(url, bodies))
            used.append(cpu_seconds(process.pid) - before)
        assert hits == requests, f"{hits} of {requests} were hits"
        ratios.append(used[1] / used[0])
    return ratios


def drawn(
    keys: int, requests: int, spelled: Callable[[int], bytes] = body
) -> Callable[[], list[bytes]]:
    """Return what draws as many requests, each for a key at random."""
    return lambda: [spelled(random.randrange(keys)) for _ in range(requests)]


def show(name: str, ratios: list[float], more: str = "") -> None:
    ordered = sorted(ratios)
    print(
        f"{name:34} {statistics.median(ordered):6.2f} {ordered[0]:6.2f}-{ordered[-1]:<6.2f} {more}"
    )


def hits(rounds: int, requests: int, fixed: tuple[subprocess.Popen, str], upstream: int) -> None:
    for keys in SIZES:
        subject = sidecar(upstream, MCP_CACHE_MAX_ENTRIES="200000", MCP_CACHE_MAX_BYTES="500000000")
        print(f"filling {keys} keys", file=sys.stderr)
        asyncio.run(drive(subject[1], [body(number) for number in range(keys)]))
        show(
            f"memory, {keys} keys",
            against(fixed, subject, rounds, drawn(keys, requests)),
            f"{resident(subject[0]):.0f} MiB",
        )
        subject[0].kill()


def mcp_hits(rounds: int, requests: int, fixed: tuple[subprocess.Popen, str]) -> None:
    port, ids, keys = free_port(), count(1), SIZES[0]
    stage.python("-m", "benchmarks.subjects", "rpc", str(port), port=port)
    process, url = sidecar(port)
    url = url.replace("/api/call-tool", "/mcp")

    def spelled(number: int) -> bytes:
        return rpc_body(number, next(ids))

    asyncio.run(drive(url, [spelled(number) for number in range(keys)]))
    show(
        f"memory, MCP tools/call, {keys} keys",
        against(fixed, (process, url), rounds, drawn(keys, requests, spelled)),
    )
    process.kill()


def with_redis(
    rounds: int, requests: int, fixed: tuple[subprocess.Popen, str], upstream: int
) -> None:
    if shutil.which("redis-server") is None:
        print("redis: skipped, there is no redis-server")
        return
    port = free_port()
    folder = str(stage.directory)
    stage.start("redis-server", "--port", str(port), "--save", "", "--dir", folder, port=port)
    subject = sidecar(upstream, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    asyncio.run(drive(subject[1], [body(number) for number in range(1000)]))
    show("redis behind memory, 1000 keys", against(fixed, subject, rounds, drawn(1000, requests)))
    subject[0].kill()


def at_the_bound(upstream: int) -> None:
    process, url = sidecar(upstream, MCP_CACHE_MAX_BYTES="8388608", MCP_CACHE_MAX_ENTRIES="1000000")
    before = resident(process)
    asyncio.run(drive(url, [body(number) for number in range(40_000)]))
    health = url.replace("/api/call-tool", "/api/health")

    async def facts() -> dict:
        async with aiohttp.ClientSession() as session, session.get(health) as response:
            return (await response.json())["cache"]

    cache = asyncio.run(facts())
    print(
        f"40000 answers into 8 MiB: {cache['bytes'] / 1048576:.1f} MiB counted, "
        f"{cache['entries']} entries, {cache['evicted']} evicted, resident "
        f"{before:.0f} -> {resident(process):.0f} MiB"
    )


def herd() -> None:
    port = free_port()
    stage.python("-m", "benchmarks.subjects", "slow", str(port), port=port)
    _, url = sidecar(port, MCP_CACHE_STALE_WHILE_REVALIDATE="30")

    read = body(1, "read_briefly")

    async def together() -> tuple[int, int]:
        connector = aiohttp.TCPConnector(limit=HERD)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one() -> None:
                async with session.post(url, data=read, headers=HEADERS) as response:
                    await response.read()

            async def asked() -> int:
                async with session.get(f"http://127.0.0.1:{port}/count") as response:
                    return int(await response.text())

            await asyncio.gather(*(one() for _ in range(HERD)))
            first = await asked()
            await asyncio.sleep(2.5)  # the rule of this tool keeps an answer for 2 s
            await asyncio.gather(*(one() for _ in range(HERD)))
            await asyncio.sleep(1.5)
            return first, await asked() - first

    cold, expired = asyncio.run(together())
    print(f"{HERD} at once on a call of 1 s: {cold} asked of the server, at expiry {expired}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000, help="for each subject and round")
    options = parser.parse_args()
    with stage:
        upstream, port = free_port(), free_port()
        stage.python("-m", "benchmarks.subjects", "fixed", str(upstream), port=upstream)
        fixed = stage.python("-m", "benchmarks.subjects", "fixed", str(port), port=port)
        base = (fixed, f"http://127.0.0.1:{port}/api/call-tool")
        print(f"{'subject':34} {'ratio':>6} {'spread':>13}")
        hits(options.rounds, options.requests, base, upstream)
        mcp_hits(options.rounds, options.requests, base)
        with_redis(options.rounds, options.requests, base, upstream)
        at_the_bound(upstream)
        herd()


if __name__ == "__main__":
    main()
