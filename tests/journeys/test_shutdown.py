"""A real process is told to stop; what its clients and its operator see of that."""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.edge.wire import (
    Client,
    Exchange,
    Upstream,
    answer,
    bound,
    chunk,
    get,
    post,
    result,
    rpc,
    streamed,
    tool,
)
from tests.journeys.conftest import Process
from tests.stores.conftest import Server

# What may pass beyond the grace: Docker kills 10 s after SIGTERM, and the grace is 8 s.
REST = 2.0
READ = post("/api/call-tool", {"service": "s", "tool_name": "read", "params": {}})
WRITE = post("/api/call-tool", {"service": "s", "tool_name": "write", "params": {}})
DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "t"}'
NOTICE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'

Sidecar = tuple[Process, str]


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.toml"
    file.write_text('[tools."read*"]\nread_only = true\n')
    return str(file)


@pytest.fixture
async def clients() -> AsyncIterator[Callable[[str], Any]]:
    """Open connections that are closed with the test."""
    async with AsyncExitStack() as stack:

        async def opened(url: str) -> Client:
            port = int(url.rpartition(":")[2])
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            stack.push_async_callback(client.close)
            return client

        yield opened


class Stopping:
    """A sidecar that was told to stop, until it has ended."""

    def __init__(self, process: Process, number: signal.Signals = signal.SIGTERM) -> None:
        self._process = process.process
        self._began = time.monotonic()
        self._process.send_signal(number)

    async def ended(self, within: float) -> tuple[int, list[dict[str, Any]]]:
        """Return exit code and events; nothing else was said, and it did not take long."""
        out, err = await asyncio.to_thread(self._process.communicate, timeout=20)
        assert time.monotonic() - self._began < within
        assert err == ""
        events = [json.loads(line) for line in out.splitlines()]
        assert not any("exception" in event or "traceback" in event for event in events)
        return self._process.returncode, events


async def silent(exchange: Exchange) -> None:
    await exchange.left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_calls_under_way_are_finished_and_new_ones_are_refused(
    sidecar_for: Callable[..., Sidecar],
    upstream: Upstream,
    clients: Callable[[str], Any],
    rules: str,
    number: signal.Signals,
) -> None:
    """F26: unready at once, 0 calls lost, exit code 0; a hit is refused like everything else."""
    go_on = asyncio.Event()

    async def plays(exchange: Exchange) -> None:
        if b"write" in exchange.asked.body:
            await go_on.wait()
        if exchange.asked.target == "/mcp":
            await exchange.send(streamed(), chunk(NOTICE))
            await go_on.wait()
            last = b"data: " + result(1, content=[]) + b"\n\n"
            await exchange.send(chunk(last), b"0\r\n\r\n")
        else:
            await exchange.send(answer(DONE))

    upstream.plays(plays)
    process, url = sidecar_for(upstream.url, MCP_CONFIG_FILE=rules)
    whole, events, known = [await clients(url) for _ in range(3)]
    for _ in range(4):  # the fourth is answered in the step in which it comes
        assert (await known.ask(READ)).status == 200
    await whole.send(WRITE)
    await events.send(post("/mcp", tool("stream")))
    await events.head()
    assert await events.chunk() == NOTICE
    await upstream.until(lambda: len(upstream.asked) == 3)

    stopping = Stopping(process, number)
    ready = 200
    async with bound():
        while ready == 200:
            heard = await (await clients(url)).ask(get("/readyz"))
            ready = heard.status
    assert (ready, heard["Connection"]) == (503, "close")
    assert (await (await clients(url)).ask(get("/livez"))).status == 200
    refused = await known.ask(READ)
    assert (refused.status, refused["Connection"], refused["Retry-After"]) == (503, "close", "1")
    assert refused.json["error_details"]["code"] == "draining"
    assert refused.json["error_details"]["delivered"] == "no"
    fresh = await (await clients(url)).ask(post("/mcp", rpc("tools/list")))
    assert fresh.json["error"]["data"]["code"] == "draining"

    go_on.set()
    assert (await whole.hear()).json["data"] == "done"
    assert b"content" in await events.chunk()
    assert await events.chunk() == b""
    code, told = await stopping.ended(REST)
    assert code == 0
    ended = [event["code"] for event in told if event["event"] == "tool.call.completed"]
    assert ended == [None] * 4 + ["draining"] + [None] * 2, "the last lines are written too"
    assert len(upstream.asked) == 3


