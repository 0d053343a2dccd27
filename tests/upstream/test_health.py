"""How is the server? When it is looked at, and what is concluded."""

import asyncio

import pytest

from mcp_proxy.upstream.health import Monitor, Probe, Thresholds
from mcp_proxy.upstream.presence import Presence, State
from tests.fakes import FakeClock, settle, spawn

ALIVE = Probe(connected=True, status=200)
AWAY = Probe(connected=False, trouble="upstream_unreachable")
ILL = Probe(connected=True, status=500)
SILENT = Probe(connected=True, trouble="upstream_timeout")


class Bench:
    """A Monitor that finds what the test says."""

    def __init__(self, found: Probe = ALIVE, *, drawn: float = 0.5, grace: float = 3.0) -> None:
        self.clock = FakeClock()
        self.found = found
        self.looked: list[float] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.presence = Presence(
            self._connects, grace, self.clock, spawn, lambda before, after: None
        )
        self.told: list[bool] = []
        self.monitor = Monitor(
            self._probe,
            self.presence,
            self.clock,
            interval=5.0,
            thresholds=Thresholds(),
            rng=lambda: drawn,
            told=lambda found: self.told.append(found.alive),
        )

    async def _connects(self) -> bool:
        return self.found.connected

    async def _probe(self) -> Probe:
        self.looked.append(round(self.clock.now() - 1000.0, 3))
        found = self.found
        await self.answers.wait()
        return found

    async def run(self, seconds: float) -> list[float]:
        task = spawn(self.monitor.run(), "monitor")
        await self.clock.advance(seconds)
        task.cancel()
        await settle()
        return self.looked


# --- when


@pytest.mark.parametrize(
    ("drawn", "looks"), [(0.5, [0, 5, 10]), (0.0, [0, 4.5, 9]), (1.0, [0, 5.5, 11])]
)
async def test_it_looks_once_an_interval_give_or_take_a_tenth(
    drawn: float, looks: list[float]
) -> None:
    """F47: at most one probe per interval, jittered."""
    assert await Bench(drawn=drawn).run(12) == looks


async def test_a_lost_server_is_looked_at_every_second() -> None:
    """DESIGN section 4: the monitor probes every second until it answers."""
    bench = Bench(AWAY, grace=0.0)
    task = spawn(bench.monitor.run(), "monitor")
    await bench.clock.advance(3.5)
    assert bench.presence.state is State.LOST
    bench.found = ALIVE
    await bench.clock.advance(7)
    assert bench.presence.state is State.PRESENT
    assert bench.looked == [0, 1, 2, 3, 4, 9]
    task.cancel()
    await settle()


async def test_a_nudge_makes_it_look_at_once() -> None:
    bench = Bench()
    task = spawn(bench.monitor.run(), "monitor")
    await bench.clock.advance(2)
    bench.monitor.nudge()
    bench.monitor.nudge()
    await bench.clock.advance(5)
    assert bench.looked == [0, 2, 7]
    task.cancel()
    await settle()


async def test_a_nudge_while_it_looks_is_not_lost() -> None:
    """What was found may be older than the change that the nudge tells of."""
    bench = Bench()
    bench.answers.clear()
    task = spawn(bench.monitor.run(), "monitor")
    await bench.clock.advance(2)
    bench.monitor.nudge()
    bench.answers.set()
    await settle()
    assert bench.looked == [0, 2]
    task.cancel()
    await settle()


async def test_a_slow_server_is_never_asked_twice_at_a_time() -> None:
    bench = Bench()
    bench.answers.clear()
    assert await bench.run(60) == [0]


# --- what is concluded


@pytest.mark.parametrize(
    ("probe", "alive"), [(ALIVE, True), (Probe(True, 404), True), (ILL, False), (SILENT, False)]
)
def test_any_status_below_500_is_alive(probe: Probe, alive: bool) -> None:
    """DESIGN section 7, MCP_HEALTH_PATH."""
    assert probe.alive is alive


