"""The connections to the server: how many, for how long, and what aiohttp does with them unasked."""

import asyncio
import socket

import aiohttp
import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Call, Reply, Whole
from mcp_proxy.core.intent import OPAQUE
from mcp_proxy.edge.names import Names, accepts_connections
from mcp_proxy.edge.pool import open_pools, parser_is_compiled
from mcp_proxy.upstream.presence import State
from tests.edge.conftest import Opened
from tests.edge.test_failures import socket_without_room
from tests.edge.wire import (
    Client,
    Exchange,
    Upstream,
    answer,
    bound,
    chunk,
    chunked,
    get,
    post,
    request,
    result,
    sidecar,
    streamed,
    tool,
    unused_port,
)
from tests.fakes import settle
from tests.leaping import leap, leaping

LISTEN = get("/mcp", "Accept: text/event-stream")


async def listens(exchange: Exchange) -> None:
    await exchange.send(streamed())
    await exchange.left()


# --- streams and calls


async def test_two_hundred_open_streams_do_not_stop_calls(
    front: Opened, upstream: Upstream
) -> None:
    """Inherited default: a pool of 100 counts open event streams."""
    upstream.plays(listens)
    sidecar = await front(MCP_UPSTREAM_CONNECTIONS=2)
    clients: list[Client] = []
    for _ in range(200):
        context = sidecar.client()
        clients.append(await context.__aenter__())
        await clients[-1].send(LISTEN)
        assert (await clients[-1].head()).status == 200
    upstream.plays(answer(result(1, content=[])))
    async with bound(2):
        heard = await asyncio.gather(*(sidecar.ask(post("/mcp", tool("x"))) for _ in range(10)))
    assert {one.status for one in heard} == {200}
    assert len(upstream.open) <= 202
    for client in clients:
        await client.close()
    await upstream.until(lambda: len(upstream.open) <= 2)
    assert sidecar.sidecar.pools.open_streams == 0


async def test_open_streams_do_not_stop_our_own_looks(front: Opened, upstream: Upstream) -> None:
    upstream.plays(listens)
    sidecar = await front(MCP_STREAMS_LIMIT=1, MCP_HEALTH_INTERVAL=1)
    async with sidecar.client() as client:
        await client.send(LISTEN)
        await client.head()
        async with bound():
            found = await sidecar.sidecar.targets[0].monitor.look()
        assert found.status == 404


async def test_calls_share_a_bounded_number_of_connections(
    front: Opened, upstream: Upstream
) -> None:
    sidecar = await front(MCP_UPSTREAM_CONNECTIONS=3)
    await asyncio.gather(*(sidecar.ask(post("/x", b"{}")) for _ in range(30)))
    assert len(upstream.asked) == 30
    assert len(set(upstream.on)) <= 3


async def test_departures_leave_nothing_behind(front: Opened, upstream: Upstream) -> None:
    """F27, F46: connections and tasks are back where they were."""
    upstream.plays(listens)
    sidecar = await front()
    await sidecar.ask(get("/livez"))
    before = len(asyncio.all_tasks())
    for _ in range(50):
        async with sidecar.client() as client:
            await client.send(LISTEN)
            await client.head()
    await upstream.until(lambda: not upstream.open)
    await settle()
    assert sidecar.sidecar.pools.open_streams == 0
    assert sidecar.sidecar.metrics.in_flight == 0
    assert len(asyncio.all_tasks()) <= before + 1


# --- repeats that nobody asked for


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST"])
async def test_a_dropped_connection_is_tried_no_more_often_than_we_say(
    front: Opened, upstream: Upstream, method: str
) -> None:
    """Inherited default: aiohttp re-sends GET, PUT and DELETE once by itself (#10790)."""

    async def drops(exchange: Exchange) -> None:
        exchange.close()

    upstream.plays(answer(), drops)
    sidecar = await front(MCP_MAX_RETRIES=0)
    await sidecar.ask(request(method, "/warm"))
    heard = await sidecar.ask(request(method, "/x"))
    assert heard.status == 502
    assert upstream.on == [0, 0]


async def test_reads_are_tried_as_often_as_we_say(front: Opened, upstream: Upstream) -> None:
    """With three of ours the upstream saw six."""

    async def drops(exchange: Exchange) -> None:
        exchange.close()

    upstream.plays(answer(), answer(), drops)
    sidecar = await front(MCP_MAX_RETRIES=2)
    await asyncio.gather(sidecar.ask(get("/a")), sidecar.ask(get("/b")))
    await sidecar.ask(get("/x"))
    assert len(upstream.asked) == 2 + 3


# --- the keep-alive race


def a_write(target: str = "/x") -> Call:
    headers = CIMultiDict({"Host": "localhost", "Content-Length": "2"})
    return Call("POST", target, headers, Whole(b"{}"), OPAQUE, "request-1")


