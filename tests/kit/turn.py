"""One request at the server: what there is to answer, and the means to do so, well or badly."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mcp_proxy.core.clock import Clock
from tests.edge.wire import Exchange, answer, chunk, chunked
from tests.kit.door import abort, stirs

EVENT_STREAM = "text/event-stream"
# Seconds, an event that the test sets, or a semaphore that the test releases step by step.
Pace = float | asyncio.Event | asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is put on the wire; an event stream has a piece for each event."""

    pieces: tuple[bytes, ...]
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    kind: str = "application/json"
    outbox: asyncio.Queue[bytes | None] | None = None  # further events, until None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def streams(self) -> bool:
        return self.kind == EVENT_STREAM

    def head(self, *lengths: str) -> bytes:
        """Return the head, with its own framing unless other lengths are given."""
        if not lengths and self.streams:
            lengths = ("Transfer-Encoding: chunked",)
        elif not lengths:
            lengths = (f"Content-Length: {len(self.body)}",)
        return answer(b"", *self.headers, *lengths, status=self.status, kind=self.kind)

    def framed(self, data: bytes) -> bytes:
        """Return some bytes of the body as they are sent."""
        return chunk(data) if self.streams and data else data

    def end(self) -> bytes:
        """Return what follows the body of a whole answer."""
        return chunked() if self.streams else b""

    def whole(self) -> bytes:
        return self.head() + b"".join(map(self.framed, self.pieces)) + self.end()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a front makes of a request."""

    name: str  # of the tool, else of the method, else "GET /path": what a script is for
    act: Callable[[], Reply]  # do it, and return the good answer
    fail: Callable[[str, int | None], Reply]  # the answer of a tool that failed
    step: Callable[[int], bytes] | None = None  # an event that tells of progress, where it can
    is_tool: bool = False


class Server(Protocol):
    """What a fault can do to the whole server."""

    clock: Clock

    def accept(self) -> None: ...

    def crash(self) -> None: ...

    def forget_sessions(self) -> None: ...

    def tell(self) -> None: ...


class Turn:
    """Let a fault do what was asked, or not, and answer it, or not."""

    def __init__(self, exchange: Exchange, asked: Asked, server: Server) -> None:
        self.exchange = exchange
        self.asked = asked
        self.server = server
        self._done: Reply | None = None

    def done(self) -> Reply:
        """Do what was asked, if that has not been done; return the good answer to it."""
        if self._done is None:
            self._done = self.asked.act()
            self.server.tell()
        return self._done

    def failed(self, error: str, code: int | None = None) -> Reply:
        """Return what the tool answers when it fails."""
        return self.asked.fail(error, code)

    async def wait(self, pace: Pace) -> None:
        """Let the time pass, or wait for the test."""
        if isinstance(pace, asyncio.Event):
            await pace.wait()
        elif isinstance(pace, asyncio.Semaphore):
            await pace.acquire()
        else:
            await self.server.clock.sleep(pace)

    def reset(self) -> None:
        """Close the connection with RST instead of FIN."""
        abort(self.exchange.writer)

    async def stirs(self) -> None:
        """Return when more bytes have come, which stay unread, or the connection is gone."""
        if self.exchange.writer.is_closing():
            return
        loop = asyncio.get_running_loop()
        ways = [
            loop.create_task(stirs(self.exchange.writer.get_extra_info("socket"))),
            loop.create_task(self.exchange.writer.wait_closed()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def say(self, reply: Reply) -> None:
        """Send the answer as it should be."""
        if self.exchange.asked.method == "HEAD":
            await self.exchange.send(reply.head())
        elif reply.outbox is None:
            await self.exchange.send(reply.whole())
        else:
            await self.exchange.send(reply.head(), *map(chunk, reply.pieces))
            await self._feed(reply.outbox)
        if "close" in self.exchange.asked.all("Connection"):
            self.exchange.close()

    async def _feed(self, outbox: asyncio.Queue[bytes | None]) -> None:
        """Send events until there are no more or nobody listens."""

        async def notice_that_nobody_listens() -> None:
            await self.exchange.left()
            outbox.put_nowait(None)

        watching = asyncio.get_running_loop().create_task(notice_that_nobody_listens())
        try:
            while (event := await outbox.get()) is not None:
                await self.exchange.send(chunk(event))
            await self.exchange.send(chunked())
        finally:
            watching.cancel()
            self.exchange.close()
