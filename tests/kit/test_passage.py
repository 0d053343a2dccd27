"""The recorder in the way: cuts, gates and a black hole."""

import asyncio
from contextlib import suppress

import pytest

from tests.edge.wire import Client, get, post
from tests.fakes import settle, within
from tests.kit.conftest import WRITE
from tests.kit.recorder import Passage, Recorder
from tests.kit.sent import connected
from tests.kit.upstream import Upstream

HEALTH = get("/api/health")


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
async def test_a_request_is_cut_on_its_way(
    upstream: Upstream, recorder: Recorder, share: float, *, resets: bool
) -> None:
    """So many bytes arrive, and the sidecar has written all of them."""
    raw = post("/api/call-tool", b"x" * 1_000_000)
    recorder.plays(Passage(request_bytes=int(len(raw) * share), resets=resets))
    async with connected(recorder.port) as client:
        with suppress(ConnectionError):
            await client.send(raw)
        assert await client.ended()
    await recorder.until(lambda: not recorder.tapes[0].open)
    await upstream.until(lambda: not upstream.connections)
    assert not upstream.arrived


async def test_exactly_so_many_bytes_of_a_request_arrive() -> None:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(reads, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    raw = WRITE.rest()
    async with Recorder(port).running() as recorder:
        recorder.plays(Passage(request_bytes=100, resets=False))
        async with connected(recorder.port) as client:
            await client.send(raw)
            assert await within(arrived) == raw[:100]
            assert bytes(recorder.tapes[0].sent) == raw
    server.close()


async def test_a_request_that_arrived_whole_is_executed_and_its_answer_lost(
    upstream: Upstream, recorder: Recorder
) -> None:
    raw = WRITE.rest()
    recorder.plays(Passage(answer_bytes=0))
    async with connected(recorder.port) as client:
        await client.send(raw)
        assert await client.ended()
    assert upstream.ledger.runs(WRITE.tool) == 1


@pytest.mark.parametrize("resets", [True, False])
async def test_an_answer_is_cut_on_its_way(recorder: Recorder, *, resets: bool) -> None:
    recorder.plays(Passage(answer_bytes=150, resets=resets))
    async with connected(recorder.port) as client:
        await client.send(WRITE.rest())
        assert len(await client.reader.readexactly(150)) == 150
        assert await client.ended()
    (tape,) = recorder.tapes
    assert tape.answered_bytes >= 150


async def test_requests_wait_at_a_gate(
    upstream: Upstream, recorder: Recorder, through: Client
) -> None:
    recorder.requests_pass.clear()
    await through.send(WRITE.rest())
    await recorder.until(lambda: recorder.tapes[0].sent_bytes)
    await settle()
    assert not upstream.arrived
    recorder.requests_pass.set()
    assert (await through.hear()).status == 200


async def test_answers_wait_at_a_gate(
    upstream: Upstream, recorder: Recorder, through: Client
) -> None:
    recorder.answers_pass.clear()
    await through.send(WRITE.rest())
    await upstream.until(lambda: upstream.ledger.runs(WRITE.tool))
    reading = asyncio.get_running_loop().create_task(through.hear())
    await settle()
    assert not reading.done()
    recorder.answers_pass.set()
    assert (await reading).status == 200


async def test_a_black_hole_takes_everything_and_gives_nothing(
    upstream: Upstream, recorder: Recorder, through: Client
) -> None:
    await through.ask(HEALTH)
    recorder.swallows = True
    await through.send(WRITE.rest())
    await recorder.until(lambda: recorder.tapes[0].framing.count == 2)
    await settle()
    assert not upstream.arrived[WRITE.tool]
    recorder.swallows = False
    recorder.plays(Passage(swallows=True))
    async with connected(recorder.port) as client:
        await client.send(WRITE.rest())
        await recorder.until(lambda: recorder.tapes[1].sent_bytes)
    async with connected(recorder.port) as client:
        assert (await client.ask(HEALTH)).status == 200
    assert not upstream.arrived[WRITE.tool]


async def test_open_connections_can_be_cut_at_any_moment(
    upstream: Upstream, recorder: Recorder, through: Client
) -> None:
    await through.ask(HEALTH)
    recorder.cut()
    with pytest.raises(ConnectionResetError):
        await through.reader.read()
    await upstream.until(lambda: not upstream.connections)
