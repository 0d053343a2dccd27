"""A redis-server of our own, and shelves on it that share a clock."""

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from mcp_proxy.core.shelf import Edition
from mcp_proxy.stores.redis import RedisShelf
from tests.fakes import FakeClock, Told, spawn, within


class Server:
    """A redis-server of our own, which can be frozen, killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*f"redis-server --port {self.port} --bind 127.0.0.1 --dir /tmp --save".split(), ""],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def send(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def raw(self) -> "redis.Redis[bytes]":
        return redis.Redis(port=self.port, socket_timeout=5)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may maltreat."""
    running = Server()
    running.start()
    yield running
    running.stop()


class Bench:
    """One upstream's shelves, on a clock of their own; each may be another sidecar's.

    They are more patient than real ones: a busy machine is no trouble with Redis.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self.server = server
        self.timeout = timeout
        self.upstream = secrets.token_hex(4)
        self.clock = FakeClock()
        self.told = Told()
        self._shelves: list[RedisShelf] = []

    def shelf(self, upstream: str | None = None, kind: type[RedisShelf] = RedisShelf) -> RedisShelf:
        shelf = kind(
            self.server.url,
            upstream or self.upstream,
            self.clock.now,
            self.told,
            spawn,
            epoch=self.clock.epoch,
            sleep=self.clock.sleep,
            timeout=self.timeout,
        )
        self._shelves.append(shelf)
        return shelf

    async def aclose(self) -> None:
        for shelf in self._shelves:
            await within(shelf.aclose())


@pytest.fixture
async def bench(server: Server) -> AsyncIterator[Bench]:
    made = Bench(server, timeout=2.0)
    yield made
    await made.aclose()


@pytest.fixture
async def rough(own_server: Server) -> AsyncIterator[Bench]:
    made = Bench(own_server, timeout=0.3)
    yield made
    await made.aclose()


async def known(shelf: RedisShelf, *scopes: str) -> Edition:
    edition = await within(shelf.edition(scopes))
    assert edition is not None
    return edition


class Gated(RedisShelf):
    """A shelf whose new tokens are on their way until the test lets them arrive."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.let = asyncio.Event()
        self.let.set()
        self.renewals = 0

    async def _renew(self, scope: str, quarantine: float) -> bool:
        self.renewals += 1
        await self.let.wait()
        return await super()._renew(scope, quarantine)
