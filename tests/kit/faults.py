"""What goes wrong around an answer: it comes late, or not at all, or its connection ends."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from tests.kit.turn import Pace, Turn


class Fault(Protocol):
    """One way to treat a request. `executed` says whether it is done before it goes wrong."""

    async def strike(self, turn: Turn) -> None: ...


@dataclass(frozen=True, slots=True)
class Fine:
    """Answer as a good server does."""

    async def strike(self, turn: Turn) -> None:
        await turn.say(turn.done())


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer (F2)."""

    executed: bool = False

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        await turn.exchange.left()
        turn.exchange.close()


@dataclass(frozen=True, slots=True)
class Slow:
    """Answer after so many seconds, or when the test lets go (F2).

    As many servers do, it goes on when the caller has left meanwhile.
    """

    until: Pace
    executed: bool = False  # before the wait, not after it

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        await turn.wait(self.until)
        await turn.say(turn.done())


@dataclass(frozen=True, slots=True)
class Busy:
    """Work for so many seconds as one of so many workers, after a wait for one of them (F48).

    Those who wait stand in a line without end, and a caller that has left is worked for as well: the
    more calls a server is sent beyond what it can do, the later is each of its answers.
    """

    workers: asyncio.Semaphore
    seconds: float

    async def strike(self, turn: Turn) -> None:
        async with self.workers:
            await turn.wait(self.seconds)
        await turn.say(turn.done())


@dataclass(frozen=True, slots=True)
class Reset:
    """Take the request and reset the connection without a byte of an answer (F3)."""

    executed: bool = False

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        turn.reset()


@dataclass(frozen=True, slots=True)
class Close:
    """Take the request and close the connection in good order without a byte of an answer (F3)."""

    executed: bool = False

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        turn.exchange.close()


@dataclass(frozen=True, slots=True)
class Crash:
    """Die of this request: every connection is reset, sessions are lost, nobody listens (F1, F23).

    The server is back on its port after so long, or when the test calls `Upstream.accept`.
    """

    executed: bool = False
    away: Pace | None = None

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        turn.server.crash()
        if self.away is not None:
            await turn.wait(self.away)
            turn.server.accept()


@dataclass(frozen=True, slots=True)
class Amnesia:
    """Forget every session, then look at the request (F20)."""

    async def strike(self, turn: Turn) -> None:
        turn.server.forget_sessions()
        await turn.say(turn.done())


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """Answer well, then close the connection without having said so (F21)."""

    async def strike(self, turn: Turn) -> None:
        await turn.say(turn.done())
        turn.exchange.close()


@dataclass(frozen=True, slots=True)
class CloseOnNext:
    """Answer well, then close at the first bytes of the next request, which stays unread (F21).

    This is the keep-alive race as it is lost: the server had closed when the request was sent.
    """

    async def strike(self, turn: Turn) -> None:
        transport = turn.exchange.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        await turn.say(turn.done())
        await turn.stirs()
        turn.reset()
