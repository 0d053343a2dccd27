"""What the sidecar holds in memory: while bodies of 1 GiB pass, and while many streams are open.

    make bench-memory        (or: .venv/bin/python -m benchmarks.memory --mib 1024 --streams 2000)

Each case has a sidecar of its own, as a process of its own, that has answered a few small calls. Its
resident memory is read from /proc: VmRSS before and after, VmHWM for the highest point between (the
kernel keeps it, so no sample can miss it). Each transfer is also done directly, in the same run.
Progress goes to stderr, the tables go to stdout, and all figures with --json to a file.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

try:
    from uvloop import run
except ImportError:
    from asyncio import run

from benchmarks.ends import EVENT, EVENT_EVERY, Count, End, dial, framing, message
from benchmarks.load import Process, Stage, cpu_seconds, free_port

stage = Stage()

MIB = 1 << 20
PROMISE = 16  # MiB that a body of any size may add
SIPPING = 4.0  # seconds of slow reading
SETTLE = 15.0  # seconds: idle connections to the server are closed after 4
AT_ONCE = 50  # streams that are opened together; a burst of all would measure the backlog
CALLS = 200
ROUNDS = 3  # of each transfer; speeds are medians, the peak is that of all


@dataclass
class Seen:
    """What one case showed, in MiB."""

    case: str
    before: float
    peak: float
    after: float
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def added(self) -> float:
        return self.peak - self.before


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def sidecar(upstream: int) -> Iterator[Process]:
    port = free_port()
    found = stage.python(
        *("-m", "mcp_proxy", "run", "--upstream", f"http://127.0.0.1:{upstream}"),
        *("--host", "127.0.0.1", "--port", str(port)),
        port=port,
    )
    try:
        yield Process(found.pid, port)
    finally:
        stop(found)


def stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


# what a client does


def asking(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    return message(f"{method} {target} HTTP/1.1", "Host: localhost", *lines, body=body)


async def heard(end: End) -> dict[str, str]:
    first, headers = await end.head()
    if " 200 " not in first:
        raise SystemExit(f"answered {first!r}")
    return headers


async def put(port: int, length: int, chunked: bool) -> int:
    end = await dial(port)
    await end.send(asking("PUT", "/take", framing(length, chunked)))
    await end.give(length, chunked, Count().add)
    taken: int = json.loads(await end.text(await heard(end)))["taken"]
    end.close()
    return taken


async def get(port: int, length: int, chunked: bool) -> int:
    end = await dial(port)
    await end.send(asking("GET", f"/give/{length}/{'chunked' if chunked else 'length'}"))
    taken = await end.body(await heard(end))
    end.close()
    return taken


async def call(end: End, number: int) -> None:
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": "write_account", "arguments": {"number": number}},
        }
    ).encode()
    lines = (
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        f"Content-Length: {len(body)}",
    )
    await end.send(asking("POST", "/mcp", *lines, body=body))
    said = json.loads(await end.text(await heard(end)))
    if said["id"] != number:
        raise SystemExit(f"call {number} was answered with {said}")


async def calls(port: int, count: int = CALLS) -> list[float]:
    """Call one after the other; return how many ms each took."""
    end = await dial(port)
    took = []
    for number in range(count):
        began = time.perf_counter()
        await call(end, number)
        took.append((time.perf_counter() - began) * 1000)
    end.close()
    return took


async def told(upstream: int) -> dict[str, int]:
    end = await dial(upstream)
    await end.send(asking("GET", "/told"))
    said: dict[str, int] = json.loads(await end.text(await heard(end)))
    end.close()
    return said


async def within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> float:
    """Wait until something holds, or too long; return the seconds."""
    began = time.perf_counter()
    while not await holds() and time.perf_counter() - began < seconds:  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(0.1)
    return time.perf_counter() - began


# what is measured

Transfer = Callable[[int, int, bool], Awaitable[int]]


async def timed(transfer: Transfer, port: int, length: int, chunked: bool) -> float:
    began = time.perf_counter()
    if await transfer(port, length, chunked) != length:
        raise SystemExit("the body came in another length")
    return time.perf_counter() - began


async def warmed(process: Process) -> float:
    """Let a few small ones pass; return the memory then, from where the peak counts."""
    await calls(process.port, 20)
    for transfer in (put, get):
        await timed(transfer, process.port, 0, chunked=True)
    await asyncio.sleep(1)
    process.forget_peak()
    return process.memory("VmRSS")


async def whole(name: str, transfer: Transfer, upstream: int, size: tuple[int, bool]) -> Seen:
    """Send a body past the sidecar and through it, in turns: the machine is not always as fast."""
    with sidecar(upstream) as process:
        before = await warmed(process)
        directly, through = [], []
        used = cpu_seconds(process.pid)
        for _ in range(ROUNDS):
            directly.append(await timed(transfer, upstream, *size))
            through.append(await timed(transfer, process.port, *size))
        used = cpu_seconds(process.pid) - used
        peak = process.memory("VmHWM")
        await asyncio.sleep(1)
        mib = size[0] / MIB
        ratios = [ours / bare for ours, bare in zip(through, directly, strict=True)]
        figures = {
            "direct_mib_s": mib / statistics.median(directly),
            "through_mib_s": mib / statistics.median(through),
            "ratio": statistics.median(ratios),
            "least_ratio": min(ratios),
            "most_ratio": max(ratios),
            "cpu_seconds": used / ROUNDS,
        }
        return Seen(name, before, peak, process.memory("VmRSS"), figures)


async def slow_reader(name: str, upstream: int, size: tuple[int, bool]) -> Seen:
    """Let a client read slowly and then leave: the server must wait meanwhile, and hear of it."""
    with sidecar(upstream) as process:
        before = await warmed(process)
        length, chunked = size
        end = await dial(process.port)
        await end.send(asking("GET", f"/give/{length}/{'chunked' if chunked else 'length'}"))
        await heard(end)
        taken = Count()
        await end.sip(SIPPING, taken.add)
        given = (await told(upstream))["given"]
        answered = await calls(process.port, 20)
        end.close()

        async def over() -> bool:
            return not (await told(upstream))["giving"]

        left = await within(SETTLE, over)
        peak = process.memory("VmHWM")
        await asyncio.sleep(1)
        figures = {
            "taken_mib": taken.total / MIB,
            "given_mib": given / MIB,
            "seconds_until_server_was_left": left,
            "call_ms": statistics.median(answered),
        }
        return Seen(name, before, peak, process.memory("VmRSS"), figures)


async def slow_server(name: str, upstream: int, size: tuple[int, bool]) -> Seen:
    """Let the server read a body slowly: the client must wait meanwhile."""
    with sidecar(upstream) as process:
        before = await warmed(process)
        length, chunked = size
        given = Count()
        end = await dial(process.port)
        await end.send(asking("PUT", "/sip", framing(length, chunked)))
        with suppress(TimeoutError):
            async with asyncio.timeout(SIPPING):
                await end.give(length, chunked, given.add)
        taken = (await told(upstream))["sipped"]
        answered = await calls(process.port, 20)
        end.close()
        await asyncio.sleep(1)
        figures = {
            "taken_mib": taken / MIB,
            "given_mib": given.total / MIB,
            "call_ms": statistics.median(answered),
        }
        return Seen(name, before, process.memory("VmHWM"), process.memory("VmRSS"), figures)


class Listening:
    """Many open event streams."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[End] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.events = 0

    async def open(self, count: int) -> None:
        for _ in range(0, count, AT_ONCE):
            await asyncio.gather(*(self._open() for _ in range(AT_ONCE)))

    async def _open(self) -> None:
        end = await dial(self._port)
        await end.send(asking("GET", "/mcp", "Accept: text/event-stream"))
        await heard(end)
        await self._hear(end)
        self._ends.append(end)
        self._tasks.append(asyncio.ensure_future(self._listen(end)))

    async def _listen(self, end: End) -> None:
        while True:
            await self._hear(end)

    async def _hear(self, end: End) -> None:
        size = await end.chunk()
        if size % len(EVENT):
            raise SystemExit(f"{size} bytes are no event")
        self.events += size // len(EVENT)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends:
            end.close()


