"""Each table of the edge, asked for ten times what it may hold (F28, F46)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp.abc import AbstractResolver

from mcp_proxy.edge import answer as answering
from mcp_proxy.edge import express, heartbeat, inbound, live, mail, names
from mcp_proxy.edge.heartbeat import Heartbeat
from mcp_proxy.edge.mail import Mail
from mcp_proxy.edge.names import Names
from mcp_proxy.layers.clock import Tasks
from tests.edge.conftest import Opened
from tests.edge.test_mail import ENDPOINT, posted
from tests.edge.wire import (
    Answer,
    Client,
    Exchange,
    Front,
    Upstream,
    answer,
    get,
    post,
    request,
    streamed,
)
from tests.fakes import FakeClock, settle
from tests.garbage import uncollected

DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "2026-01-01T00:00:00"}'


async def asked_often(sidecar: Front, number: int, path: str, **fields: Any) -> None:
    """Ask so many times with other heads, each twice, on one connection."""
    async with sidecar.client() as client:
        for one in range(number):
            raw = post(path, fields, f"X-Caller: {one}")
            for _ in range(2):
                assert (await client.ask(raw)).status == 200


@pytest.fixture
async def reader(front: Opened, upstream: Upstream, tmp_path: Path) -> Front:
    """Open a sidecar that keeps the answers of `look`."""
    (tmp_path / "rules.toml").write_text('[tools."look"]\nread_only = true\n')
    upstream.plays(answer(DONE))
    return await front(MCP_CONFIG_FILE=tmp_path / "rules.toml", MCP_LOG_LEVEL="error")


async def test_heads_of_ten_times_as_many_callers(reader: Front) -> None:
    """What has passed the checks, and what may be answered at once."""
    look = {"service": "jira", "tool_name": "look", "params": {}}
    app = reader.sidecar.inbound
    await asked_often(reader, 10 * express._REMEMBERED, "/api/call-tool", **look)
    assert app.express is not None
    assert 0 < len(app.express._heads) <= express._REMEMBERED
    assert 0 < len(app._passed) <= inbound._REMEMBERED
    assert app._marks._gap_in.cache_info().currsize <= 512


async def test_what_a_call_made_waits_for_no_collector(reader: Front) -> None:
    """What holds itself is free only when the collector comes, which takes 100 000 calls."""

    async def ask(client: Client, numbers: range) -> None:
        for number in numbers:
            for tool in ("look", f"write_{number}"):
                fields = {"service": "s", "tool_name": tool, "params": {"number": number}}
                assert (await client.ask(post("/api/call-tool", fields))).status == 200

    async with reader.client() as client:
        await ask(client, range(20))
        with uncollected() as ours:
            await ask(client, range(20, 60))
        assert ours == []


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def cuts(exchange: Exchange) -> None:
    await exchange.send(answer(b"{", "Content-Length: 9"))
    exchange.close()


async def never(exchange: Exchange) -> None:
    await exchange.left()


@pytest.mark.parametrize(
    "fails",
    [resets, never, answer(status="503 Service Unavailable"), cuts],
    ids=["reset", "left by its client", "status", "cut"],
)
async def test_what_a_failed_call_made_waits_for_no_collector(
    reader: Front, upstream: Upstream, fails: Answer
) -> None:
    """An error holds the frames that it came through, and some of them hold the error."""
    upstream.plays(fails)
    calls = count()

    async def ask(times: int) -> None:
        for number in islice(calls, times):
            for tool in ("look", "write"):
                fields = {"service": "s", "tool_name": tool, "params": {"number": number}}
                await answered_or_left(reader, upstream, post("/api/call-tool", fields), fails)

    await ask(10)
    with uncollected() as ours:
        await ask(10)
        async with asyncio.timeout(20):  # noqa: TID251 - bounds the test
            while reader.sidecar.connections()["open"]:
                await settle()
    assert ours == []


async def answered_or_left(front: Front, upstream: Upstream, raw: bytes, fails: Answer) -> None:
    """Ask on a connection of its own; leave once the server has the call if it never answers."""
    begun, open_before = upstream.begun, front.sidecar.metrics.in_flight
    async with front.client() as client:
        await client.send(raw)
        if fails is not never:
            assert (await client.hear()).status >= 500
            return
        await upstream.until(lambda: upstream.begun > begun)
    async with asyncio.timeout(20):  # noqa: TID251 - bounds the test
        while front.sidecar.metrics.in_flight > open_before:
            await settle()


async def test_what_was_refused_and_then_answered_leaves_nothing_either(
    front: Opened, upstream: Upstream
) -> None:
    """aiohttp's connector holds the error that it raises in a frame of its own."""
    sidecar = await front(MCP_RESTART_GRACE=20, MCP_LOG_LEVEL="error")

    async def restarts() -> None:
        port = upstream.port
        await upstream.stop()
        async with sidecar.client() as client:
            await client.send(post("/api/call-tool", {"service": "s", "tool_name": "t"}))
            async with asyncio.timeout(20):  # noqa: TID251 - bounds the test
                while not sidecar.sidecar.metrics.in_flight:
                    await settle()
            await upstream.start(port)
            assert (await client.hear()).status == 200

    await restarts()
    with uncollected() as ours:
        await restarts()
        async with asyncio.timeout(20):  # noqa: TID251 - bounds the test
            while sidecar.sidecar.connections()["open"]:
                await settle()
    assert ours == []


