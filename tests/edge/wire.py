"""Both ends of the wire, byte by byte: a server that plays raw answers, a client that reads them."""

import asyncio
import json
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mcp_proxy.assembly import Sidecar
from mcp_proxy.core.clock import Clock
from mcp_proxy.layers.trace import Spans
from mcp_proxy.ports import Ports, open_ports
from mcp_proxy.signals import schemas
from mcp_proxy.signals.logs import Log
from mcp_proxy.sources import Loader
from tests.fakes import settle

BOUND = 5.0  # seconds; no wait of these tests is longer
_LIMIT = 1 << 26
GONE = (ConnectionError, asyncio.IncompleteReadError)


def bound(seconds: float = BOUND) -> AbstractAsyncContextManager[object]:
    return asyncio.timeout(seconds)  # noqa: TID251 - a test that waits for ever tells nothing


Fields = list[tuple[str, str]]


@dataclass
class Said:
    """A request or an answer as it stood on the wire."""

    line: str
    headers: Fields
    body: bytes = b""
    whole: bool = True  # its framing says that it ended
    pieces: list[bytes] = field(default_factory=list)  # chunks, one by one

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def status(self) -> int:
        return int(self.line.split(" ", 2)[1])

    @property
    def method(self) -> str:
        return self.line.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_head(reader: asyncio.StreamReader) -> Said:
    """Read a start line and header lines; Latin-1 keeps every byte."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines[1:]]
    return Said(lines[0], [(name, value.strip(" ")) for name, _, value in pairs])


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
    return (await reader.readexactly(size + 2))[:-2]


async def read_body(reader: asyncio.StreamReader, said: Said, *, to_eof: bool) -> None:
    """Read the body that the headers announce, or as much of it as comes."""
    try:
        if "chunked" in said.all("Transfer-Encoding"):
            while piece := await read_chunk(reader):
                said.pieces.append(piece)
                said.body += piece
        elif "Content-Length" in said:
            length = int(said["Content-Length"])
            while len(said.body) < length:
                piece = await reader.read(length - len(said.body))
                if not piece:
                    said.whole = False
                    return
                said.body += piece
        elif to_eof:
            while piece := await reader.read(1 << 16):
                said.body += piece
    except GONE:
        said.whole = False


class Exchange:
    """One request at the server, and the means to answer it."""

    def __init__(
        self, asked: Said, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def left(self) -> None:
        """Return when the other side has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass


Answer = bytes | Callable[[Exchange], Awaitable[None]]


class Upstream:
    """The server behind, under control: records requests, plays answers in order.

    What the sidecar asks on its own account (it carries no Via) is kept apart, and answered 404
    or as `own` says.
    """

    def __init__(self) -> None:
        self.begun = 0  # requests of which the head came
        self.asked: list[Said] = []
        self.on: list[int] = []  # the connection on which each request came
        self.open: set[int] = set()  # connections that carried a request and are still there
        self.looks: list[Said] = []
        self.own = answer(status="404 Not Found")
        self.reads_bodies = True  # before answering
        self._answers: list[Answer] = [answer()]
        self._connections = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def plays(self, *answers: Answer) -> None:
        """Play these answers in order; the last one for ever."""
        self._answers = list(answers)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        await settle()  # what was accepted is made a task of
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about requests or connections holds."""
        async with bound(), self._changed:
            await self._changed.wait_for(holds)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = self._serve(self._connections, reader, writer)
        task = asyncio.get_running_loop().create_task(serving)
        self._connections += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # also where it is cancelled before its first step: then no `finally` of its own runs
        task.add_done_callback(lambda _: writer.close())

    async def _serve(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while not writer.is_closing():
                asked = await read_head(reader)
                self.begun += "Via" in asked
                if self.reads_bodies:
                    await read_body(reader, asked, to_eof=False)
                exchange = Exchange(asked, reader, writer)
                if "Via" not in asked:
                    self.looks.append(asked)
                    await self.tell()
                    await exchange.send(self.own)
                    continue
                self.asked.append(asked)
                self.on.append(number)
                self.open.add(number)
                played = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                await self.tell()
                await (exchange.send(played) if isinstance(played, bytes) else played(exchange))
        except GONE:
            pass
        finally:
            writer.close()
            self.open.discard(number)
            await self.tell()


def answer(
    body: bytes = b"", *headers: str, status: str = "200 OK", kind: str = "application/json"
) -> bytes:
    """Return a raw answer with a Content-Length, unless a header says how long it is."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    return b"".join(map(chunk, pieces)) + (b"0\r\n\r\n" if end else b"")


