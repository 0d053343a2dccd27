"""A relay on loopback that keeps what the sidecar sent, and can stand in its way."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.edge.wire import Said
from tests.kit.door import LOOPBACK, Door, abort, reset
from tests.kit.framing import Framing
from tests.kit.watch import Watch

_PIECE = 1 << 16


class CutError(Exception):
    """The relay breaks the connection here."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What happens to one connection; without limits it is only relayed."""

    request_bytes: int | None = None  # so many reach the server, then both sides are cut
    answer_bytes: int | None = None  # so many reach the sidecar, then both sides are cut
    swallows: bool = False  # everything is taken and nothing is passed on
    resets: bool = True  # cut with RST instead of FIN


@dataclass
class Tape:
    """What went over one connection."""

    passage: Passage
    sent: bytearray = field(default_factory=bytearray)  # by the sidecar, as far as it is kept
    sent_bytes: int = 0  # all of them
    answered_bytes: int = 0  # that reached the sidecar
    framing: Framing = field(default_factory=Framing)
    open: bool = True


class Recorder:
    """Relay connections to a port of loopback; record each on a tape of its own.

    All bytes are checked as they come; so many are kept, over all connections.

    A relay cannot refuse in the name of the server: where nobody listens behind it, its connections
    are reset. A test that wants a refusal calls `refuse` of the recorder, too.
    """

    def __init__(self, port: int, *, keeps: int = 1 << 26) -> None:
        self._to = port
        self._room = keeps
        self.tapes: list[Tape] = []
        self.requests_pass = asyncio.Event()  # while clear, nothing more goes to the server
        self.answers_pass = asyncio.Event()  # while clear, nothing more goes to the sidecar
        self.requests_pass.set()
        self.answers_pass.set()
        self.swallows = False  # all connections, from now on
        self._passages: deque[Passage] = deque()
        self._writers: set[asyncio.StreamWriter] = set()
        self._watch = Watch()
        self._door = Door(self._meet)
        self.port = self._door.port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Recorder"]:
        """Relay until the block is left."""
        self.accept()
        try:
            yield self
        finally:
            await self._door.close()

    # --- what a test orders

    def plays(self, *passages: Passage) -> None:
        """Let these things happen to the next new connections."""
        self._passages.extend(passages)

    def accept(self) -> None:
        """Listen (again)."""
        self._door.open()

    def refuse(self) -> None:
        """Stop listening: new connections are refused, open ones go on."""
        self._door.shut()

    def cut(self) -> None:
        """Reset every open connection at both ends."""
        for writer in list(self._writers):
            abort(writer)

    # --- what a test sees

    def violations(self) -> list[str]:
        """Return what the sidecar sent that is not strict HTTP/1.1."""
        return [
            f"connection {number}: {what}"
            for number, tape in enumerate(self.tapes)
            for what in tape.framing.violations
        ]

    def requests(self) -> list[Said]:
        """Return the whole requests of all connections (of each the last thousand)."""
        return [said for tape in self.tapes for said in tape.framing.requests]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something about the tapes holds."""
        await self._watch.until(holds)

    # --- connections

    async def _meet(self, sock: socket.socket) -> None:
        passage = self._passages.popleft() if self._passages else Passage()
        tape = Tape(passage)
        self.tapes.append(tape)
        try:
            inner, outer = await asyncio.open_connection(LOOPBACK, self._to)
        except OSError:
            reset(sock)  # what a refusal looks like through a relay: nobody is there
            tape.open = False
            self._watch.tell()
            return
        reader, writer = await asyncio.open_connection(sock=sock)
        self._writers |= {outer, writer}
        resets = True
        try:
            for one in (outer, writer):
                one.transport.set_write_buffer_limits(0)  # a cut loses nothing that was to pass
            async with asyncio.TaskGroup() as both:
                both.create_task(self._requests(reader, outer, tape))
                both.create_task(self._answers(inner, writer, tape))
            resets = False
        except* CutError:
            resets = passage.resets
        except* OSError:  # one side has left
            pass
        finally:
            for one in (outer, writer):
                if resets:
                    abort(one)
                else:
                    one.close()
            self._writers -= {outer, writer}
            tape.open = False
            self._watch.tell()

    async def _requests(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, tape: Tape
    ) -> None:
        while data := await source.read(_PIECE):
            tape.sent += data[: self._room]
            self._room -= min(self._room, len(data))
            tape.sent_bytes += len(data)
            tape.framing.feed(data)
            self._watch.tell()
            await self.requests_pass.wait()
            limit = tape.passage.request_bytes
            await self._pass_on(data, sink, tape, limit, tape.sent_bytes - len(data))
        sink.write_eof()

    async def _answers(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, tape: Tape
    ) -> None:
        while data := await source.read(_PIECE):
            if data.startswith(b"HTTP/1.1 101 "):
                tape.framing.upgraded()
            await self.answers_pass.wait()
            before = tape.answered_bytes
            tape.answered_bytes += len(data)
            await self._pass_on(data, sink, tape, tape.passage.answer_bytes, before)
            self._watch.tell()
        sink.write_eof()

    async def _pass_on(
        self,
        data: bytes,
        sink: asyncio.StreamWriter,
        tape: Tape,
        limit: int | None,
        before: int,
    ) -> None:
        if tape.passage.swallows or self.swallows:
            return
        left = len(data) if limit is None else limit - before
        sink.write(data[:left])
        await sink.drain()
        if limit is not None and len(data) >= left:
            raise CutError
