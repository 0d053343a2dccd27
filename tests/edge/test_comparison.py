"""Direct against sidecar, byte by byte: the means to compare, and what hypothesis thinks up.

One raw request goes to the recorder twice, once straight and once through the sidecar, and gets
the same raw answer both times. `same` then knows no difference but those in docs/wire.md. The
tables of odd but legal messages are in the files beside this one.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs

from tests.edge.wire import Front, answer, bound, get, post, request, rpc, sidecar, tool

Fields = list[tuple[bytes, bytes]]

HOPS = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization"),
    *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
}
# The length is compared apart: it may give way to chunks, and has no place of its own in the head.
FRAMING = b"content-length"
TO_UPSTREAM = {
    *(b"host", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
    *(b"x-request-id", b"forwarded", b"expect"),
}
TO_CLIENT = {b"x-request-id", b"via", b"cache-status", b"server-timing"}
# aiohttp's C parser puts its own spelling of these for what it read; one test sees to that, and
# all others would say nothing else
RESPELLED = {str(name).lower().encode() for name in vars(hdrs).values() if isinstance(name, str)}
TO_EVENT_STREAMS = {b"x-accel-buffering", b"cache-control"}
OK = answer(b"ok", kind="text/plain")
AGAIN = request("GET", "/again")
LIMIT = 1 << 23
# Where each stack is: plain, full, and (for what is streamed) short.
PATHS = ["/x", "/mcp", "/messages/?session_id=1", "/api/call-tool"]
KIB, MIB = 1 << 10, 1 << 20
EDGES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 2 * MIB]
# no period that a slip of a buffer's length could hide behind
NOISE = b"".join(b"%x\x00\xff\r\n" % number for number in range(300_000))
# Brotli has no writer here; what it is does not matter, only that nobody looks inside
ENCODED = {
    "gzip": gzip.compress(NOISE[:5000]),
    "br": b"\x8b\x02\x80hello\x03",
    "zstd": b"(\xb5/\xfd",
}
# One request for each stack and reading.
ASKS = {
    "GET": get("/x"),
    "POST": request("POST", "/x", body=b"hello"),
    "a call": post("/mcp", tool("x")),
    "an unread call": post("/mcp", b"[]"),
    "a notification": post("/mcp", rpc("notifications/initialized", None)),
    "a message": post("/messages/?session_id=1", tool("x")),
    "a stream": get("/mcp", "Accept: text/event-stream"),
    "DELETE": request("DELETE", "/mcp", "Mcp-Session-Id: 1"),
}
ZIPPED = ENCODED["gzip"]


@dataclass
class Seen:
    """A message as it stood on the wire."""

    line: bytes
    fields: Fields
    body: bytes = b""
    interim: list[bytes] = field(default_factory=list)  # status lines of 1xx before it
    trailers: Fields = field(default_factory=list)

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known.lower() == name]

    def says(self, name: bytes, token: bytes) -> bool:
        return token in b",".join(self.all(name)).lower().replace(b" ", b"").split(b",")

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    @property
    def end_to_end(self) -> Fields:
        named = {name.strip().lower() for name in b",".join(self.all(b"connection")).split(b",")}
        return [pair for pair in self.fields if pair[0].lower() not in HOPS | named]

    def but(self, names: set[bytes]) -> Fields:
        """Return what is left for the far end."""
        left = [pair for pair in self.end_to_end if pair[0].lower() not in names]
        return [(n.lower() if n.lower() in RESPELLED else n, value) for n, value in left]


async def read_head(reader: asyncio.StreamReader) -> Seen:
    line, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    pairs = [one.partition(b":") for one in lines]
    return Seen(line, [(name, value.strip(b" \t")) for name, _, value in pairs])


async def read_body(reader: asyncio.StreamReader, seen: Seen, *, to_end: bool) -> None:
    if seen.says(b"transfer-encoding", b"chunked"):
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            seen.body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            seen.trailers.append((name, value.strip()))
    elif lengths := seen.all(FRAMING):
        seen.body = await reader.readexactly(int(lengths[0]))
    elif to_end:
        seen.body = await reader.read(-1)


class Recorder:
    """A server that keeps what it is asked, and answers as it is told.

    What comes neither from a direct client nor with a Via is the sidecar's own look: 404.
    """

    def __init__(self) -> None:
        self.direct: set[int] = set()  # ports of clients
        self.asked: list[Seen] = []
        self.answers: list[bytes] = []
        self.closes = False  # after an answer, as old servers do
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        try:
            while not writer.is_closing():
                asked = await read_head(reader)
                direct = port in self.direct
                if direct and asked.says(b"expect", b"100-continue"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await read_body(reader, asked, to_end=False)
                writer.write(self._said(asked, ours=direct or b"via" in dict(lowered(asked))))
                await writer.drain()
                if leaves(asked) or self.closes:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _said(self, asked: Seen, *, ours: bool) -> bytes:
        if not ours:
            return answer(status="404 Not Found")
        if b" /again " in asked.line:
            return answer(b"again", kind="")
        self.asked.append(asked)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return without_body(said) if asked.line.startswith(b"HEAD ") else said


def without_body(said: bytes) -> bytes:
    """Keep the last head and what is before it."""
    ends = [part for part in said.split(b"\r\n\r\n") if part.startswith(b"HTTP/1.")]
    return b"".join(part + b"\r\n\r\n" for part in ends)


def lowered(seen: Seen) -> Iterator[tuple[bytes, bytes]]:
    return ((name.lower(), value) for name, value in seen.fields)


def is_events(said: Seen) -> bool:
    return any(kind.startswith(b"text/event-stream") for kind in said.all(b"content-type"))


def leaves(asked: Seen) -> bool:
    """Tell whether a client wants its connection to end (RFC 9112 section 9.3)."""
    if asked.line.endswith(b" HTTP/1.0"):
        return not asked.says(b"connection", b"keep-alive")
    return asked.says(b"connection", b"close")


@dataclass
class Outcome:
    """What one way of asking led to."""

    asked: list[Seen]
    heard: list[Seen]
    stays: bool  # one more request on the same connection is answered, and by its own answer


class Pair:
    """The recorder, and a sidecar in front of it."""

    def __init__(self, recorder: Recorder, front: Front) -> None:
        self.recorder = recorder
        self.front = front

    async def directly(self, *raws: bytes) -> Outcome:
        return await self._ask(self.recorder.port, raws)

    async def through(self, *raws: bytes) -> Outcome:
        return await self._ask(self.front.port, raws)

    async def compare(
        self,
        *raws: bytes,
        answers: Sequence[bytes] = (OK,),
        closes: bool = False,
        location: str = "",
    ) -> tuple[Outcome, Outcome]:
        """Ask both ways, and find no difference but the documented ones."""
        outcomes = []
        self.recorder.closes = closes
        for ask in (self.directly, self.through):
            self.recorder.answers = list(answers)
            outcomes.append(await ask(*raws))
        direct, through = outcomes
        self.same(direct, through, location=location.encode())
        return direct, through

    async def _ask(self, port: int, raws: tuple[bytes, ...]) -> Outcome:
        """Ask all at once, as a client that pipelines."""
        self.recorder.asked = []
        async with bound():
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
            ours = writer.get_extra_info("sockname")[1]
            if port == self.recorder.port:
                self.recorder.direct.add(ours)
            try:
                heard = await self._hear(reader, writer, raws)
                stays = await self._stays(reader, writer)
            finally:
                writer.close()
                self.recorder.direct.discard(ours)
        return Outcome(self.recorder.asked, heard, stays)

    async def _hear(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raws: tuple[bytes, ...]
    ) -> list[Seen]:
        heard = []
        head, gap, held = raws[-1].partition(b"\r\n\r\n")
        waits = b"100-continue" in head.lower()
        with suppress(ConnectionError):  # a refusal may come before the body went out
            writer.write(b"".join(raws[:-1]) + head + gap + (b"" if waits else held))
            await writer.drain()
        for raw in raws:
            interim = []
            while (seen := await read_head(reader)).status < 200:
                interim.append(seen.line)
                if waits and seen.status == 100:
                    writer.write(held)
                    waits = False
            seen.interim = interim
            if not raw.startswith(b"HEAD ") and seen.status not in {204, 304}:
                await read_body(reader, seen, to_end=True)
            heard.append(seen)
        return heard

    async def _stays(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            writer.write(AGAIN)
            await writer.drain()
            first = await reader.read(1)
        except ConnectionError:
            return False
        if not first:
            return False
        seen = await read_head(reader)
        seen.line = first + seen.line
        await read_body(reader, seen, to_end=True)
        assert (seen.status, seen.body) == (200, b"again")
        return True

    def same(self, direct: Outcome, through: Outcome, *, location: bytes = b"") -> None:
        assert [seen.line for seen in through.heard] == [
            # a version is each connection's own (RFC 9110 section 2.5)
            b"HTTP/1.1 " + seen.line.partition(b" ")[2]
            for seen in direct.heard
        ]
        assert len(through.asked) == len(direct.asked)
        for came, sent in zip(through.asked, direct.asked, strict=True):
            self._same_request(came, sent)
        for came, sent in zip(through.heard, direct.heard, strict=True):
            self._same_answer(came, sent, location)
        assert through.stays or not direct.stays
        if direct.asked and leaves(direct.asked[-1]):
            assert not through.stays

    def _same_request(self, came: Seen, sent: Seen) -> None:
        assert came.line == sent.line.rpartition(b" ")[0] + b" HTTP/1.1"
        assert came.but(TO_UPSTREAM | {FRAMING}) == sent.but(TO_UPSTREAM | {FRAMING})
        assert came.body == sent.body
        if not sent.says(b"transfer-encoding", b"chunked"):
            # "no length" and "a length of 0" are told apart in one test of their own
            assert (came.all(FRAMING) or [b"0"]) == (sent.all(FRAMING) or [b"0"])
            assert came.all(FRAMING) or not sent.all(FRAMING)
            assert not came.all(b"transfer-encoding")
        assert came.trailers == []
        assert came.all(b"via") == [*sent.all(b"via"), self._via]
        assert came.all(b"host") == [f"localhost:{self.recorder.port}".encode()]
        assert came.all(b"x-forwarded-for") == [b"127.0.0.1"]
        assert came.all(b"x-forwarded-proto") == [b"http"]
        assert came.all(b"x-forwarded-host") == sent.all(b"host")
        assert len(came.all(b"x-request-id")) == 1
        assert {name for name, _ in lowered(came)}.isdisjoint(HOPS - {b"transfer-encoding"})

    def _same_answer(self, came: Seen, sent: Seen, location: bytes) -> None:
        theirs = sent.but({FRAMING, b"x-request-id"})
        if location:
            theirs = [(n, location if n.lower() == b"location" else v) for n, v in theirs]
        ours = came.but({FRAMING})
        assert ours[: len(theirs)] == theirs
        added = sorted(name.lower() for name, _ in ours[len(theirs) :])
        expected = TO_CLIENT.copy()
        if not sent.all(b"date"):
            expected.add(b"date")
        if is_events(sent):
            expected |= {name for name in TO_EVENT_STREAMS if not sent.all(name)}
        assert added == sorted(expected)
        assert came.body == sent.body
        if (lengths := sent.all(FRAMING)) and sent.status != 204:
            # what is appended to a cut event stream is in no length of the server's
            chunks = came.says(b"transfer-encoding", b"chunked") and is_events(sent)
            assert chunks or list(map(int, came.all(FRAMING))) == list(map(int, lengths))
            assert chunks or not came.all(b"transfer-encoding")
        assert came.trailers == []
        assert {name for name, _ in lowered(came)} & HOPS <= {b"transfer-encoding", b"connection"}

    @property
    def _via(self) -> bytes:
        return f"1.1 {self.front.sidecar.pseudonym}".encode()


@asynccontextmanager
async def pair(**settings: object) -> AsyncIterator[Pair]:
    """Open a recorder and a sidecar that repeats nothing and gives nobody up."""
    recorder = Recorder()
    await recorder.start()
    values = {"MCP_MAX_RETRIES": 0, "MCP_ENABLE_CIRCUIT_BREAKER": "false", **settings}
    try:
        async with sidecar(f"http://localhost:{recorder.port}", **values) as front:
            yield Pair(recorder, front)
    finally:
        await recorder.stop()


class Compared:
    """The same, for tests that are no coroutines: hypothesis takes none."""

    def __init__(self, runner: asyncio.Runner, both: Pair) -> None:
        self._runner = runner
        self._both = both
        self.port = both.recorder.port

    def __call__(self, *raws: bytes, **more: Any) -> tuple[Outcome, Outcome]:
        return self._runner.run(self._both.compare(*raws, **more))

    def through(self, *raws: bytes, answers: Sequence[bytes] = (OK,)) -> Outcome:
        """Ask the sidecar alone, where the two ways must differ."""
        self._both.recorder.closes = False
        self._both.recorder.answers = list(answers)
        return self._runner.run(self._both.through(*raws))


def comparing() -> Iterator[Compared]:
    """Open one pair for many cases, each on its own connection: the sidecar's own are shared."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        both = runner.run(stack.enter_async_context(pair()))
        yield Compared(runner, both)
        runner.run(stack.aclose())


def plain(*headers: str, status: str = "200 OK", body: bytes = b"hello") -> bytes:
    return answer(body, *headers, status=status, kind="text/plain")


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
