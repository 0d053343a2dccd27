"""Connections are taken in as they come."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from mcp_proxy.edge import accepting
from mcp_proxy.edge.accepting import Site

NUMBER = 50


async def answers(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


@asynccontextmanager
async def open_site(
    listening: socket.socket, kind: type[web.Server] = web.Server
) -> AsyncIterator[web.Server]:
    """Take connections on a socket; the value knows them."""
    server = kind(answers)
    runner = web.ServerRunner(server)
    await runner.setup()
    await Site(runner, listening).start()
    try:
        assert runner.server is not None
        yield runner.server
    finally:
        await runner.cleanup()


def bound(kind: type[socket.socket] = socket.socket) -> socket.socket:
    one = kind(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    one.bind(("127.0.0.1", 0))
    return one


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
def test_all_that_wait_are_taken_in_one_turn(loop: Callable[[], Any]) -> None:
    """uvloop's own server takes one a turn, and turns are long when there is much to do."""

    async def storm() -> None:
        listening = bound()
        async with open_site(listening) as server:
            clients = [socket.create_connection(listening.getsockname()) for _ in range(NUMBER)]
            turns = 0
            while len(server.connections) < NUMBER:
                turns += 1
                assert turns < NUMBER / 5
                await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
            for client in clients:
                client.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(storm())


async def test_without_descriptors_it_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again at once, the loop would do nothing else."""

    class Full(socket.socket):
        asked = 0

        def accept(self) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(accepting, "_PAUSE", 0.01)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    listening = bound(Full)
    async with open_site(listening), asyncio.timeout(20):  # noqa: TID251 - bounds the test
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert [context["message"] for context in told] == [
        "no descriptor is left for another connection"
    ]


async def test_a_site_that_ends_while_it_waits_gives_the_port_back() -> None:
    class Full(socket.socket):
        def accept(self) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

    told = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: told.set())
    listening = bound(Full)
    address = listening.getsockname()
    async with open_site(listening), asyncio.timeout(20):  # noqa: TID251 - bounds the test
        client = socket.create_connection(address)
        await told.wait()
    client.close()
    with socket.socket() as another:
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        another.bind(address)


async def test_a_connection_that_cannot_begin_is_told_and_troubles_nobody() -> None:
    """A client that has gone again is none of our mistakes; anything else is."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    outcomes: list[Exception | None] = [ConnectionResetError(), ValueError("ours"), None]

    class Odd(web.Server):
        def __call__(self) -> web.RequestHandler:
            if (outcome := outcomes.pop(0)) is not None:
                raise outcome
            return super().__call__()

    listening = bound()
    async with open_site(listening, Odd), asyncio.timeout(20):  # noqa: TID251 - bounds the test
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            said = await reader.read()
            writer.close()
    assert said.startswith(b"HTTP/1.1 200")
    assert [str(context["exception"]) for context in told] == ["ours"]