async def streams(upstream: int, count: int) -> list[Seen]:
    """Open many streams, let all leave, and once more: what is left behind would add up."""
    found = []
    with sidecar(upstream) as process:
        await warmed(process)
        await asyncio.sleep(5)  # until the idle connection of the warming is closed
        for number in ("first", "second"):
            process.forget_peak()
            before, descriptors = process.memory("VmRSS"), process.descriptors()
            alone = await calls(process.port, 10 * CALLS)
            reached = (await told(upstream))["calls"]
            listening = Listening(process.port)
            began = time.perf_counter()
            await listening.open(count)
            opened = time.perf_counter() - began
            meanwhile, events = time.perf_counter(), listening.events
            busy: list[float] = []
            while time.perf_counter() - meanwhile < 2.5 * EVENT_EVERY:
                busy += await calls(process.port)
            events = listening.events - events
            at_work, held = process.memory("VmRSS"), process.descriptors()
            then = await told(upstream)
            await listening.leave()

            async def over(fewest: int = descriptors) -> bool:
                return process.descriptors() <= fewest

            settled = await within(SETTLE, over)
            peak, after = process.memory("VmHWM"), process.memory("VmRSS")
            figures = {
                "streams_at_server": then["streams"],
                "streams_at_server_after": (await told(upstream))["streams"],
                "kib_per_stream": (at_work - before) * 1024 / count,
                "open_per_second": count / opened,
                "events": events,
                "descriptors_before": descriptors,
                "descriptors_open": held,
                "descriptors_after": process.descriptors(),
                "seconds_until_released": settled,
                "calls": len(busy),
                "calls_that_reached_the_server": then["calls"] - reached,
                "call_ms_alone": statistics.median(alone),
                "call_ms": statistics.median(busy),
                "call_ms_p99_alone": statistics.quantiles(alone, n=100)[-1],
                "call_ms_p99": statistics.quantiles(busy, n=100)[-1],
                "call_ms_slowest": max(busy),
            }
            found.append(Seen(number, before, peak, after, figures))
    return found


