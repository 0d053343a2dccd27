"""What goes wrong in an answer: it is cut, dripped, framed wrongly, no HTTP, or a failure."""

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

from tests.edge.wire import chunked
from tests.kit.turn import EVENT_STREAM, Pace, Reply, Turn


@dataclass(frozen=True, slots=True)
class Cut:
    """Execute, promise the whole answer and break off in it: mid-body, or mid-stream (F3, F4).

    Of the body so large a share is sent; None breaks off in the head.
    """

    share: float | None = 0.5
    reset: bool = False

    async def strike(self, turn: Turn) -> None:
        reply = turn.done()
        if self.share is None:
            await turn.exchange.send(reply.head()[:20])
        else:
            part = reply.body[: int(len(reply.body) * self.share)]
            await turn.exchange.send(reply.head() + reply.framed(part))
        if self.reset:
            turn.reset()
        else:
            turn.exchange.close()


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Execute, begin an event stream and end it in good order without the answer (F4)."""

    async def strike(self, turn: Turn) -> None:
        await turn.say(Reply((b": begun\n\n", *turn.done().pieces[:-1]), kind=EVENT_STREAM))


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the body a few bytes at a time (F8)."""

    pace: Pace
    size: int = 1  # bytes

    async def strike(self, turn: Turn) -> None:
        reply = turn.done()
        body = reply.body
        await turn.exchange.send(reply.head())
        for start in range(0, len(body), self.size):
            await turn.wait(self.pace)
            await turn.exchange.send(reply.framed(body[start : start + self.size]))
        await turn.exchange.send(reply.end())


@dataclass(frozen=True, slots=True)
class Progress:
    """Answer an MCP call in an event stream that tells of progress first."""

    steps: int
    pace: Pace

    async def strike(self, turn: Turn) -> None:
        assert turn.asked.step is not None, "only MCP calls can tell of progress"
        reply = turn.done()
        if not reply.streams:
            reply = Reply((b"data: " + reply.body + b"\n\n",), kind=EVENT_STREAM)
        await turn.exchange.send(reply.head())
        for number in range(self.steps):
            await turn.wait(self.pace)
            await turn.exchange.send(reply.framed(turn.asked.step(number + 1)))
        await turn.exchange.send(*map(reply.framed, reply.pieces), chunked())


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Say a Content-Length that is too long or too short by so many bytes (F9).

    Too long and left open, the caller waits; too short, the rest stands before the next answer.
    """

    by: int
    closes: bool = False

    async def strike(self, turn: Turn) -> None:
        reply = turn.done()
        length = len(reply.body) + self.by
        await turn.exchange.send(reply.head(f"Content-Length: {length}") + reply.body)
        if self.closes:
            turn.exchange.close()


@dataclass(frozen=True, slots=True)
class SaidLength:
    """Say these Content-Lengths, word for word: doubled, negative, no number (F9)."""

    values: tuple[str, ...]

    async def strike(self, turn: Turn) -> None:
        reply = turn.done()
        lengths = (f"Content-Length: {value}" for value in self.values)
        await turn.exchange.send(reply.head(*lengths) + reply.body)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Send these bytes instead of an answer, then close (F10, F11, F14)."""

    raw: bytes = b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"
    executed: bool = True

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        await turn.exchange.send(self.raw)
        turn.exchange.close()


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with an HTTP status (F5), and say when to come back (F6).

    `retry_after` is sent as it is if it is a text or a number, and as an HTTP date if it is a time.
    """

    code: int
    retry_after: str | int | datetime | None = None
    executed: bool = False

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        when = self.retry_after
        if isinstance(when, datetime):
            when = format_datetime(when, usegmt=True)
        headers = () if when is None else (f"Retry-After: {when}",)
        phrase = HTTPStatus(self.code).phrase
        status = f"{self.code} {phrase}"
        await turn.say(Reply((phrase.encode(),), status, headers, "text/plain"))


@dataclass(frozen=True, slots=True)
class Fails:
    """Let the tool say that it failed (F7): `success: false`, `isError`, with a code an RPC error."""

    error: str = "told to fail"
    code: int | None = None
    executed: bool = False

    async def strike(self, turn: Turn) -> None:
        if self.executed:
            turn.done()
        await turn.say(turn.failed(self.error, self.code))