async def test_a_connection_that_the_server_has_closed_is_not_written_to() -> None:
    """F21: its FIN is in the kernel, and the loop has not looked yet; 200 of 200.

    Inherited default: written at once, the call fails, and nobody knows whether it was done.
    """
    accepted: list[socket.socket] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    loop = asyncio.get_running_loop()
    url = f"http://localhost:{listening.getsockname()[1]}"

    async def serves(one: socket.socket) -> None:
        while await loop.sock_recv(one, 65_536):
            await loop.sock_sendall(one, answer(b"done"))

    async def accepts() -> None:
        while True:
            one, _ = await loop.sock_accept(listening)
            accepted.append(one)
            serving.append(loop.create_task(serves(one)))

    serving: list[asyncio.Task[None]] = []
    accepting = loop.create_task(accepts())
    async with sidecar(url) as front, bound():
        target = front.sidecar.targets[0]
        target.presence.state = State.PRESENT  # else its tools are listed by a connection more
        for number in range(1, 51):
            reply: Reply = await target.outbound(a_write())
            assert reply.body == Whole(b"done")
            assert len(accepted) == number
            # no await in between: the loop cannot have seen it
            accepted[-1].shutdown(socket.SHUT_WR)
    for task in (accepting, *serving):
        task.cancel()
    await asyncio.gather(accepting, *serving, return_exceptions=True)
    for one in (listening, *accepted):
        one.close()


async def test_idle_connections_are_ours_for_less_than_python_servers_keep_them() -> None:
    """Inherited default: 15 s against uvicorn's 5; at that edge 2.5 % of POSTs failed."""
    pools = open_pools(3, 4, Names(lambda: 0.0))
    for session in (pools.calls, pools.streams):
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        assert connector._keepalive_timeout == 4.0
    assert pools.calls.connector.limit == 3
    await pools.aclose()


async def test_a_write_goes_over_a_fresh_connection_or_one_that_was_just_in_use(
    front: Opened, upstream: Upstream
) -> None:
    """F21: a server that closes idle connections early loses no write of ours; reads heal."""
    sidecar = await front()
    for method in ("GET", "POST", "POST", "GET"):
        assert (await sidecar.ask(request(method, "/x"))).status == 200
    assert upstream.on[0] == upstream.on[3] != upstream.on[1] == upstream.on[2]
    connector = sidecar.sidecar.pools.once.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    assert connector._keepalive_timeout == 0.5


# --- time


def test_a_stream_outlives_every_default() -> None:
    """Inherited default: a total of 300 s cuts every long stream."""

    async def outlives() -> None:
        upstream = Upstream()
        await upstream.start()
        later = asyncio.Event()

        async def says_later(exchange: Exchange) -> None:
            await exchange.send(streamed())
            await later.wait()
            await exchange.send(chunk(b": still here\n\n"))
            await exchange.left()

        upstream.plays(says_later)
        async with sidecar(upstream.url) as front, front.client() as client:
            await client.send(LISTEN)
            await client.head()
            await leap(100_000)
            later.set()
            assert await client.chunk() == b": still here\n\n"
        await upstream.stop()

    leaping(outlives)


def test_a_slow_call_has_the_time_that_we_say() -> None:
    """No clock of aiohttp's runs beside the deadline layer's."""

    async def takes_long() -> None:
        upstream = Upstream()
        await upstream.start()
        later = asyncio.Event()

        async def answers_later(exchange: Exchange) -> None:
            await later.wait()
            await exchange.send(answer(b"at last"))

        upstream.plays(answers_later)
        async with (
            sidecar(upstream.url, MCP_REQUEST_TIMEOUT=80_000) as front,
            front.client() as client,
        ):
            await client.send(post("/api/chat", b"{}"))
            await upstream.until(lambda: bool(upstream.asked))
            await leap(70_000)
            later.set()
            assert (await client.hear()).body == b"at last"
        await upstream.stop()

    leaping(takes_long)


# --- backpressure


async def test_a_slow_reader_holds_the_server_back(front: Opened, upstream: Upstream) -> None:
    """F12: what nobody reads is not collected here. Inherited default: 512 KiB a reader."""
    piece = bytes(1 << 20)
    sent = 0

    async def floods(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(answer(b"", "Transfer-Encoding: chunked"))
        for _ in range(48):
            await exchange.send(chunk(piece))
            sent += len(piece)
        await exchange.send(chunked())

    upstream.plays(floods)
    async with (await front()).client() as client:
        client.writer.transport.pause_reading()
        await client.send(get("/download"))
        before, idle = -1, 0
        while idle < 20:
            await settle()
            idle = idle + 1 if sent == before else 0
            before = sent
        assert sent < 32 << 20  # what the kernel's buffers hold
        client.writer.transport.resume_reading()
        await client.head()
        received = 0
        while piece_of_it := await client.chunk():
            received += len(piece_of_it)
        assert received == 48 << 20


# --- small things


def test_the_compiled_parser_is_in_use() -> None:
    """Most framing bugs were in the Python one."""
    assert parser_is_compiled()


async def test_a_port_is_tried_without_asking_anything(upstream: Upstream) -> None:
    assert await accepts_connections("localhost", upstream.port, 5.0)
    assert not await accepts_connections("localhost", unused_port(), 5.0)
    assert not await accepts_connections("nobody.invalid", 80, 5.0)
    assert not await accepts_connections("localhost", upstream.port, 0.2, tls=True)
    full = socket_without_room()
    assert not await accepts_connections("127.0.0.1", full[0].getsockname()[1], 0.05)
    for one in full:
        one.close()
    assert upstream.asked == upstream.looks == []
