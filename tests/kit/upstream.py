"""The server under test control: sockets, two fronts, a script for each name."""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from mcp_proxy.core.clock import Clock
from mcp_proxy.layers.clock import SystemClock
from tests.edge.wire import GONE, Exchange, Said, answer, read_body, read_head
from tests.kit.door import LOOPBACK, Door, Greeting, abort, greet
from tests.kit.faults import Fault
from tests.kit.ledger import Ledger
from tests.kit.mcp_front import MCP, McpFront
from tests.kit.rest_front import RestFront
from tests.kit.scripts import FINE, Scripts, Source
from tests.kit.sessions import Sessions
from tests.kit.tools import TOOLS, Tool
from tests.kit.turn import Turn
from tests.kit.watch import Watch

_LIMIT = 1 << 26  # bytes of a request's head
_KEPT = 1000  # requests


class Upstream:
    """Serve REST and MCP on loopback, well unless a script says otherwise.

    `clock` is what pauses in seconds are counted with; a test that hands in one that it moves by
    hand waits for nothing. Several that stand for one server write into one ledger.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = TOOLS,
        clock: Clock | None = None,
        ledger: Ledger | None = None,
        port: int = 0,
    ) -> None:
        by_name = {tool.name: tool for tool in tools}
        self.clock = clock or SystemClock()
        self.ledger = ledger if ledger is not None else Ledger(by_name.values())
        self.sessions = Sessions()
        self.mcp = McpFront(by_name, self.ledger, self.sessions)
        self.rest = RestFront(by_name, self.ledger, self.clock)
        self.scripts = Scripts()
        self.arrived: Counter[str] = Counter()  # whole requests, by the name of their script
        self.asked: deque[Said] = deque(maxlen=_KEPT)  # the last ones
        self.unreadable = 0  # requests that are no HTTP
        self.accepted = 0  # connections, ever
        self.connections: set[asyncio.StreamWriter] = set()
        self.greetings: deque[Greeting] = deque()  # of the next connections
        self._unread: set[asyncio.Task[bool]] = set()  # connections of which nothing is read yet
        self._watch = Watch()
        self._door = Door(self._meet, port)
        self.port = self._door.port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Upstream"]:
        """Serve until the block is left."""
        self.accept()
        try:
            yield self
        finally:
            self.drop()
            await self._door.close()

    # --- what a test orders

    def plays(self, name: str, *faults: Fault, then: Fault | Source = FINE) -> None:
        """Let these faults strike the next requests of this name, then that one all others.

        A name is a tool, EVERY_TOOL for those without a script of their own, an MCP method such as
        "tools/list", or "GET /api/health", "GET /mcp".
        """
        self.scripts.set(name, faults, then)

    def greets(self, *greetings: Greeting) -> None:
        """Treat the next new connections so, before a byte of them is read."""
        self.greetings.extend(greetings)

    def accept(self) -> None:
        """Listen (again)."""
        self._door.open()
        self.tell()

    @property
    def accepts(self) -> bool:
        return self._door.is_open

    def refuse(self) -> None:
        """Stop listening: new connections are refused, open ones go on."""
        self._door.shut()

    def drop(self) -> None:
        """Reset every open connection."""
        for writer in list(self.connections):
            abort(writer)
        for task in self._unread:
            task.cancel()

    def crash(self) -> None:
        """Die: nobody listens, connections are reset, sessions are forgotten."""
        self.refuse()
        self.drop()
        self.forget_sessions()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be dead during the block, and as newly started after it."""
        self.crash()
        try:
            yield
        finally:
            self.accept()

    def forget_sessions(self) -> None:
        """Answer 404 in every session from now on."""
        self.sessions.forget()

    # --- what a test sees

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something about requests, executions or connections holds."""
        await self._watch.until(holds)

    def tell(self) -> None:
        """Say that something has happened that somebody may wait for."""
        self._watch.tell()

    # --- connections

    async def _meet(self, sock: socket.socket) -> None:
        self.accepted += 1
        greeting = self.greetings.popleft() if self.greetings else Greeting.WELCOME
        self.tell()
        greeted = asyncio.get_running_loop().create_task(greet(sock, greeting))
        self._unread.add(greeted)
        greeted.add_done_callback(self._unread.discard)
        try:
            if not await greeted:
                return
        except asyncio.CancelledError:
            sock.close()  # it may have ended before it began
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=_LIMIT)
        self.connections.add(writer)
        try:
            with suppress(*GONE):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self.connections.discard(writer)
            self.tell()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            try:
                said = await read_head(reader)
                await read_body(reader, said, to_eof=False)
                path = said.target.partition("?")[0]
            except (ValueError, IndexError):
                self.unreadable += 1
                writer.write(answer(status="400 Bad Request"))
                return
            if not said.whole:  # the caller left in the middle of it
                return
            asked = (self.mcp if path == MCP else self.rest).read(said)
            self.asked.append(said)
            self.arrived[asked.name] += 1
            fault = self.scripts.next(asked.name, is_tool=asked.is_tool)
            self.tell()
            await fault.strike(Turn(Exchange(said, reader, writer), asked, self))
