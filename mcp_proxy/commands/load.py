"""Ask two URLs the same, in turns, and compare: the measuring part of `mcp-sidecar bench`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from math import ceil
from statistics import median
from typing import Any, NamedTuple

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.jsonrpc import STATELESS_SINCE
from mcp_proxy.edge.look import Look
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.pool import open_pools
from mcp_proxy.upstream.discovery import Answer, Discovery, Request, result_in

ROUNDS = 5
_WARMING = 50  # requests
_PATIENCE = 60.0  # seconds


class Wish(NamedTuple):
    """What is asked."""

    path: str
    method: str = "GET"  # of HTTP; POST is JSON-RPC
    rpc: str = ""
    params: Mapping[str, Any] = {}


class Load(NamedTuple):
    """How often it is asked, and how many at a time."""

    requests: int
    concurrency: int


class Round(NamedTuple):
    """How one round of one side went."""

    seconds: float
    times: list[float]  # sorted
    failed: int

    def at(self, share: float) -> float:
        """Return a percentile in milliseconds (nearest rank)."""
        return self.times[max(0, ceil(len(self.times) * share) - 1)] * 1000

    @property
    def throughput(self) -> float:
        """Return requests per second."""
        return len(self.times) / self.seconds


class Side(NamedTuple):
    """What one side came to: medians of its rounds."""

    url: str
    requests: int
    failed: int
    throughput: float  # requests per second
    p50_ms: float
    p99_ms: float


class Caller:
    """Ask one URL, in the era that it speaks."""

    def __init__(self, look: Look, wish: Wish, clock: Clock) -> None:
        self._look = look
        self._wish = wish
        self._clock = clock
        self._numbers = count(1)
        self._session: Mapping[str, str] | None = None
        self._discovery = Discovery(self._ask)

    async def _ask(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        found = await self._look.ask(method, self._wish.path, headers, body)
        return None if isinstance(found, str) else Answer(*found)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[bool]:
        """Open a session where one is needed; yields whether there is MCP, if that is wished."""
        eras = await self._discovery.eras() if self._wish.rpc else []
        if eras and STATELESS_SINCE not in eras:
            self._session = await self._discovery.opened()
            await self._discovery.began(self._session or {})
        try:
            yield bool(eras) or not self._wish.rpc
        finally:
            await self._discovery.end(self._session or {})

    async def once(self) -> bool:
        """Ask once; tell whether the answer was a good one."""
        wish = self._wish
        if not wish.rpc:
            found = await self._look.ask("GET", wish.path, {"Cache-Control": "no-store"})
            return not isinstance(found, str) and found[0] < 400
        # each differs, or calls in flight would share an answer, and the server be asked less
        meta = {"mcp-sidecar/bench": next(self._numbers)}
        headers, body = Request(wish.rpc, wish.params, meta).to(self._session)
        answer = await self._ask("POST", {**headers, "Cache-Control": "no-store"}, body)
        result = result_in(answer)
        return result is not None and not result.get("isError")

    async def round(self, requests: int, concurrency: int) -> Round:
        """Ask so often, so many at a time."""
        left = iter(range(requests))
        times: list[float] = []
        good = 0

        async def work() -> None:
            nonlocal good
            for _ in left:
                began = self._clock.now()
                worked = await self.once()
                good += worked
                times.append(self._clock.now() - began)

        began = self._clock.now()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return Round(self._clock.now() - began, sorted(times), requests - good)


class NoMcpError(Exception):
    """A URL speaks no MCP without credentials."""


async def compare(
    urls: tuple[str, str], wish: Wish, load: Load, clock: Clock, tell: Callable[[str], object]
) -> tuple[Side, Side]:
    """Ask both in turns; returns what each came to. Raises NoMcpError."""
    requests, concurrency = load
    pools = open_pools(concurrency, concurrency, Names(clock.now))
    looks = [Look(url, pools.calls, _PATIENCE) for url in urls]
    first, second = (Caller(look, wish, clock) for look in looks)
    each = max(1, requests // ROUNDS)
    rounds: tuple[list[Round], list[Round]] = ([], [])
    try:
        async with first.ready() as one, second.ready() as other:
            if not (one and other):
                raise NoMcpError(urls[0] if not one else urls[1])
            for caller in (first, second):
                await caller.round(min(_WARMING, each), concurrency)
            for number in range(ROUNDS):
                tell(f"round {number + 1} of {ROUNDS}")
                # who begins changes, so that what drifts meets both
                for at in (0, 1) if number % 2 == 0 else (1, 0):
                    rounds[at].append(await (first, second)[at].round(each, concurrency))
    finally:
        await pools.aclose()
    return side(urls[0], rounds[0]), side(urls[1], rounds[1])


def side(url: str, rounds: list[Round]) -> Side:
    """Return the medians of some rounds."""
    return Side(
        url,
        sum(len(one.times) for one in rounds),
        sum(one.failed for one in rounds),
        round(median(one.throughput for one in rounds), 1),
        round(median(one.at(0.5) for one in rounds), 3),
        round(median(one.at(0.99) for one in rounds), 3),
    )


def parsed(arguments: str | None) -> dict[str, Any] | None:
    """Read a tool's arguments; None if they are no JSON object."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
