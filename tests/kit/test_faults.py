"""Faults around an answer, as they show on the wire and in the ledger."""

import asyncio

import pytest

from tests.edge.wire import Client
from tests.fakes import FakeClock, settle
from tests.kit.conftest import READ, WRITE
from tests.kit.faults import Busy, Close, CloseAfter, CloseOnNext, Crash, Hang, Reset, Slow
from tests.kit.seen import Fate, see
from tests.kit.sent import connected, open_session
from tests.kit.upstream import Upstream

# --- no answer


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("kind", [Reset, Close, Crash, Hang])
async def test_no_answer_comes_whether_it_was_executed_or_not(
    upstream: Upstream, kind: type[Reset | Hang], *, executed: bool
) -> None:
    upstream.plays(WRITE.tool, kind(executed))
    async with connected(upstream.port) as client:
        await client.send(WRITE.rest())
        await upstream.until(lambda: upstream.scripts.played)
        if kind is not Hang:
            assert await client.ended()
    assert upstream.ledger.runs(WRITE.tool) == executed
    await upstream.until(lambda: not upstream.connections)


async def test_a_reset_is_a_reset_and_a_close_is_none(upstream: Upstream) -> None:
    upstream.plays(WRITE.tool, Reset(), Close())
    async with connected(upstream.port) as client:
        await client.send(WRITE.rest())
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
    async with connected(upstream.port) as client:
        await client.send(WRITE.rest())
        assert await client.reader.read() == b""


async def test_a_hang_says_nothing_while_the_caller_stays(
    upstream: Upstream, client: Client
) -> None:
    upstream.plays(WRITE.tool, Hang())
    await client.send(WRITE.rest())
    await upstream.until(lambda: upstream.arrived[WRITE.tool])
    reading = asyncio.get_running_loop().create_task(client.reader.read(1))
    await settle()
    assert not reading.done()
    async with connected(upstream.port) as other:
        assert (await other.ask(READ.rest())).status == 200, "other tools do not notice"
    reading.cancel()


async def test_a_crash_takes_everybody_down(upstream: Upstream, client: Client) -> None:
    """F23."""
    session = await open_session(client)
    upstream.plays(WRITE.tool, Crash())
    async with connected(upstream.port) as other:
        await other.send(WRITE.rest())
        assert await other.ended()
    assert await client.ended()
    with pytest.raises(ConnectionRefusedError):
        async with connected(upstream.port):
            pass
    upstream.accept()
    async with connected(upstream.port) as again:
        assert (await again.ask(READ.mcp(session))).status == 404
        assert (await again.ask(WRITE.rest())).status == 200


async def test_a_server_that_crashed_is_back_after_a_while(
    upstream: Upstream, client: Client, clock: FakeClock
) -> None:
    upstream.plays(WRITE.tool, Crash(away=2.0))
    await client.send(WRITE.rest())
    assert await client.ended()
    await clock.advance(1.9)
    assert not upstream.accepts
    await clock.advance(0.1)
    await upstream.until(lambda: upstream.accepts)
    async with connected(upstream.port) as again:
        assert (await again.ask(WRITE.rest())).status == 200


# --- late answers


async def test_an_answer_waits_for_the_test(upstream: Upstream, client: Client) -> None:
    go = asyncio.Event()
    upstream.plays(WRITE.tool, Slow(go))
    await client.send(WRITE.rest())
    await upstream.until(lambda: upstream.arrived[WRITE.tool])
    assert upstream.ledger.runs(WRITE.tool) == 0
    go.set()
    assert see(WRITE, await client.hear()).fate is Fate.DONE


async def test_an_answer_waits_for_time(
    upstream: Upstream, client: Client, clock: FakeClock
) -> None:
    upstream.plays(WRITE.tool, Slow(30.0))
    await client.send(WRITE.rest())
    await upstream.until(lambda: upstream.arrived[WRITE.tool])
    await clock.advance(29.9)
    assert upstream.ledger.runs(WRITE.tool) == 0
    await clock.advance(0.1)
    assert (await client.hear()).status == 200
    assert clock.slept == [30.0]


async def test_a_slow_server_goes_on_when_its_caller_has_left(upstream: Upstream) -> None:
    """So whoever gave up must say `unknown`."""
    go = asyncio.Event()
    upstream.plays(WRITE.tool, Slow(go))
    async with connected(upstream.port) as client:
        await client.send(WRITE.rest())
        await upstream.until(lambda: upstream.arrived[WRITE.tool])
    go.set()
    await upstream.until(lambda: upstream.ledger.runs(WRITE.tool) == 1)


async def test_a_busy_server_lets_callers_wait_for_its_workers(
    upstream: Upstream, clock: FakeClock
) -> None:
    """F48: and it works for those who have left, too."""
    upstream.plays(WRITE.tool, then=Busy(asyncio.Semaphore(1), 1.0))
    async with connected(upstream.port) as first:
        async with connected(upstream.port) as second:
            await first.send(WRITE.rest())
            await upstream.until(lambda: upstream.arrived[WRITE.tool])
            await second.send(WRITE.rest())
            await upstream.until(lambda: upstream.arrived[WRITE.tool] == 2)
        await clock.advance(0.9)
        assert upstream.ledger.runs(WRITE.tool) == 0
        await clock.advance(0.1)
        assert see(WRITE, await first.hear()).fate is Fate.DONE
    assert upstream.ledger.runs(WRITE.tool) == 1
    await clock.advance(1.0)
    await upstream.until(lambda: upstream.ledger.runs(WRITE.tool) == 2)


# --- connections that end between two requests (F21)


async def test_a_connection_ends_after_its_answer_without_notice(
    upstream: Upstream, client: Client
) -> None:
    upstream.plays(WRITE.tool, then=CloseAfter())
    heard = await client.ask(WRITE.rest())
    assert heard.status == 200
    assert "Connection" not in heard
    assert await client.reader.read() == b""


async def test_a_connection_ends_at_the_moment_of_the_next_request(
    upstream: Upstream, client: Client
) -> None:
    """The caller has written, and gets a reset; the server has read nothing of it."""
    upstream.plays(READ.tool, CloseOnNext())
    assert (await client.ask(READ.rest())).status == 200
    reading = asyncio.get_running_loop().create_task(client.reader.read(1))
    await settle()
    assert not reading.done(), "until then the connection looks as good as any"
    await client.send(WRITE.rest())
    with pytest.raises(ConnectionResetError):
        await reading
    assert upstream.arrived == {READ.tool: 1}
    assert upstream.ledger.runs(WRITE.tool) == 0


async def test_a_connection_that_waits_so_can_be_dropped_like_any(
    upstream: Upstream, client: Client
) -> None:
    upstream.plays(READ.tool, CloseOnNext())
    await client.ask(READ.rest())
    upstream.drop()
    with pytest.raises(ConnectionResetError):
        await client.reader.read()


async def test_an_idle_caller_may_leave_such_a_connection(upstream: Upstream) -> None:
    upstream.plays(READ.tool, CloseOnNext())
    async with connected(upstream.port) as client:
        await client.ask(READ.rest())
    await upstream.until(lambda: not upstream.connections)
