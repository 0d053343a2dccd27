"""What a new connection can meet with before a byte of it is read."""

import asyncio
from contextlib import suppress

import pytest

from tests.fakes import settle
from tests.kit.conftest import WRITE
from tests.kit.door import Greeting
from tests.kit.sent import connected
from tests.kit.upstream import Upstream


@pytest.mark.parametrize("greeting", [Greeting.RESET, Greeting.RESET_UNREAD])
async def test_a_connection_is_reset_before_anything_is_read(
    upstream: Upstream, greeting: Greeting
) -> None:
    """F3."""
    upstream.greets(greeting)
    async with connected(upstream.port) as client:
        with suppress(ConnectionError):
            await client.send(WRITE.rest())
        with pytest.raises(ConnectionResetError):
            await client.hear()
    async with connected(upstream.port) as client:
        assert (await client.ask(WRITE.rest())).status == 200, "the next one is welcome"
    assert upstream.accepted == 2
    assert upstream.ledger.runs(WRITE.tool) == 1


async def test_a_request_that_is_awaited_is_not_reset_before_it_comes(upstream: Upstream) -> None:
    upstream.greets(Greeting.RESET_UNREAD)
    async with connected(upstream.port) as client:
        reading = asyncio.get_running_loop().create_task(client.ended())
        await upstream.until(lambda: upstream.accepted)
        await settle()
        assert not reading.done()
        await client.send(b"P")
        assert await reading


async def test_a_connection_is_closed_at_once(upstream: Upstream) -> None:
    upstream.greets(Greeting.CLOSE)
    async with connected(upstream.port) as client:
        assert await client.ended()


async def test_nothing_is_read_in_silence(upstream: Upstream) -> None:
    """F2: a large request cannot even be sent."""
    upstream.greets(Greeting.SILENCE)
    async with connected(upstream.port) as client:
        client.writer.write(b"x" * (1 << 24))
        await settle()
        transport = client.writer.transport
        assert transport.get_write_buffer_size() > 0
        transport.abort()
    assert upstream.accepted == 1
    assert not upstream.arrived


@pytest.mark.parametrize("greeting", [Greeting.SILENCE, Greeting.RESET_UNREAD])
async def test_a_crash_ends_what_was_never_read(upstream: Upstream, greeting: Greeting) -> None:
    upstream.greets(greeting)
    async with connected(upstream.port) as client:
        await upstream.until(lambda: upstream.accepted)
        await settle()
        upstream.crash()
        assert await client.ended()