async def test_ten_times_as_many_targets(front: Opened, upstream: Upstream) -> None:
    """URLs, time limits and lines that are made once."""
    sidecar = await front(MCP_LOG_LEVEL="error")
    outbound = cast("Any", sidecar.sidecar.targets[0]).outbound
    async with sidecar.client() as client:
        for number in range(2560):
            lines = ("Transfer-Encoding: chunked", f"X-Caller: {number}")
            body = b"0\r\n\r\n"
            assert (
                await client.ask(request("PUT", f"/x?{number}", *lines, body=body))
            ).status == 200
            assert (await client.ask(get("/x", f"X-Caller: {number}"))).status == 200
    assert 0 < len(outbound._urls) <= 256
    assert 0 < len(outbound._timeouts) <= 100
    assert 0 < len(outbound._lines) <= 512


# --- streams


async def test_ten_times_as_many_watchers_at_once(front: Opened) -> None:
    """All that come together; then those who leave make room for others."""
    sidecar = await front()
    async with asyncio.timeout(60):  # noqa: TID251 - bounds the test
        clients = [
            await asyncio.open_connection("127.0.0.1", sidecar.port)
            for _ in range(10 * live._WATCHERS)
        ]
        for _, writer in clients:
            writer.write(get("/api/events"))
        lines = [await reader.readline() for reader, _ in clients]
    assert sum(b" 200 " in line for line in lines) == live._WATCHERS
    assert sum(b" 503 " in line for line in lines) == 9 * live._WATCHERS
    assert sidecar.sidecar.live.watchers == live._WATCHERS
    for _, writer in clients:
        writer.close()
    while sidecar.sidecar.live.watchers:
        await settle()
    assert (await sidecar.ask(get("/livez"))).status == 200


@pytest.mark.parametrize("path", ["/api/events", "/api/events/ws"])
async def test_a_watcher_that_is_refused_takes_no_place(front: Opened, path: str) -> None:
    sidecar = await front()
    for query in ("?level=nonsense", "?replay=x"):
        await sidecar.ask(get(path + query))
    for field in ("Upgrade: nonsense", "Upgrade: websocket"):
        await sidecar.ask(get("/api/events/ws", field))
    await settle()
    assert sidecar.sidecar.live.watchers == 0


async def test_ten_times_as_many_streams_are_refused(front: Opened, upstream: Upstream) -> None:
    """MCP_STREAMS_LIMIT; listeners and their heartbeats are forgotten with them."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(endless)
    sidecar = await front(MCP_STREAMS_LIMIT=5)

    @asynccontextmanager
    async def many() -> AsyncIterator[list[Client]]:
        opened = []
        for _ in range(50):
            context = sidecar.client()
            opened.append((context, await context.__aenter__()))
        yield [client for _, client in opened]
        for context, _ in opened:
            await context.__aexit__(None, None, None)

    async with many() as clients:
        statuses = []
        for client in clients:
            await client.send(get("/mcp", "Accept: text/event-stream"))
            statuses.append((await client.head()).status)
        assert statuses == [200] * 5 + [503] * 45
        assert len(sidecar.sidecar.inbound._listening._running) == 5
        assert len(sidecar.sidecar.inbound._heartbeat._open) == 5
    while sidecar.sidecar.pools.open_streams:
        await settle()
    assert sidecar.sidecar.inbound._listening._running == {}
    assert sidecar.sidecar.inbound._heartbeat._open == {}


async def test_a_reader_that_takes_nothing_gets_one_comment_and_no_more() -> None:
    """Each period began a task that waited for it, for as long as it stayed: 4320 a day."""
    clock, tasks, written = FakeClock(), Tasks(), []

    class Stalled:
        async def write(self, data: bytes) -> None:
            written.append(data)
            await asyncio.Event().wait()

    beats = Heartbeat(20.0, clock, tasks)
    with beats.on(cast("answering.Answer", Stalled())):
        for _ in range(100):
            await clock.advance(20)
        assert written == [heartbeat._COMMENT]
        assert len(tasks._running) == 2  # it, and who looks after all of them
    await tasks.end()


def test_ten_times_as_many_answers_that_never_come() -> None:
    """Of a legacy stream; and ids of any length take the same room."""
    box = (letters := Mail(1 << 20)).box()
    box.saw(ENDPOINT)
    for number in range(10 * mail._MOST):
        name = f"{number}".encode() + b"x" * 10_000
        letters.posted(posted(b'{"id": "%b", "method": "x"}' % name))
    (owed,) = letters._boxes.values()
    assert len(owed) == mail._MOST
    assert all(isinstance(one, int) for one in owed)
    box.close()
    assert letters._boxes == {}


def test_an_address_ten_times_too_long_is_none() -> None:
    letters = Mail(1 << 20)
    box = letters.box()
    box.saw(b"event: endpoint\ndata: /" + b"x" * 10 * mail._LONGEST + b"\n\n")
    assert letters._boxes == {}
    assert box.settled


# --- names


async def test_ten_times_as_many_addresses_of_a_name() -> None:
    """A name server that tells another address each time."""

    class Changing(AbstractResolver):
        number = 0

        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            self.number += 1
            address = f"10.{self.number >> 16}.{self.number >> 8 & 255}.{self.number & 255}"
            return [{"hostname": host, "host": address, "port": port}]

        async def close(self) -> None:
            pass

    clock = FakeClock()
    known = Names(clock.now, Changing())
    for _ in range(10 * names._LIMIT):
        await known.resolve("server", 80)
        await clock.advance(1)
    assert len(known._told) <= names._LIMIT + 1
    assert len(known.gone) <= names._LIMIT
    assert len(known._good) == 1
