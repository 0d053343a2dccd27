"""A server moves to another machine while its connections are in steady use."""

import asyncio
import socket
from collections import Counter

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from mcp_proxy.edge.names import Names
from tests.edge.wire import answer, get, sidecar
from tests.fakes import FakeClock


class Directory(AbstractResolver):
    """A name server under test control; with no address to tell it fails."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [
            ResolveResult(
                hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for one in self.addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def test_an_address_is_gone_when_it_was_not_told_for_long_while_others_were() -> None:
    """A name server may tell some of many at a time."""
    clock = FakeClock()
    directory = Directory("10.0.0.1", "10.0.0.2")
    names = Names(clock.now, directory)
    await names.resolve("box", 1)
    directory.addresses = ("10.0.0.2",)
    await clock.advance(30)
    await names.resolve("box", 1)
    assert names.gone == frozenset()
    await clock.advance(1)
    await names.resolve("box", 1)
    assert names.gone == {"10.0.0.1"}
    directory.addresses = ("10.0.0.1",)
    await names.resolve("box", 1)
    assert names.gone == frozenset(), "it is back, and the other one may be"
    await names.close()
    assert directory.closed


async def test_a_name_server_that_fails_takes_no_server_with_it() -> None:
    """F22: the last good address serves on, for as long as somebody listens there."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    names = Names(FakeClock().now, directory := Directory("127.0.0.1", "127.0.0.2"))
    async with server:
        await names.resolve("box", port)
        directory.addresses = ()
        [found] = await names.resolve("box", port)
        assert found["host"] == "127.0.0.1", "nobody listens at the other one"
        with pytest.raises(OSError, match="no answer"):
            await names.resolve("another box", port)
    with pytest.raises(OSError, match="no answer"):
        await names.resolve("box", port)


async def test_what_is_remembered_of_addresses_is_bounded() -> None:
    clock = FakeClock()
    names = Names(clock.now, directory := Directory())
    for number in range(3_000):
        directory.addresses = (f"10.0.{number // 250}.{number % 250}",)
        await names.resolve("box", 1)
    assert len(names._told) <= 1_001


async def test_a_server_that_moves_is_followed_though_the_old_machine_still_answers() -> None:
    """Issue 5: DNS changes picked up. Without this, every call goes to the old machine for ever."""
    served: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():  # a request line, and headers up to a blank line
            while (await reader.readline()).strip():
                pass
            served[writer.get_extra_info("sockname")[0]] += 1
            writer.write(answer(b"here"))
        writer.close()

    old = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = old.sockets[0].getsockname()[1]
    new = await asyncio.start_server(serve, "127.0.0.2", port)
    clock = FakeClock()
    async with old, new, sidecar(f"http://box:{port}", clock) as front:
        names = front.sidecar.pools.names
        names._resolver = directory = Directory("127.0.0.1")
        for _ in range(3):
            await front.ask(get("/page"))
        directory.addresses = ("127.0.0.2",)
        await clock.advance(31)
        await names.resolve("box", port)  # as the health probe does
        front.sidecar.pools.calls.connector.clear_dns_cache()  # which counts real seconds
        served.clear()
        for _ in range(5):
            await front.ask(get("/page"))
        # one that was in use is used once more
        assert served["127.0.0.1"] <= 1
        assert served["127.0.0.2"] >= 4
