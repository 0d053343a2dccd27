"""Comments on quiet streams: often enough, and never inside an event."""

import asyncio

import pytest

from tests.edge.conftest import Opened
from tests.edge.test_events import Played
from tests.edge.wire import Exchange, Upstream, get, streamed
from tests.fakes import FakeClock, settle

COMMENT = b": keep-alive\n\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_quiet_stream_gets_a_comment(
    front: Opened, upstream: Upstream, clock: FakeClock
) -> None:
    stream = Played()
    upstream.plays(stream)
    sidecar = await front(clock=clock)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        await clock.advance(24)
        assert await client.chunk() == COMMENT
        await clock.advance(15)
        await stream.says(b"data: x\n\n")
        assert await client.chunk() == b"data: x\n\n"
        await clock.advance(19)
        await stream.says(b"data: y\n\n")
        assert await client.chunk() == b"data: y\n\n", "it was not quiet for long enough"
        await clock.advance(26)
        assert await client.chunk() == COMMENT
        await stream.ends()
        assert await client.chunk() == b""
    await clock.advance(60)
    assert not sidecar.sidecar.inbound._heartbeat._open


@pytest.mark.parametrize("half", [b"data: x", b"data: x\n", b"data: x\r\n", b"id: 1\n\nda"])
async def test_a_comment_splits_no_event(
    front: Opened, upstream: Upstream, clock: FakeClock, half: bytes
) -> None:
    """Protocol notes, section 5: only between events."""
    stream = Played()
    upstream.plays(stream)
    sidecar = await front(clock=clock)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        # the first event may be a legacy `endpoint`, and is held back until it is whole
        for piece in (b"data: first\n\n", half):
            await stream.says(piece)
            assert await client.chunk() == piece
        await clock.advance(300)
        await stream.says(b"\r\n\r\n")
        assert await client.chunk() == b"\r\n\r\n"
        await clock.advance(26)
        assert await client.chunk() == COMMENT


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        (streamed(), {"MCP_SSE_KEEPALIVE": 0}),
        (streamed("text/event-stream", "Content-Encoding: gzip"), {}),
        (streamed("application/octet-stream"), {}),
    ],
)
async def test_nothing_is_added_where_it_would_break_something(
    front: Opened, upstream: Upstream, clock: FakeClock, head: bytes, settings: dict[str, int]
) -> None:
    ended = asyncio.Event()

    async def quiet(exchange: Exchange) -> None:
        await exchange.send(head)
        await ended.wait()

    upstream.plays(quiet)
    sidecar = await front(clock=clock, **settings)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
        await clock.advance(300)
        await settle()
        assert not client.reader._buffer  # type: ignore[attr-defined]
        ended.set()


async def test_a_reader_that_left_gets_none(
    front: Opened, upstream: Upstream, clock: FakeClock
) -> None:
    stream = Played()
    upstream.plays(stream)
    sidecar = await front(clock=clock)
    async with sidecar.client() as client:
        await client.send(get("/mcp"))
        await client.head()
    await stream.left()
    await clock.advance(60)
    assert not sidecar.sidecar.inbound._heartbeat._open
