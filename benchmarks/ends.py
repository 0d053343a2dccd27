"""Both ends of a transfer for `benchmarks.memory`: raw sockets, so that the middle is what is seen.

As a program it is the server behind: it takes and gives bodies of any size without holding them,
keeps event streams open, answers calls, and tells how far it has got.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

try:
    from uvloop import run
except ImportError:
    from asyncio import run

PIECE = 1 << 18  # large, so that the ends cost little beside the middle
SIP = 1 << 16  # what a slow reader takes at a time
SIP_EVERY = 0.1  # seconds
EVENT_EVERY = 2.0  # seconds
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}\n\n'

Headers = dict[str, str]


class End:
    """One connection. What was read is forgotten at once; only its length counts."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._at = 0

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self, size: int = PIECE) -> bytes:
        """Return what came, framing and all; empty at the end."""
        return await self._loop.sock_recv(self._sock, size)

    def close(self) -> None:
        self._sock.close()

    async def _more(self) -> None:
        came = await self.receive()
        if not came:
            raise ConnectionResetError
        self._held = self._held[self._at :] + came
        self._at = 0

    async def _until(self, mark: bytes) -> bytes:
        while (found := self._held.find(mark, self._at)) < 0:
            await self._more()
        said = self._held[self._at : found]
        self._at = found + len(mark)
        return said

    async def _pass_over(self, size: int) -> None:
        while (there := len(self._held) - self._at) < size:
            size -= there
            self._at = len(self._held)
            await self._more()
        self._at += size

    async def head(self) -> tuple[str, Headers]:
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return first, {name.lower(): value.strip() for name, _, value in pairs}

    async def body(self, headers: Headers) -> int:
        """Read a body to its end as its framing says; return its length."""
        if "chunked" not in headers.get("transfer-encoding", ""):
            length = int(headers.get("content-length", "0"))
            await self._pass_over(length)
            return length
        length = 0
        while size := await self.chunk():
            length += size
        return length

    async def chunk(self) -> int:
        """Read one chunk; return its length."""
        size = int(await self._until(b"\r\n"), 16)
        await self._pass_over(size + 2)
        return size

    async def text(self, headers: Headers) -> bytes:
        """Read a body of known length and keep it."""
        length = int(headers.get("content-length", "0"))
        while len(self._held) - self._at < length:
            await self._more()
        self._at += length
        return self._held[self._at - length : self._at]

    async def give(self, length: int, chunked: bool, told: Callable[[int], None]) -> None:
        """Send a body as fast as it goes; `told` hears of each piece that has gone."""
        piece = bytes(PIECE)
        framed = b"%x\r\n%b\r\n" % (PIECE, piece)
        for _ in range(length // PIECE):
            await self.send(framed if chunked else piece)
            told(PIECE)
        if chunked:
            await self.send(b"0\r\n\r\n")

    async def sip(self, seconds: float, told: Callable[[int], None]) -> None:
        """Read slowly for a while, framing and all; `told` hears of each piece."""
        until = self._loop.time() + seconds
        while self._loop.time() < until and (came := await self.receive(SIP)):
            told(len(came))
            await asyncio.sleep(SIP_EVERY)


class Count:
    """How many bytes so far."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, size: int) -> None:
        self.total += size


async def dial(port: int) -> End:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return End(sock)


def framing(length: int, chunked: bool) -> str:
    return "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"


def message(first: str, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode() + body


def answer(said: object) -> bytes:
    body = json.dumps(said).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return message("HTTP/1.1 200 OK", *lines, body=body)


class Upstream:
    """The server behind."""

    def __init__(self) -> None:
        # bytes of the present or last body, as far as the kernel has taken them
        self._given = Count()
        self._sipped = Count()
        self._giving = 0
        self._calls = 0
        self._streams: dict[End, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
            listening.setblocking(False)
            print("listening", flush=True)
            self._spawn(self._speak())
            while True:
                sock, _ = await loop.sock_accept(listening)
                self._spawn(self._attend(End(sock)))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, end: End) -> None:
        with suppress(OSError):
            while True:
                first, headers = await end.head()
                method, target, _ = first.split(" ")
                await self._answer(end, f"{method} {target.split('/')[1]}", target, headers)
        self._streams.pop(end, None)
        end.close()

    async def _answer(self, end: End, what: str, target: str, headers: Headers) -> None:
        if what == "PUT take":
            await end.send(answer({"taken": await end.body(headers)}))
        elif what == "PUT sip":
            self._sipped = Count()
            await end.sip(3600, self._sipped.add)
            raise ConnectionResetError  # the body went by unread
        elif what == "GET give":
            _, _, length, kind = target.split("/")
            await self._give(end, int(length), kind == "chunked")
        elif what == "GET mcp":
            await self._stream(end)
        elif what == "POST mcp":
            asked = json.loads(await end.text(headers))
            self._calls += asked["method"] == "tools/call"
            await end.send(answer({"jsonrpc": "2.0", "id": asked.get("id"), "result": {}}))
        else:
            told = {"given": self._given.total, "giving": self._giving, "calls": self._calls}
            told |= {"sipped": self._sipped.total, "streams": len(self._streams)}
            await end.send(answer(told))

    async def _give(self, end: End, length: int, chunked: bool) -> None:
        lines = ("Content-Type: application/octet-stream", framing(length, chunked))
        await end.send(message("HTTP/1.1 200 OK", *lines))
        self._given = Count()
        self._giving += 1
        try:
            await end.give(length, chunked, self._given.add)
        finally:
            self._giving -= 1

    async def _stream(self, end: End) -> None:
        lines = ("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
        await end.send(message("HTTP/1.1 200 OK", *lines))
        await self._say(end)
        self._streams[end] = None
        await end.receive()  # nothing comes any more but the end
        raise ConnectionResetError

    async def _say(self, end: End) -> None:
        await end.send(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))

    async def _speak(self) -> None:
        """Say one event on each stream now and then."""
        while True:
            await asyncio.sleep(EVENT_EVERY)
            for end in list(self._streams):
                with suppress(OSError):
                    await self._say(end)


if __name__ == "__main__":
    run(Upstream().serve(int(sys.argv[1])))
