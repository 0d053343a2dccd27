"""Listening, serving and draining."""

import asyncio
import json
import logging
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_proxy.edge.serve import bind_all, bound, listen, until_stopped
from tests.edge.conftest import Opened
from tests.edge.wire import Exchange, Upstream, answer, chunk, get, post, sidecar, streamed, tool
from tests.edge.wire import bound as in_time
from tests.fakes import settle
from tests.leaping import leap, leaping

V4, V6 = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))
ELSEWHERE = (socket.AF_INET, ("192.0.2.1", 0))  # RFC 5737: nobody's


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.toml"
    file.write_text('[tools."read*"]\nread_only = true\n')
    return str(file)


# --- listening


async def test_a_free_port_is_taken_and_told(front: Opened) -> None:
    sidecar = await front()
    assert sidecar.urls[0] == f"http://127.0.0.1:{sidecar.port}"
    assert (await sidecar.ask(get("/livez"))).status == 200


async def test_a_name_that_nobody_has_is_an_error() -> None:
    with pytest.raises(OSError, match=r"known|address"):
        await bound("nobody.invalid", 0)


@NEEDS_IPV6
def test_all_addresses_of_a_name_take_the_same_port() -> None:
    """DESIGN section 7: whichever of IPv4 and IPv6 exists."""
    sockets = bind_all([V4, V6], 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert [one.family for one in sockets] == [socket.AF_INET, socket.AF_INET6]
    for one in sockets:
        one.close()


def test_an_address_that_this_machine_has_not_is_left_out() -> None:
    (one,) = bind_all([ELSEWHERE, V4], 0)
    assert one.getsockname()[0] == "127.0.0.1"
    one.close()
    with pytest.raises(OSError, match="assign requested address"):
        bind_all([ELSEWHERE], 0)
    with pytest.raises(OSError, match="no address"):
        bind_all([], 0)


@NEEDS_IPV6
@pytest.mark.parametrize("taken", [V4, V6])
def test_half_of_a_name_is_not_enough(taken: tuple[int, tuple[str, int]]) -> None:
    """Who asks for the other half would reach somebody else."""
    with socket.create_server(taken[1][:2], family=taken[0]) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind_all([V4, V6], port)
        # and nothing is kept of the other half
        free = V6 if taken is V4 else V4
        for one in bind_all([free], port):
            one.close()


async def test_no_delay_is_off(front: Opened) -> None:
    """Inherited default: without TCP_NODELAY an answer in two writes waits 40 ms."""
    (one,) = bind_all([V4], 0)
    assert one.proto == socket.IPPROTO_TCP
    one.close()


async def test_no_access_log_is_written(
    front: Opened, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Inherited default: it costs as much as the call."""
    caplog.set_level(logging.DEBUG, logger="aiohttp.access")
    await (await front()).ask(get("/x"))
    assert [record for record in caplog.records if record.name == "aiohttp.access"] == []


def test_an_idle_connection_is_kept_for_a_minute_and_not_for_an_hour() -> None:
    """Inherited default: 3630 s, and nobody bounds the number of connections."""

    async def idles() -> None:
        upstream = Upstream()
        await upstream.start()
        async with sidecar(upstream.url) as front, front.client() as client:
            await client.ask(get("/livez"))
            await leap(70)
            assert (await client.ask(get("/livez"))).status == 200
            await leap(80)
            assert await client.ended()
        await upstream.stop()

    leaping(idles)


# --- ending


@pytest.mark.parametrize("pieces", [0, 1])
def test_an_endless_stream_does_not_hold_the_exit(pieces: int) -> None:
    """Inherited default: it held it for twice 60 s; Docker kills after 10."""

    async def ends() -> None:
        upstream = Upstream()
        await upstream.start()

        async def endless(exchange: Exchange) -> None:
            await exchange.send(streamed(), *[b"3\r\n:\n\n\r\n"] * pieces)
            await exchange.left()

        upstream.plays(endless)
        context = sidecar(upstream.url)
        front = await context.__aenter__()
        async with front.client() as client:
            await client.send(get("/mcp"))
            await client.head()
            loop = asyncio.get_running_loop()
            closing = loop.create_task(context.__aexit__(None, None, None))
            for _ in range(12):
                await leap(0.1)
            await settle()
            assert closing.done() or (await asyncio.wait({closing}, timeout=1))[0]
        await upstream.stop()

    leaping(ends)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("clean", [True, False])
async def test_a_signal_drains(number: signal.Signals, *, clean: bool) -> None:
    """F26: and how the drain went is told."""
    drained: list[bool] = []

    async def drain() -> bool:
        drained.append(True)
        return clean

    stopping = asyncio.get_running_loop().create_task(until_stopped(drain))
    await settle()
    assert not drained
    os.kill(os.getpid(), number)
    async with in_time():
        assert await stopping is clean


async def test_a_second_signal_ends_the_drain_at_once() -> None:
    """F26: second SIGTERM = now."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def drain() -> bool:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return True

    stopping = asyncio.get_running_loop().create_task(until_stopped(drain))
    await settle()
    os.kill(os.getpid(), signal.SIGTERM)
    async with in_time():
        await begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await stopping is False
        await left.wait()


async def test_a_drain_waits_for_calls_and_no_longer_than_the_grace(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 7, MCP_SHUTDOWN_GRACE."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    upstream.plays(slow)
    for grace, clean in ((5, True), (0, False)):
        go_on.clear()
        sidecar = await front(MCP_SHUTDOWN_GRACE=grace)
        asked = len(upstream.asked)
        async with sidecar.client() as client:
            await client.send(get("/x"))
            await upstream.until(lambda asked=asked: len(upstream.asked) > asked)
            draining = asyncio.get_running_loop().create_task(sidecar.sidecar.drain())
            await settle()
            assert (await sidecar.ask(get("/y"))).json["code"] == "draining"
            if clean:
                go_on.set()
                assert (await client.hear()).body == b"done"
            async with in_time():
                assert await draining is clean


async def test_listening_twice_is_an_error(front: Opened) -> None:
    sidecar = await front()
    with pytest.raises(OSError, match="in use"):
        await listen(sidecar.sidecar.inbound, "localhost", sidecar.port)


async def test_a_drain_ends_listening_streams_cleanly(front: Opened, upstream: Upstream) -> None:
    """F26: end SSE cleanly; they would hold the drain for ever."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(streamed(), b"4\r\n: \n\n\r\n")
        await exchange.left()

    upstream.plays(endless)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as one, sidecar.client() as two:
        for client, target in ((one, "/mcp"), (two, "/sse")):
            await client.send(get(target))
            await client.head()
            assert await client.chunk() == b": \n\n"
        async with in_time(1):
            assert await sidecar.sidecar.drain() is True
        for client in (one, two):
            assert await client.chunk() == b""
    await upstream.until(lambda: not upstream.open)


@pytest.mark.parametrize("half", [b"data: x", b"data: x\n", b"id: 1\n\nda"])
async def test_a_drain_lets_an_event_come_to_its_end(
    front: Opened, upstream: Upstream, half: bytes
) -> None:
    """The plan's words: streams end with a clean last event; half of one is none."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.send(streamed(), chunk(b": \n\n"))
        await exchange.send(chunk(b"data: first\n\n" + half))
        await go_on.wait()
        await exchange.send(chunk(b"ta: 2\n"), chunk(b"\n"), chunk(b"data: never\n\n"))
        await exchange.left()

    upstream.plays(slow)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        seen = b""
        while not seen.endswith(half):
            seen += await client.chunk()
        draining = asyncio.get_running_loop().create_task(sidecar.sidecar.drain())
        await settle()
        assert not draining.done()
        go_on.set()
        while piece := await client.chunk():
            seen += piece
        async with in_time():
            assert await draining is True
    whole, _, rest = seen.partition(half + b"ta: 2\n\n")
    assert whole.endswith(b"data: first\n\n")
    # what came together with the end of the event may go out with it, if it is whole
    assert rest in {b"", b"data: never\n\n"}


async def test_an_event_that_never_ends_is_cut_and_does_not_look_whole(
    front: Opened, upstream: Upstream
) -> None:
    async def stuck(exchange: Exchange) -> None:
        await exchange.send(streamed(), chunk(b"data: first\n\n"), chunk(b"data: ha"))
        await exchange.left()

    upstream.plays(stuck)
    async with AsyncExitStack() as open_:
        context = sidecar(upstream.url, MCP_SHUTDOWN_GRACE=0)
        front_ = await context.__aenter__()
        client = await open_.enter_async_context(front_.client())
        await client.send(get("/mcp"))
        await client.head()
        seen = b""
        while not seen.endswith(b"ha"):
            seen += await client.chunk()
        assert await front_.sidecar.drain() is False
        await context.__aexit__(None, None, None)
        assert await client.ended(), "no last chunk"


async def test_an_encoded_stream_is_ended_as_it_is(front: Opened, upstream: Upstream) -> None:
    """Nobody here knows where its events end."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(
            streamed("text/event-stream", "Content-Encoding: gzip"), chunk(b"\x1f\x8b")
        )
        await exchange.left()

    upstream.plays(endless)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        await client.chunk()
        async with in_time(1):
            assert await sidecar.sidecar.drain() is True
        assert await client.chunk() == b""


async def test_a_stream_that_begins_in_the_drain_ends_at_once(
    front: Opened, upstream: Upstream
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(endless)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    # as if its head came in the very step in which the drain began
    sidecar.sidecar.inbound._listening.end()
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        assert await client.chunk() == b""


async def test_calls_that_outlast_the_grace_are_told_the_truth(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """Our promise: in every dialect, that nobody knows what came of them; a read may be repeated."""

    async def endless(exchange: Exchange) -> None:
        if b"streamed" in exchange.asked.body:
            await exchange.send(streamed(), chunk(b": \n\n"))
        await exchange.left()

    upstream.plays(endless)
    sidecar = await front(MCP_SHUTDOWN_GRACE=0, MCP_CONFIG_FILE=rules)
    rest = {"service": "s", "params": {}}
    asked = [
        post("/mcp", tool("write")),
        post("/mcp", tool("streamed")),
        post("/api/call-tool", {**rest, "tool_name": "write"}),
        post("/api/call-tool", {**rest, "tool_name": "read"}),
    ]
    async with AsyncExitStack() as open_:
        clients = [await open_.enter_async_context(sidecar.client()) for _ in asked]
        for client, raw in zip(clients, asked, strict=True):
            await client.send(raw)
        await clients[1].head()
        assert await clients[1].chunk() == b": \n\n"
        await upstream.until(lambda: len(upstream.asked) == len(asked))
        async with in_time(1):
            assert await sidecar.sidecar.drain() is False
        last = await clients[1].chunk()
        assert await clients[1].chunk() == b"", "and it ends properly"
        plain, write, read = [await clients[number].hear() for number in (0, 2, 3)]
    details = [
        plain.json["result"]["_meta"]["mcp_proxy/error"],
        json.loads(last.partition(b"data: ")[2])["result"]["_meta"]["mcp_proxy/error"],
        write.json["error_details"],
        read.json["error_details"],
    ]
    assert [one["code"] for one in details] == ["draining"] * 4
    assert [one["delivered"] for one in details] == ["unknown"] * 4
    assert [one["retryable"] for one in details] == [False, False, False, True]
    assert ["Retry-After" in one for one in (plain, write, read)] == [False, False, True]
    told = [one for one in sidecar.told() if one["event"] == "tool.call.completed"]
    assert len(told) == 4
    assert {one["verdict"] for one in told} == {"upstream_failed"}


async def test_a_drain_lets_a_streamed_answer_come_to_its_end(
    front: Opened, upstream: Upstream
) -> None:
    """F26: finish what is in flight within the grace."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.send(streamed(), b"4\r\n: \n\n\r\n")
        await go_on.wait()
        await exchange.send(b"4\r\n: \n\n\r\n0\r\n\r\n")

    upstream.plays(slow)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client:
        await client.send(get("/api/feed"))
        await client.head()
        await client.chunk()
        draining = asyncio.get_running_loop().create_task(sidecar.sidecar.drain())
        await settle()
        assert not draining.done()
        go_on.set()
        assert await client.chunk() == b": \n\n"
        assert await client.chunk() == b""
        async with in_time():
            assert await draining is True


async def test_a_body_that_the_server_cuts_is_no_mistake_of_ours(
    front: Opened, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """F3: the connection is broken off and the call says why; a traceback would blame the sidecar."""

    async def cuts(exchange: Exchange) -> None:
        await exchange.send(answer(b"half", "Content-Length: 2000000", kind="text/plain"))
        exchange.close()

    upstream.plays(cuts)
    heard = await (await front()).ask(get("/page"))
    assert not heard.whole
    await settle()
    assert [record.getMessage() for record in caplog.records] == []
