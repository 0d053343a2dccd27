"""Several targets, told as one."""

import asyncio

import pytest

from mcp_proxy.upstream.fleet import Fleet
from mcp_proxy.upstream.presence import Presence
from tests.fakes import FakeClock, settle, spawn, within


class Bench:
    """Targets `a` and `b`, which are there or not."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.there: set[str] = set()
        self.of = {name: self._presence(name) for name in ("a", "b")}
        self.fleet = Fleet(self.of)

    def _presence(self, name: str) -> Presence:
        async def connects() -> bool:
            return name in self.there

        return Presence(connects, 3.0, self.clock, spawn, lambda before, after: None)

    async def waiter(self, target: str = "") -> asyncio.Task[bool]:
        task = spawn(self.fleet.returned(target), "waiter")
        await settle()
        return task


async def test_who_waits_for_any_goes_on_with_the_first_that_returns() -> None:
    bench = Bench()
    for presence in bench.of.values():
        assert presence.refused()
    anyone, for_a = await bench.waiter(), await bench.waiter("a")
    bench.there = {"b"}
    await bench.clock.advance(0.25)
    assert await within(anyone)
    assert not for_a.done()
    bench.there = {"a"}
    await bench.clock.advance(0.25)
    assert await within(for_a)


async def test_where_all_are_lost_nobody_waits() -> None:
    bench = Bench()
    for presence in bench.of.values():
        presence.refused()
    anyone = await bench.waiter()
    await bench.clock.advance(3.0)
    assert not await within(anyone)
    assert not await within(bench.fleet.returned(""))


async def test_the_loss_of_one_does_not_end_the_waiting_for_the_other() -> None:
    bench = Bench()
    bench.of["a"].refused()
    await bench.clock.advance(1.0)
    bench.of["b"].refused()
    anyone = await bench.waiter()
    await bench.clock.advance(2.0)
    assert not anyone.done(), "b is away for two seconds only"
    bench.there = {"b"}
    await bench.clock.advance(0.25)
    assert await within(anyone)


async def test_a_bridge_that_is_cancelled_ends_the_waiting() -> None:
    """The sidecar is shutting down."""
    bench = Bench()
    bench.of["a"].refused()
    anyone = await bench.waiter()
    bridge = bench.of["a"].bridge
    assert bridge is not None
    bridge.cancel()
    assert not await within(anyone)


async def test_a_waiter_that_leaves_takes_nobody_with_it() -> None:
    bench = Bench()
    bench.of["a"].refused()
    leaver, waiter = await bench.waiter(), await bench.waiter()
    leaver.cancel()
    await settle()
    bench.there = {"a"}
    await bench.clock.advance(0.25)
    assert await within(waiter)
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_all_together_restart_while_none_is_there() -> None:
    bench = Bench()
    a, b = bench.of.values()
    assert not bench.fleet.restarting
    a.refused()
    assert bench.fleet.restarting, "the other one is not known to be there"
    b.answered(bench.clock.now())
    assert not bench.fleet.restarting
    b.gone()
    assert bench.fleet.restarting
    await bench.clock.advance(3)
    assert not bench.fleet.restarting


async def test_departures_are_those_of_all() -> None:
    bench = Bench()
    for presence in bench.of.values():
        presence.answered(bench.clock.now())
        presence.gone()
    assert bench.fleet.departures == 2