def streamed(kind: str = "text/event-stream", *headers: str) -> bytes:
    """Return the head of a chunked answer."""
    return answer(b"", *headers, "Transfer-Encoding: chunked", kind=kind)


def request(method: str, target: str, *headers: str, body: bytes | None = None) -> bytes:
    """Return a raw request; a Content-Length is added where there is a body of known length."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.insert(1, "Host: localhost")
    if body is not None and not any(line.lower().startswith("transfer-") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def get(target: str, *headers: str) -> bytes:
    return request("GET", target, *headers)


def post(target: str, body: bytes | dict[str, Any], *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", target, "Content-Type: application/json", *headers, body=data)


def rpc(method: str, request_id: Any = 1, **params: Any) -> dict[str, Any]:
    """Return a JSON-RPC request; without an id (None) a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if request_id is None else {**message, "id": request_id}


def tool(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    return rpc("tools/call", request_id, name=name, arguments=arguments)


def result(request_id: Any = 1, **fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": fields}).encode()


class Client:
    """One connection to the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        async with bound():
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def head(self) -> Said:
        """Read the head of the next answer."""
        async with bound():
            while (said := await read_head(self.reader)).status in {100, 102, 103}:
                pass
            return said

    async def chunk(self) -> bytes:
        """Read one chunk as it comes; empty at a clean end."""
        async with bound():
            return await read_chunk(self.reader)

    async def hear(self, method: str = "GET") -> Said:
        """Read the next answer to its end, or as far as it comes."""
        heard = await self.head()
        if method != "HEAD" and heard.status not in {204, 304}:
            async with bound():
                await read_body(self.reader, heard, to_eof=True)
        return heard

    async def ask(self, raw: bytes) -> Said:
        await self.send(raw)
        return await self.hear(raw.partition(b" ")[0].decode())

    async def ended(self) -> bool:
        """Wait for the other side's end of the connection; tell whether nothing came before."""
        async with bound():
            with suppress(ConnectionError):
                return await self.reader.read() == b""
        return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Front:
    """A sidecar that listens, as production builds it."""

    def __init__(self, sidecar: Sidecar, ports: Ports, log: Log, told: Any) -> None:
        self.sidecar = sidecar
        self.ports = ports
        self.urls = ports.urls
        self.port, *ops = [
            int(urls[0].rpartition(":")[2]) for urls in (ports.urls, ports.ops_urls) if urls
        ]
        self.ops_port = ops[0] if ops else self.port
        self._log = log
        self._told = told

    @asynccontextmanager
    async def client(self, port: int | None = None) -> AsyncIterator[Client]:
        async with bound():
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port or self.port, limit=_LIMIT
            )
        client = Client(reader, writer)
        try:
            yield client
        finally:
            await client.close()

    async def ask(self, raw: bytes, port: int | None = None) -> Said:
        """Ask on a connection of its own."""
        async with self.client(port) as client:
            return await client.ask(raw)

    def told(self) -> list[dict[str, Any]]:
        """Return the events so far; nothing is told afterwards."""
        self._log.close()
        self._told.seek(0)
        return [json.loads(line) for line in self._told]


@asynccontextmanager
async def sidecar(
    url: str, clock: Clock | None = None, spans: Spans | None = None, **settings: object
) -> AsyncIterator[Front]:
    """Run a sidecar in front of `url`; retries are quick and a refusal is no restart."""
    values = {
        "MCP_UPSTREAM_URL": url,
        "MCP_BACKOFF_BASE": "0.001",
        "MCP_RESTART_GRACE": "0",
        "MCP_PORT": "0",
        **{name: str(value) for name, value in settings.items()},
    }
    with tempfile.TemporaryFile() as told:
        log = Log("debug", told.fileno())
        loaded = Loader({}, values).load()
        sidecar = Sidecar(loaded, log, clock, spans)
        try:
            ports = await open_ports(sidecar, loaded)
            try:
                yield Front(sidecar, ports, log, told)
            finally:
                await ports.cleanup()
        finally:
            await sidecar.aclose()
            log.close()
        told.seek(0)
        for line in told:
            check_event(json.loads(line))


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas.schema(name))


def check_event(event: dict[str, Any]) -> None:
    """Raise ValidationError when an event says what its schema does not.

    Tests may tell events of their own, whose names begin with "test.".
    """
    if not event["event"].startswith("test."):
        _validator(event["event"]).validate(event)


def unused_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def descriptors() -> int:
    """Return how many files and sockets this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))
