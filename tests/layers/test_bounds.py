"""Each table, queue and wait of the layers, asked for ten times what it may hold (F46, F48)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcp_proxy.core.call import Call, Peer, Reply
from mcp_proxy.core.errors import OverloadedError, ProxyError
from mcp_proxy.core.intent import Keep
from mcp_proxy.core.keys import Keyring
from mcp_proxy.layers import breaker, cache, ratelimit
from mcp_proxy.layers.admit import Admit, Bounds
from mcp_proxy.layers.breaker import Breaker
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.circuit import Limits
from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.deadline import Deadline
from mcp_proxy.layers.ratelimit import Counters, RateLimit, Rates
from mcp_proxy.layers.timeouts import Timeouts, Together
from mcp_proxy.stores.memory import MemoryShelf
from tests.fakes import (
    KEPT,
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    read,
    reply,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

OK = Script(reply())


def answered(text: str = "x") -> Script:
    body = f'{{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"}}}}'.encode()
    return Script(reply(body=body, Content_Type="application/json"))


async def never(_: Call) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


async def test_circuits_of_ten_times_as_many_tools() -> None:
    """The least recently used go; that of the target stays."""
    guard = Breaker(
        "http://old",
        Limits(),
        FakeClock(),
        Told(),
        opened=lambda _: None,
        rng=lambda: 0.5,
        deadline=300.0,
    )
    for number in range(10 * breaker._CIRCUITS_LIMIT):
        await guard(call(WRITE, tool(f"t{number}")), OK)
    assert len(guard._circuits) == breaker._CIRCUITS_LIMIT
    assert len(guard.snapshot()) == breaker._CIRCUITS_LIMIT + 1
    assert f"tool t{number}" in guard.snapshot()


async def test_ten_times_the_queue_is_refused_and_leaves_nothing_behind() -> None:
    """Those beyond are told so at once; names that came with them are not remembered."""
    admit = Admit(Bounds(10, 10, 20), FakeClock(), Told(), deadline=300.0)
    waiting = [
        spawn(admit(call(WRITE, tool(f"t{number}")), never), "call") for number in range(300)
    ]
    await settle()
    shown = admit.snapshot()
    assert (shown["in_flight"], shown["waiting"]) == (10, 20)
    refused = [task for task in waiting if task.done()]
    assert len(refused) == 270
    assert all(isinstance(task.exception(), OverloadedError) for task in refused)
    assert len(admit._shares) == 30
    assert len(admit._lines) == 20
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (admit._shares, admit._lines) == ({}, {})
    assert admit.snapshot()["in_flight"] == admit.snapshot()["waiting"] == 0


async def test_keys_of_ten_times_as_many_clients() -> None:
    """Those beyond share one count, and so are limited all the same."""
    limit = RateLimit(Rates(client="5/minute"), FakeClock(), Told(), keys=100)
    refused = 0
    for number in range(1000):
        one = call(WRITE, tool(), headers={"Authorization": str(number)})
        try:
            await limit(one._replace(peer=Peer(f"10.0.{number >> 8}.{number & 255}")), OK)
        except ProxyError:
            refused += 1
    assert limit._client is not None
    assert len(limit._client.own._counts) <= 101
    assert refused >= 800


async def test_heads_of_ten_times_as_many_clients() -> None:
    limit = RateLimit(Rates(client="100000/minute"), FakeClock(), Told())
    for number in range(10 * ratelimit._REMEMBERED):
        raw = ((b"Authorization", b"%d" % number),)
        await limit(call(WRITE, tool())._replace(raw=raw), OK)
    assert 0 < len(limit._met) <= ratelimit._REMEMBERED


async def test_windows_of_the_past_make_room() -> None:
    clock = FakeClock()
    counters = Counters(clock.now, 60, 100)
    for number in range(1000):
        counters.has_place(f"k{number}")
        await clock.advance(6)
    assert len(counters._counts) <= 100
    assert counters.has_place("one more")


async def test_flights_are_over_with_their_callers() -> None:
    """There are as many as calls under way, and no more than one a key."""
    clock = FakeClock()
    coalesce = Coalesce(300.0, clock, spawn, 1000)
    flying = [
        spawn(coalesce(call(KEPT, tool())._replace(key=f"k{number % 10}"), never), "call")
        for number in range(100)
    ]
    await settle()
    assert len(coalesce._flights) == 10
    for task in flying:
        task.cancel()
    await asyncio.gather(*flying, return_exceptions=True)
    await settle()
    assert coalesce._flights == {}


async def test_refreshes_are_one_a_key() -> None:
    """Stale answers that are asked for together are fetched once each."""
    clock = FakeClock()
    shelf = MemoryShelf(100, 1 << 20, clock.now, clock.epoch)
    stale_ok = replace(KEPT, keep=Keep(300.0, revalidate=1000.0))
    tasks = Tasks()  # the loop alone would let the collector take them
    layer = Cache(shelf, Keyring("old"), clock, tasks, 1 << 20)
    for number in range(10):
        await layer(call(stale_ok, tool(key=number)), answered())
    await clock.advance(400)
    for _ in range(10):
        for number in range(10):
            stale = await layer(call(stale_ok, tool(key=number)), never)
            assert stale.cache is not None
            assert stale.cache.hit
    await settle()
    assert len(layer._refreshing) == 10
    await within(tasks.end())
    assert not layer._refreshing


async def test_frames_that_are_remembered_are_few_and_small() -> None:
    """Beside MCP_CACHE_MAX_BYTES they would be a second cache without a bound."""
    clock = FakeClock()
    shelf = MemoryShelf(20_000, 1 << 28, clock.now, clock.epoch)
    layer = Cache(shelf, Keyring("old"), clock, spawn, 1 << 20)
    for number in range(10 * cache._REMEMBERED):
        asked = call(KEPT, tool(key=number))
        await layer(asked, answered())
        await layer(asked, answered())
    assert 0 < layer._unpacked.cache_info().currsize <= cache._REMEMBERED
    held = layer._unpacked.cache_info().currsize
    large = answered("x" * cache._SMALL)
    for _ in range(2):
        await layer(call(KEPT, tool(key="large")), large)
    assert layer._unpacked.cache_info().currsize == held


async def test_timers_are_one_a_length() -> None:
    """And no block is remembered after its end."""
    timeouts = Timeouts()
    for _ in range(1000):
        async with timeouts.within(300.0):
            pass
    assert len(timeouts._queues) == 1
    (queue,) = timeouts._queues.values()
    assert not queue._running
    together = Together()
    for _ in range(1000):
        async with together.within():
            pass
    assert not together._running


async def test_questions_are_over_with_their_streams() -> None:
    clock = FakeClock()
    deadline = Deadline(10.0, clock, spawn)
    for number in range(100):
        feed = Feed()
        answer = await within(deadline(call(), Script(streamed(feed))))
        feed.give(b"question", b"another", asking=True, question=number)
        feed.end()
        await within(read(answer))
    assert not deadline._asked


async def test_tasks_are_let_go_of() -> None:
    """What the assembly starts is remembered for as long as it runs."""
    tasks = Tasks()

    async def nothing() -> None:
        pass

    for _ in range(10):
        await asyncio.gather(*[tasks(nothing(), "nothing") for _ in range(100)])
    await SystemClock().sleep(0)
    assert not tasks._running

    for _ in range(10):
        tasks(asyncio.Event().wait(), "never")
    await within(tasks.end())
    assert not tasks._running


@pytest.mark.parametrize("make", [lambda: Bounds(1, 1, 0)])
async def test_without_a_queue_nobody_waits(make: Callable[[], Bounds]) -> None:
    admit = Admit(make(), FakeClock(), Told(), deadline=300.0)
    first = spawn(admit(call(WRITE, tool()), never), "call")
    await settle()
    for _ in range(10):
        with pytest.raises(OverloadedError):
            await admit(call(WRITE, tool()), never)
    first.cancel()