async def measure(mib: int, count: int) -> tuple[list[Seen], list[Seen], list[Seen]]:
    upstream = free_port()
    stage.python("-m", "benchmarks.ends", str(upstream), port=upstream)
    passed, slow = [], []
    for what, transfer in (("request body", put), ("answer", get)):
        for kind in ("Content-Length", "chunked"):
            size = (mib * MIB, kind == "chunked")
            say(f"{what}, {kind}")
            passed.append(await whole(f"{what}, {kind}", transfer, upstream, size))
    for kind in ("Content-Length", "chunked"):
        size = (mib * MIB, kind == "chunked")
        say(f"slow readers, {kind}")
        slow.append(await slow_reader(f"answer to a slow client, {kind}", upstream, size))
        slow.append(await slow_server(f"request body to a slow server, {kind}", upstream, size))
    say(f"{count} streams, twice")
    return passed, slow, await streams(upstream, count)


# what is shown


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells) + " |")


def table(*names: str) -> None:
    row(*names)
    print("|---" * len(names) + "|")


def show(mib: int, found: tuple[list[Seen], list[Seen], list[Seen]]) -> None:
    passed, slow, open_streams = found
    memory = ("before", "peak", "after", "added")
    print(f"{mib} MiB at full speed; memory in MiB\n")
    table("body", *memory, "MiB/s directly", "through", "time ratio", "spread", "CPU s")
    for seen in passed:
        row(seen.case, seen.before, seen.peak, seen.after, seen.added, *rounded(seen))
    print(f"\n{mib} MiB to somebody who reads {SIPPING:g} s long slowly; in MiB\n")
    table("body", *memory, "read", "sent", "a call meanwhile, ms")
    for seen in slow:
        figures = seen.figures
        row(
            *(seen.case, seen.before, seen.peak, seen.after, seen.added),
            *(figures["taken_mib"], figures["given_mib"], figures["call_ms"]),
        )
    first = open_streams[0].figures
    print(f"\n{first['streams_at_server']:.0f} open event streams, all left, and once more\n")
    table("", *(f"{seen.case} time" for seen in open_streams))
    for name in ("before", "peak", "after"):
        row(f"memory {name}, MiB", *(getattr(seen, name) for seen in open_streams))
    for name in first:
        values = [seen.figures[name] for seen in open_streams]
        row(name.replace("_", " "), *(v if v % 1 else int(v) for v in values))


def rounded(seen: Seen) -> tuple[object, ...]:
    figures = seen.figures
    return (
        *(round(figures["direct_mib_s"]), round(figures["through_mib_s"])),
        figures["ratio"],
        f"{figures['least_ratio']:.1f}-{figures['most_ratio']:.1f}",
        figures["cpu_seconds"],
    )


def allow_descriptors(count: int) -> None:
    """Raise our limit, and by inheritance the others': a stream takes two in the sidecar."""
    needed = 2 * count + 256
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{count} streams need {needed} descriptors; {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of a body")
    parser.add_argument("--streams", type=int, default=2000, help=f"in steps of {AT_ONCE}")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    allow_descriptors(options.streams)
    with stage:
        found = run(measure(options.mib, options.streams))
    show(options.mib, found)
    if options.json:
        listed = [asdict(seen) for part in found for seen in part]
        options.json.write_text(json.dumps(listed, indent=1))
    passed, slow, _ = found
    most = max(seen.added for seen in passed + slow)
    print(f"\na body adds at most {most:.1f} MiB; promised are {PROMISE}")
    if most > PROMISE:
        sys.exit(1)


if __name__ == "__main__":
    main()