@pytest.mark.parametrize("found", [ALIVE, ILL, SILENT])
async def test_a_server_that_accepts_connections_is_present(found: Probe) -> None:
    """An ill server is there: its circuits say what ails it."""
    bench = Bench(found)
    assert await bench.monitor.look() is found
    assert bench.presence.state is State.PRESENT
    assert (bench.monitor.last, bench.monitor.probed) == (found, 1000.0)


async def test_failures_in_a_row_are_counted() -> None:
    bench = Bench(ILL)
    for expected in (1, 2, 3):
        await bench.monitor.look()
        assert bench.monitor.failures == expected
    bench.found = ALIVE
    await bench.monitor.look()
    assert bench.monitor.failures == 0


async def test_one_bad_probe_makes_nobody_unhealthy_and_one_good_one_nobody_healthy() -> None:
    """Issue 5: thresholds both ways."""
    bench = Bench(ILL)
    for probe, healthy in (
        (ILL, True), (SILENT, True), (ALIVE, True),  # two in a row are not enough
        (ILL, True), (ILL, True), (ILL, False),
        (ALIVE, False), (ILL, False),  # nor is one good one
        (ALIVE, False), (ALIVE, True),
    ):  # fmt: skip
        bench.found = probe
        await bench.monitor.look()
        assert bench.monitor.healthy is healthy
    assert bench.told == [False, True]
    assert bench.monitor.recovered == bench.clock.now()


async def test_a_server_in_trouble_is_looked_at_every_second() -> None:
    """So that it is out of the way after three seconds, and back after two."""
    bench = Bench(ILL)
    task = spawn(bench.monitor.run(), "monitor")
    await bench.clock.advance(3.5)
    bench.found = ALIVE
    await bench.clock.advance(7)
    assert bench.looked == [0, 1, 2, 3, 4, 5, 10]
    assert bench.told == [False, True]
    task.cancel()
    await settle()


async def test_a_server_that_is_away_is_not_unhealthy_too() -> None:
    """It has a state of its own for that, and is asked as soon as it is back."""
    bench = Bench(AWAY, grace=0.0)
    for _ in range(5):
        await bench.monitor.look()
    assert bench.monitor.healthy
    assert bench.told == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_server_that_is_away_is_bridged_before_it_is_lost(*, known: bool) -> None:
    bench = Bench()
    if known:
        await bench.monitor.look()
    bench.found = AWAY
    await bench.monitor.look()
    assert bench.presence.state is State.RESTARTING
    await bench.monitor.look()
    assert bench.presence.state is State.RESTARTING
    await bench.clock.advance(3)
    assert bench.presence.state is State.LOST
    await bench.monitor.look()
    assert bench.presence.state is State.LOST


async def test_without_grace_a_server_that_is_away_is_lost() -> None:
    bench = Bench(AWAY, grace=0.0)
    await bench.monitor.look()
    assert bench.presence.state is State.LOST


async def test_a_look_that_began_before_the_loss_does_not_undo_it() -> None:
    bench = Bench()
    bench.answers.clear()
    look = spawn(bench.monitor.look(), "look")
    await bench.clock.advance(1)
    bench.presence.gone()
    bench.answers.set()
    await settle()
    assert look.done()
    assert bench.presence.state is State.LOST


async def test_it_remembers_what_was_wrong_and_says_when_it_looks_again() -> None:
    """Issue 5: last error and next probe."""
    bench = Bench(ILL)
    assert bench.monitor.last_error is None
    await bench.run(0.5)
    assert bench.monitor.last_error == (1000.0, "status 500")
    assert bench.monitor.due == 1001.0
    bench.found = SILENT
    await bench.monitor.look()
    bench.found = ALIVE
    await bench.monitor.look()
    assert bench.monitor.last_error == (1000.5, "upstream_timeout")
