"""A port that closes and opens again, and what can happen to a connection before it is read."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any

from examples.basic_server.sockets import bind

LOOPBACK = "127.0.0.1"


class Greeting(Enum):
    """What a new connection meets with."""

    WELCOME = "welcome"
    CLOSE = "close"  # FIN at once
    RESET = "reset"  # RST at once
    RESET_UNREAD = "reset unread"  # RST when a request has come, of which no byte was read
    SILENCE = "silence"  # no byte is ever read, so a large request cannot even be sent


class Door:
    """Hold a port of loopback for good, whether somebody listens on it or not.

    While nobody listens, connecting is refused, and nobody else can take the port meanwhile: it
    stays bound by a second socket. The sockets of those who come in are handed to `meet`.
    """

    def __init__(
        self, meet: Callable[[socket.socket], Coroutine[Any, Any, None]], port: int = 0
    ) -> None:
        (self._held,) = bind(LOOPBACK, port)
        self.port: int = self._held.getsockname()[1]
        self._meet = meet
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unmet: set[socket.socket] = set()
        self._mistakes: list[BaseException] = []

    @property
    def is_open(self) -> bool:
        return self._listener is not None

    def open(self) -> None:
        """Listen."""
        if self._listener is None:
            (self._listener,) = bind(LOOPBACK, self.port)
            self._listener.setblocking(False)
            self._listener.listen(1024)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def shut(self) -> None:
        """Refuse whoever comes; those who are in may stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Give the port back and let nobody stay; raise what a connection died of by mistake."""
        self.shut()
        self._held.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._unmet:
            sock.close()
        if self._mistakes:
            raise self._mistakes[0]

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._unmet.add(sock)
            task = asyncio.get_running_loop().create_task(self._met(sock))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _met(self, sock: socket.socket) -> None:
        self._unmet.discard(sock)
        await self._meet(sock)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (mistake := task.exception()) is not None:
            self._mistakes.append(mistake)


async def stirs(sock: Any) -> None:
    """Return when the other side has sent something or has left; what came stays unread.

    It watches a duplicate, because asyncio lets nobody watch the socket of one of its transports.
    """
    loop = asyncio.get_running_loop()
    stirred = asyncio.Event()
    twin = sock.dup()
    loop.add_reader(twin, stirred.set)
    try:
        await stirred.wait()
    finally:
        loop.remove_reader(twin)
        twin.close()


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    _close_with_rst(sock)
    sock.close()


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN; what was written and is not sent yet is lost."""
    _close_with_rst(writer.get_extra_info("socket"))
    writer.transport.abort()


def _close_with_rst(sock: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def greet(sock: socket.socket, greeting: Greeting) -> bool:
    """Do to a new connection what the greeting says; tell whether it may go on."""
    if greeting is Greeting.WELCOME:
        return True
    try:
        if greeting is Greeting.SILENCE:
            await asyncio.get_running_loop().create_future()
        if greeting is Greeting.RESET_UNREAD:
            await stirs(sock)
    finally:
        if greeting in {Greeting.RESET, Greeting.RESET_UNREAD}:
            reset(sock)
        sock.close()
    return False