async def test_who_only_listens_is_let_go_at_once(
    sidecar_for: Callable[..., Sidecar], upstream: Upstream, clients: Callable[[str], Any]
) -> None:
    """F26: streams of every kind end with a whole event and a last chunk; nobody waits for them."""

    async def endless(exchange: Exchange) -> None:
        if exchange.asked.target != "/mcp?silent":
            await exchange.send(streamed(), chunk(NOTICE))
        await exchange.left()

    upstream.plays(endless)
    process, url = sidecar_for(upstream.url, MCP_SHUTDOWN_GRACE="60")
    asked = [
        get("/mcp", "Accept: text/event-stream"),
        get("/sse", "Accept: text/event-stream"),
        post("/mcp", rpc("subscriptions/listen", notifications={})),
    ]
    streams = [await clients(url) for _ in asked]
    for client, raw in zip(streams, asked, strict=True):
        await client.send(raw)
        assert (await client.head()).status == 200
        assert await client.chunk() == NOTICE
    early, idle = [await clients(url) for _ in range(2)]
    await early.send(get("/mcp?silent"))
    assert (await idle.ask(get("/livez"))).status == 200
    await upstream.until(lambda: len(upstream.asked) == 4)

    stopping = Stopping(process)
    for client in streams:
        assert await client.chunk() == b""
        assert await client.ended()
    assert (await early.hear()).json["code"] == "draining"
    assert await idle.ended()
    assert (await stopping.ended(REST))[0] == 0


