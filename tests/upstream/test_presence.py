"""Is the server there? A restart is bridged once for all who wait."""

import asyncio

import pytest

from mcp_proxy.upstream.fleet import Fleet
from mcp_proxy.upstream.presence import Presence, State
from tests.fakes import FakeClock, settle, spawn, within


class Bench:
    """A Presence, and a server that is there or not."""

    def __init__(self, grace: float = 3.0) -> None:
        self.clock = FakeClock()
        self.there = False
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.tries: list[float] = []
        self.told: list[tuple[str, str]] = []
        self.presence = Presence(self._connects, grace, self.clock, spawn, self._tell)
        self.fleet = Fleet({"": self.presence})  # through which calls wait

    def _tell(self, before: State, after: State) -> None:
        self.told.append((before.value, after.value))

    async def _connects(self) -> bool:
        self.tries.append(round(self.clock.now() - 1000.0, 3))
        await self.hangs.wait()
        return self.there

    def answered(self) -> None:
        self.presence.answered(self.clock.now())

    async def waiters(self, number: int) -> list[asyncio.Task[bool]]:
        tasks = [spawn(self.fleet.returned(""), "waiter") for _ in range(number)]
        await settle()
        return tasks


async def test_nothing_is_known_before_the_first_connection() -> None:
    bench = Bench()
    assert bench.presence.state is State.UNKNOWN
    assert not await within(bench.fleet.returned(""))
    bench.answered()
    assert bench.presence.state is State.PRESENT
    assert await within(bench.fleet.returned(""))


async def test_a_change_is_told_once_with_its_time() -> None:
    bench = Bench()
    await bench.clock.advance(5)
    bench.answered()
    bench.answered()
    assert bench.told == [("unknown", "present")]
    assert bench.presence.since == 1005.0
    bench.presence.gone()
    bench.presence.gone()
    assert bench.told == [("unknown", "present"), ("present", "lost")]


@pytest.mark.parametrize("known", [True, False])
async def test_a_refusal_begins_a_bridge_of_one_try_every_quarter_second(*, known: bool) -> None:
    """DESIGN section 4, Restart grace."""
    bench = Bench()
    if known:
        bench.answered()
    assert bench.presence.refused()
    assert bench.presence.state is State.RESTARTING
    await bench.clock.advance(1.1)
    assert bench.tries == [0.25, 0.5, 0.75, 1.0]
    bench.there = True
    await bench.clock.advance(1)
    assert bench.presence.state is State.PRESENT
    assert len(bench.tries) == 5, "the bridge ends with the first connection"


async def test_all_who_wait_share_one_bridge() -> None:
    """F23: shared connect tries."""
    bench = Bench()
    for _ in range(100):
        assert bench.presence.refused()
    waiters = await bench.waiters(100)
    await bench.clock.advance(0.6)
    bench.there = True
    await bench.clock.advance(0.25)
    assert await within(asyncio.gather(*waiters)) == [True] * 100
    assert bench.tries == [0.25, 0.5, 0.75]


async def test_a_server_that_does_not_return_within_the_grace_is_lost() -> None:
    bench = Bench(grace=3.0)
    bench.answered()
    assert bench.presence.refused()
    waiters = await bench.waiters(3)
    await bench.clock.advance(2.99)
    assert bench.presence.state is State.RESTARTING
    await bench.clock.advance(0.01)
    assert await within(asyncio.gather(*waiters)) == [False] * 3
    assert bench.told[-1] == ("restarting", "lost")
    assert not bench.presence.refused(), "who is refused now must not wait"
    assert not await within(bench.fleet.returned(""))
    await bench.clock.advance(60)
    assert bench.tries[-1] == 3.0, "from here on the monitor looks"


async def test_without_grace_nothing_is_bridged() -> None:
    bench = Bench(grace=0.0)
    bench.answered()
    assert not bench.presence.refused()
    assert bench.presence.state is State.PRESENT


async def test_a_waiter_that_leaves_does_not_end_the_bridge() -> None:
    bench = Bench()
    bench.presence.refused()
    leaver, waiter = await bench.waiters(2)
    leaver.cancel()
    await settle()
    bench.there = True
    await bench.clock.advance(0.25)
    assert leaver.cancelled()
    assert await within(waiter)


async def test_any_connection_ends_the_restart() -> None:
    bench = Bench()
    bench.presence.refused()
    [waiter] = await bench.waiters(1)
    await bench.clock.advance(0.1)
    bench.answered()
    await bench.clock.advance(0.25)
    assert await within(waiter)


async def test_a_lost_server_that_answers_is_present_again() -> None:
    bench = Bench()
    bench.presence.gone()
    bench.answered()
    assert bench.told == [("unknown", "lost"), ("lost", "present")]
    assert bench.presence.refused(), "its next restart is bridged again"


async def test_what_was_under_way_when_the_server_went_says_nothing_of_its_return() -> None:
    """A server that shuts down in good order answers its last calls after it has stopped to listen."""
    bench = Bench()
    bench.answered()
    asked = bench.clock.now()
    await bench.clock.advance(1)
    bench.presence.refused()
    bench.presence.answered(asked)
    assert bench.presence.state is State.RESTARTING
    await bench.clock.advance(3)
    assert bench.presence.state is State.LOST
    bench.presence.answered(asked)
    assert bench.presence.state is State.LOST
    assert len(bench.told) == 3


async def test_a_second_restart_has_a_bridge_and_a_grace_of_its_own() -> None:
    """The first bridge still hangs in its connect try when the second restart begins."""
    bench = Bench(grace=3.0)
    bench.presence.refused()
    bench.hangs.clear()
    await bench.clock.advance(0.25)
    bench.answered()
    await bench.clock.advance(2.5)
    bench.presence.refused()
    await bench.clock.advance(0.1)
    [waiter] = await bench.waiters(1)
    bench.hangs.set()
    await bench.clock.advance(2.8)
    assert bench.presence.state is State.RESTARTING
    assert len(bench.tries) == len(set(bench.tries)), "one try at a time"
    bench.there = True
    await bench.clock.advance(0.25)
    assert await within(waiter)


async def test_who_waits_for_one_restart_and_meets_the_next_waits_on() -> None:
    bench = Bench()
    bench.presence.refused()
    [waiter] = await bench.waiters(1)
    await bench.clock.advance(0.1)
    bench.answered()
    bench.presence.refused()
    await bench.clock.advance(0.2)
    assert not waiter.done()
    bench.there = True
    await bench.clock.advance(0.5)
    assert await within(waiter)
