"""The recorder relays unchanged and remembers."""

import asyncio

import aiohttp
import pytest

from tests.edge.wire import Client, get, request
from tests.kit.conftest import WRITE
from tests.kit.faults import CloseAfter, Crash, Hang, Reset
from tests.kit.recorder import Recorder
from tests.kit.sent import connected, in_session, open_session
from tests.kit.upstream import Upstream

HEALTH = get("/api/health")


async def test_bytes_pass_unchanged_and_are_kept(recorder: Recorder, through: Client) -> None:
    raw = [HEALTH, WRITE.rest(), WRITE.stateless()]
    for one in raw:
        assert (await through.ask(one)).status == 200
    (tape,) = recorder.tapes
    assert bytes(tape.sent) == b"".join(raw)
    assert tape.sent_bytes == len(tape.sent)
    assert recorder.violations() == []
    assert [said.target for said in recorder.requests()] == [
        "/api/health",
        "/api/call-tool",
        "/mcp",
    ]
    assert not tape.framing.unfinished


async def test_connections_have_tapes_of_their_own(recorder: Recorder) -> None:
    for path in ("/a", "/b"):
        async with connected(recorder.port) as client:
            assert (await client.ask(get(path))).status == 404
    await recorder.until(lambda: not any(tape.open for tape in recorder.tapes))
    assert [tape.framing.requests[0].target for tape in recorder.tapes] == ["/a", "/b"]


async def test_an_ordinary_client_is_strict(recorder: Recorder) -> None:
    call = {"service": "jira", "tool_name": "jira_get_issue", "params": {}}
    async with aiohttp.ClientSession(recorder.url) as session:
        for _ in range(3):
            async with session.post("/api/call-tool", json=call) as response:
                assert response.status == 200
    assert recorder.violations() == []
    assert len(recorder.requests()) == 3


async def test_planted_errors_are_found_among_good_requests(
    recorder: Recorder, through: Client
) -> None:
    await through.ask(HEALTH)
    async with connected(recorder.port) as bad:
        await bad.ask(HEALTH)
        await bad.ask(request("POST", "/x", "Content-Length: 2", "Content-Length: 2") + b"{}")
    assert recorder.violations() == ["connection 1: request 2: more than one Content-Length"]


async def test_only_so_many_bytes_are_kept(upstream: Upstream) -> None:
    async with Recorder(upstream.port, keeps=100).running() as recorder:
        async with connected(recorder.port) as client:
            for _ in range(10):
                await client.ask(HEALTH)
            await client.ask(b"BAD\r\n\r\n" + HEALTH)
        (tape,) = recorder.tapes
        assert len(tape.sent) == 100
        assert tape.sent_bytes == 11 * len(HEALTH) + 7
        assert recorder.violations() == ["connection 0: request 11: request line b'BAD'"]


async def test_what_comes_after_an_upgrade_is_no_http() -> None:
    async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        assert await reader.readexactly(4) == b"\n\n\n\n"
        writer.close()

    server = await asyncio.start_server(switches, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Recorder(port).running() as recorder, connected(recorder.port) as client:
        await client.send(get("/ws", "Upgrade: x", "Connection: upgrade"))
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"\n\n\n\n")
        assert await client.ended()
        assert recorder.violations() == []
    server.close()


# --- ends pass, too


async def test_an_end_of_the_server_reaches_the_caller_as_it_is(
    upstream: Upstream, recorder: Recorder
) -> None:
    upstream.plays(WRITE.tool, CloseAfter(), Reset())
    async with connected(recorder.port) as client:
        await client.ask(WRITE.rest())
        assert await client.reader.read() == b""
    async with connected(recorder.port) as client:
        await client.send(WRITE.rest())
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_departure_reaches_the_server(upstream: Upstream, recorder: Recorder) -> None:
    upstream.plays(WRITE.tool, Hang())
    async with connected(recorder.port) as client:
        await client.send(WRITE.rest())
        await upstream.until(lambda: upstream.arrived[WRITE.tool])
    await upstream.until(lambda: not upstream.connections)


async def test_a_departure_from_a_stream_reaches_the_server(
    upstream: Upstream, recorder: Recorder
) -> None:
    async with connected(recorder.port) as client:
        session = await open_session(client)
        await client.send(get("/mcp", *in_session(session)))
        await client.head()
    await upstream.until(lambda: not upstream.connections)


async def test_a_relay_resets_where_nobody_listens_and_can_refuse_itself(
    upstream: Upstream, recorder: Recorder
) -> None:
    upstream.refuse()
    async with connected(recorder.port) as client:
        assert await client.ended()
    recorder.refuse()
    with pytest.raises(ConnectionRefusedError):
        async with connected(recorder.port):
            pass
    upstream.accept()
    recorder.accept()
    async with connected(recorder.port) as client:
        assert (await client.ask(HEALTH)).status == 200


async def test_a_crash_passes(upstream: Upstream, through: Client) -> None:
    upstream.plays(WRITE.tool, Crash())
    await through.send(WRITE.rest())
    with pytest.raises(ConnectionResetError):
        await through.reader.read()