async def test_a_websocket_hears_a_goodbye_also_from_a_deaf_server(
    sidecar_for: Callable[..., Sidecar], http: aiohttp.ClientSession
) -> None:
    """RFC 6455 section 7.4.1: 1001, going away."""
    over = asyncio.Event()

    async def deaf(request: web.BaseRequest) -> web.StreamResponse:
        if "Via" not in request.headers:
            return web.Response(status=404)
        socket = web.WebSocketResponse(autoclose=False, autoping=False)
        await socket.prepare(request)
        await over.wait()
        return socket

    runner = web.ServerRunner(web.Server(deaf))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    process, url = sidecar_for(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with http.ws_connect(f"{url}/ws") as socket:
        stopping = Stopping(process)
        heard = await socket.receive()
        assert (heard.type, heard.data) == (WSMsgType.CLOSE, 1001)
        assert (await stopping.ended(REST))[0] == 0
    over.set()
    await runner.cleanup()


async def test_calls_that_outlast_the_grace_are_told_so(
    sidecar_for: Callable[..., Sidecar], upstream: Upstream, clients: Callable[[str], Any]
) -> None:
    """Exit code 3; nobody is left with half an answer, and nobody is told that a write was not done."""

    async def hangs(exchange: Exchange) -> None:
        if exchange.asked.target == "/mcp":
            await exchange.send(streamed(), chunk(NOTICE))
        await exchange.left()

    upstream.plays(hangs)
    process, url = sidecar_for(
        upstream.url, MCP_SHUTDOWN_GRACE="0.3", MCP_CONCURRENCY_LIMIT="2", MCP_RESTART_GRACE="60"
    )
    whole, events, queued = [await clients(url) for _ in range(3)]
    await whole.send(WRITE)
    await events.send(post("/mcp", tool("stream")))
    await events.head()
    assert await events.chunk() == NOTICE
    await upstream.until(lambda: len(upstream.asked) == 2)
    await queued.send(get("/page"))

    stopping = Stopping(process)
    heard = await whole.hear()
    assert (heard.status, "Retry-After" in heard) == (503, False)
    details = heard.json["error_details"]
    assert (details["code"], details["delivered"]) == ("draining", "unknown")
    last = json.loads((await events.chunk()).partition(b"data: ")[2])
    assert last["result"]["_meta"]["mcp_proxy/error"]["code"] == "draining"
    assert last["result"]["_meta"]["mcp_proxy/error"]["delivered"] == "unknown"
    assert await events.chunk() == b""
    assert (await queued.hear()).json["code"] == "draining"
    code, told = await stopping.ended(0.3 + REST)
    assert code == 3
    ended = [event["verdict"] for event in told if event["event"] == "tool.call.completed"]
    assert ended == ["upstream_failed"] * 2


async def test_a_call_that_waits_for_a_restart_is_ended_too(
    sidecar_for: Callable[..., Sidecar], upstream: Upstream, clients: Callable[[str], Any]
) -> None:
    """The bridge and the health monitor end without a word."""
    await upstream.stop()
    process, url = sidecar_for(
        upstream.url, MCP_SHUTDOWN_GRACE="0.2", MCP_RESTART_GRACE="60", MCP_HEALTH_INTERVAL="0.1"
    )
    client = await clients(url)
    await client.send(WRITE)
    assert (await (await clients(url)).ask(get("/api/health"))).status == 503
    stopping = Stopping(process)
    assert (await client.hear()).json["error_details"]["code"] == "draining"
    assert (await stopping.ended(0.2 + REST))[0] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(
    sidecar_for: Callable[..., Sidecar],
    upstream: Upstream,
    clients: Callable[[str], Any],
    number: signal.Signals,
) -> None:
    """F26: whatever is under way; the code says that the drain was not clean."""
    upstream.plays(silent)
    process, url = sidecar_for(upstream.url, MCP_SHUTDOWN_GRACE="60")
    client, other = [await clients(url) for _ in range(2)]
    await client.send(WRITE)
    await upstream.until(lambda: bool(upstream.asked))
    process.process.send_signal(number)
    assert process.process.stdout is not None
    while "proxy.draining" not in await asyncio.to_thread(process.process.stdout.readline):
        pass
    assert (await other.ask(get("/readyz"))).status == 503
    stopping = Stopping(process, number)
    assert (await stopping.ended(1))[0] == 3
    assert await client.ended()


@pytest.fixture
def redis() -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = Server()
    server.start()
    yield server
    server.stop()


async def test_answers_that_wait_for_redis_are_written(
    sidecar_for: Callable[..., Sidecar],
    upstream: Upstream,
    clients: Callable[[str], Any],
    rules: str,
    redis: Server,
) -> None:
    """The plan's words: flushes write-back."""
    upstream.plays(answer(DONE))
    process, url = sidecar_for(
        upstream.url,
        MCP_CONFIG_FILE=rules,
        MCP_CACHE_STRATEGY="write-back",
        REDIS_URL=redis.url,
    )
    stored = 0
    client = await clients(url)
    for number in range(20):
        body = {"service": "s", "tool_name": "read", "params": {"number": number}}
        heard = await client.ask(post("/api/call-tool", body))
        stored += "stored" in heard["Cache-Status"]
    stopping = Stopping(process)
    code, told = await stopping.ended(REST)
    assert code == 0
    happened = [event["event"] for event in told]
    assert "store.write_back_lost" not in happened
    if "store.state_changed" in happened:
        pytest.skip("Redis took more than 50 ms here: what it was to store meanwhile is given up")
    with redis.raw() as raw:
        # the hash of tokens is there as well
        assert raw.dbsize() == stored + 1
    assert stored


async def test_a_hung_redis_does_not_hold_the_exit(
    sidecar_for: Callable[..., Sidecar],
    upstream: Upstream,
    clients: Callable[[str], Any],
    rules: str,
    redis: Server,
) -> None:
    """Whatever waits for it is given up."""
    upstream.plays(answer(DONE))
    process, url = sidecar_for(
        upstream.url,
        MCP_CONFIG_FILE=rules,
        MCP_CACHE_STRATEGY="write-back",
        REDIS_URL=redis.url,
    )
    client = await clients(url)
    assert (await client.ask(READ)).status == 200
    redis.send(signal.SIGSTOP)
    assert (await client.ask(WRITE)).status == 200
    assert (await Stopping(process).ended(REST))[0] == 0


async def test_a_log_that_nobody_reads_does_not_hold_the_exit(
    sidecar_for: Callable[..., Sidecar], upstream: Upstream, clients: Callable[[str], Any]
) -> None:
    """F25: the pipe is full, and stays so until the end."""
    upstream.plays(answer(DONE))
    process, url = sidecar_for(upstream.url)
    client = await clients(url)
    for _ in range(400):  # a pipe holds 64 KiB, a line has more than 300 bytes
        assert (await client.ask(WRITE)).status == 200
    process.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.process.wait, REST) == 0
