"""Damaged answers, as they show on the wire."""

import asyncio

import aiohttp
import pytest

from tests.edge.wire import GONE, Client
from tests.fakes import FakeClock, settle
from tests.kit.conftest import WRITE, struck
from tests.kit.damage import (
    Cut,
    Drip,
    Garbage,
    Progress,
    SaidLength,
    Unfinished,
    WrongLength,
)
from tests.kit.seen import Fate, messages, see
from tests.kit.upstream import Upstream

# --- cut


@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_is_cut_in_the_middle(upstream: Upstream, *, reset: bool) -> None:
    """F3: its length promised more."""
    heard = await struck(upstream, Cut(0.5, reset))
    assert heard.status == 200
    assert 0 < len(heard.body) < int(heard["Content-Length"])
    assert not heard.whole
    assert see(WRITE, heard).fate is Fate.LOST
    assert upstream.ledger.runs(WRITE.tool) == 1


async def test_an_ordinary_client_notices_the_cut(upstream: Upstream) -> None:
    upstream.plays(WRITE.tool, Cut())
    call = {"service": "jira", "tool_name": WRITE.tool, "params": {}}
    async with (
        aiohttp.ClientSession(upstream.url) as session,
        session.post("/api/call-tool", json=call) as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_a_stream_is_cut_wherever_it_is(upstream: Upstream, share: float) -> None:
    """F4: no final chunk; with all of its bytes, even the answer is there."""
    upstream.mcp.streams = {WRITE.tool}
    heard = await struck(upstream, Cut(share), WRITE.stateless())
    assert heard["Content-Type"] == "text/event-stream"
    assert not heard.whole
    assert len(messages(heard.body)) == (1 if share == 1.0 else 0)
    assert see(WRITE, heard).fate is (Fate.DONE if share == 1.0 else Fate.LOST)


async def test_a_head_is_cut(upstream: Upstream, client: Client) -> None:
    upstream.plays(WRITE.tool, Cut(None))
    await client.send(WRITE.rest())
    assert await client.reader.read() == b"HTTP/1.1 200 OK\r\nCon"


async def test_a_stream_ends_well_without_its_answer(upstream: Upstream) -> None:
    """protocol.md section 2: with an event id this is polling, without one the call is lost."""
    heard = await struck(upstream, Unfinished(), WRITE.stateless())
    assert heard.whole
    assert messages(heard.body) == []
    assert see(WRITE, heard).fate is Fate.LOST
    upstream.mcp.streams, upstream.mcp.event_ids = {"*"}, True
    heard = await struck(upstream, Unfinished(), WRITE.stateless())
    assert heard.pieces[-1] == b"id: 0\ndata: \n\n"


async def test_what_a_reset_cuts_was_sent_before(upstream: Upstream, client: Client) -> None:
    upstream.plays(WRITE.tool, Cut(0.5, reset=True))
    await client.send(WRITE.rest())
    await client.head()
    with pytest.raises(GONE):
        await client.reader.readexactly(1000)


# --- slowly


async def test_a_body_drips(upstream: Upstream, client: Client) -> None:
    """F8: no byte comes before its time."""
    drops = asyncio.Semaphore(0)
    upstream.plays(WRITE.tool, Drip(drops))
    await client.send(WRITE.rest())
    length = int((await client.head())["Content-Length"])
    for _ in range(3):
        drops.release()
        assert len(await client.reader.read(100)) == 1
    for _ in range(length - 3):
        drops.release()
    assert len(await client.reader.readexactly(length - 3)) == length - 3
    assert (await client.ask(WRITE.rest())).status == 200


async def test_a_stream_drips_by_the_clock(
    upstream: Upstream, client: Client, clock: FakeClock
) -> None:
    upstream.mcp.streams = {WRITE.tool}
    upstream.plays(WRITE.tool, Drip(1.0, size=100))
    await client.send(WRITE.stateless())
    await client.head()
    reading = asyncio.get_running_loop().create_task(client.chunk())
    await settle()
    assert not reading.done()
    await clock.advance(1.0)
    assert len(await reading) == 100
    await clock.advance(10.0)
    while await client.chunk():
        pass


async def test_progress_comes_before_the_answer(upstream: Upstream, client: Client) -> None:
    steps = asyncio.Semaphore(0)
    upstream.plays(WRITE.tool, Progress(2, steps), Progress(1, 0.0))
    await client.send(WRITE.stateless(progressToken="p"))
    assert (await client.head())["Content-Type"] == "text/event-stream"
    for number in (1, 2):
        steps.release()
        (message,) = messages(await client.chunk())
        assert message["params"] == {"progressToken": "p", "progress": number}
    (answer,) = messages(await client.chunk())
    assert answer["result"]["isError"] is False
    assert await client.chunk() == b""
    heard = await client.ask(WRITE.stateless())
    assert [message.get("method") for message in messages(heard.body)] == [
        "notifications/message",
        None,
    ]


# --- framed wrongly


async def test_a_length_is_too_long(upstream: Upstream, client: Client) -> None:
    """F9: closed, it is a cut; left open, the next answer would be taken for its end."""
    assert not (await struck(upstream, WrongLength(5, closes=True))).whole
    upstream.plays(WRITE.tool, WrongLength(5))
    await client.send(WRITE.rest(), WRITE.rest())
    heard = await client.hear()
    assert heard.body.endswith(b"}HTTP/")


async def test_a_length_is_too_short(upstream: Upstream, client: Client) -> None:
    """F9: what is left over stands before the next answer."""
    upstream.plays(WRITE.tool, WrongLength(-2))
    await client.send(WRITE.rest(), WRITE.rest())
    assert len((await client.hear()).body) > 0
    assert (await client.head()).line == '"}HTTP/1.1 200 OK'


@pytest.mark.parametrize("values", [("-1",), ("abc",), ("3", "30")])
async def test_a_length_is_no_length(
    upstream: Upstream, client: Client, values: tuple[str, ...]
) -> None:
    upstream.plays(WRITE.tool, SaidLength(values))
    await client.send(WRITE.rest())
    assert (await client.head()).all("Content-Length") == list(values)


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n\r\n", b"\x00" * 100, b"HTTP/1.1 200\r\n"])
async def test_garbage_is_sent_as_it_is(upstream: Upstream, client: Client, raw: bytes) -> None:
    upstream.plays(WRITE.tool, Garbage(raw))
    await client.send(WRITE.rest())
    assert await client.reader.read() == raw
    assert upstream.ledger.runs(WRITE.tool) == 1
