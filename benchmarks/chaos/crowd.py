"""The clients: connections that are kept alive, sessions that are kept, nothing that is repeated."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum

from tests.edge.wire import GONE, Client, Said, post, read_body, read_head, rpc
from tests.kit.door import LOOPBACK
from tests.kit.seen import Fate, Seen, see
from tests.kit.sent import ACCEPT, HELLO, Sent, in_session

Call = Callable[[int], Awaitable[object]]
_HANDSHAKES = 40  # tries, for the server may be away just then
_PAUSE = 0.1  # seconds between them


class Dialect(Enum):
    """How a call is said."""

    REST = "REST"
    SESSION = "handshake session"
    STATELESS = "stateless MCP"


DIALECTS = tuple(Dialect)


class Crowd:
    """Ask the sidecar as many clients would; remember what they saw."""

    def __init__(self, port: int, patience: float) -> None:
        self.port = port
        self.patience = patience  # seconds until a client gives a call up
        self._idle: list[Client] = []
        self.seen: list[Seen] = []
        self.sessions: dict[str, str] = {}  # by caller
        self.took: list[float] = []  # seconds of each call that was answered
        self.stuck: Said | None = None  # what had come of the last one of these
        self.unanswered = 0  # calls that outlasted the client's patience

    def count(self, *fates: Fate) -> int:
        """Return how many calls ended so."""
        return sum(one.fate in fates for one in self.seen)

    async def call(self, sent: Sent, dialect: Dialect, session: str | None = None) -> Seen:
        """Call once, and remember what became of it; `session` is another than the caller's own."""
        if dialect is Dialect.REST:
            raw = sent.rest()
        elif dialect is Dialect.STATELESS:
            raw = sent.stateless()
        else:
            raw = sent.mcp(session or self.sessions[sent.caller])
        began = time.monotonic()
        said = await self.ask(raw)
        if said is not None:
            self.took.append(time.monotonic() - began)
        seen = see(sent, said)
        self.seen.append(seen)
        return seen

    async def ask(self, raw: bytes) -> Said | None:
        """Return the answer, or as much of it as came; None when none came."""
        client = await self._client()
        kept, said = False, None
        try:
            async with asyncio.timeout(self.patience):
                client.writer.write(raw)
                await client.writer.drain()
                said = await read_head(client.reader)
                if said.status not in {204, 304}:
                    await read_body(client.reader, said, to_eof=True)
            kept = said.whole and "close" not in said.all("Connection")
            return said
        except TimeoutError:
            self.unanswered += 1
            self.stuck = said
        except GONE:
            pass
        finally:
            if kept:
                self._idle.append(client)
            else:
                await client.close()
        return None

    async def _client(self) -> Client:
        while self._idle:
            client = self._idle.pop()
            if not client.reader.at_eof() and not client.writer.is_closing():
                return client
            await client.close()
        return Client(*await asyncio.open_connection(LOOPBACK, self.port, limit=1 << 24))

    async def open_session(self, caller: str) -> None:
        """Shake hands, as often as it takes while the server is away."""
        for _ in range(_HANDSHAKES):
            headers = (f"Authorization: {caller}",)
            hello = await self.ask(post("/mcp", rpc("initialize", 1, **HELLO), ACCEPT, *headers))
            if hello is not None and hello.status == 200 and "Mcp-Session-Id" in hello:
                session = hello["Mcp-Session-Id"]
                ready = rpc("notifications/initialized", None)
                accepted = await self.ask(post("/mcp", ready, *headers, *in_session(session)))
                if accepted is not None and accepted.status == 202:
                    self.sessions[caller] = session
                    return
            await asyncio.sleep(_PAUSE)
        raise TimeoutError(f"no session for {caller}")

    async def many(self, calls: int, at_once: int, call: Call) -> None:
        """Make so many calls, so many of them at a time."""
        numbers = iter(range(calls))

        async def one_after_the_other() -> None:
            for number in numbers:
                await call(number)

        async with asyncio.TaskGroup() as all_of_them:
            for _ in range(at_once):
                all_of_them.create_task(one_after_the_other())

    async def paced(self, calls: int, per_second: float, call: Call) -> None:
        """Make so many calls at this pace, whether the earlier ones were answered or not."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as all_of_them:
            for number in range(calls):
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
                all_of_them.create_task(call(number))

    async def leave(self) -> None:
        """Close every connection."""
        while self._idle:
            with suppress(*GONE):
                await self._idle.pop().close()
