"""The live events over HTTP: as server-sent events, and over a WebSocket (DESIGN section 6)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from aiohttp import WSCloseCode, web
from multidict import CIMultiDict

from mcp_proxy.core.call import Pieces, Reply, Stream, Upgrade
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import BadRequestError, OverloadedError
from mcp_proxy.core.watching import Seen, Wanted, wanted
from mcp_proxy.edge.listening import Listening

# Watchers at once. Each costs the rendering of nothing, but the sending of everything.
_WATCHERS = 100
# Events that are sent in a row, and the pause after them: under load many go out together, and 5000
# events a second cost twenty writes.
_TOGETHER = 500
_PAUSE = 0.05  # seconds
_HEARTBEAT = 20.0  # seconds between pings on a quiet WebSocket
_HELLO = b"retry: 1000\n: events follow\n\n"
_LOST_EVENT = b"event: events.lost\ndata: %s\n\n"
_LOST = b'{"event":"events.lost","lost":%d}'


class Events(Protocol):
    """The last events, of this process (signals/events) or of several (chorus.py)."""

    def cursor(self, last_event_id: str, replay: int) -> Any:
        """Return where a watcher begins who has seen that event, or wants so many of the past."""
        ...

    async def upcoming(self, cursor: Any, wanted: Wanted, most: int) -> Seen:
        """Return what is new after a cursor."""
        ...

    async def more(self, cursor: Any) -> None:
        """Wait until there is something new after a cursor."""
        ...


class Live:
    """Let people and programs watch."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self.watchers = 0

    def stream(self, request: web.BaseRequest) -> Reply:
        """Return an event stream that ends when its reader leaves."""
        cursor, asked = self._begin(request)
        stream = Stream(self._pieces(cursor, asked))
        stream.on_end(self._end)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        return Reply(200, CIMultiDict(headers), stream)

    def socket(self, request: web.BaseRequest) -> Reply:
        """Return a WebSocket on which each event is one message; raises BadRequestError."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequestError("This is a WebSocket; /api/events tells the same without one.")
        cursor, asked = self._begin(request)
        return Reply(101, CIMultiDict(), LiveSocket(self._batches(cursor, asked), self._end))

    def _begin(self, request: web.BaseRequest) -> tuple[Any, Wanted]:
        if self.watchers >= _WATCHERS:
            raise OverloadedError("Too many watch the events already.")
        query = request.query
        asked = wanted(query)
        last_seen = request.headers.get("Last-Event-ID") or query.get("last_event_id", "")
        cursor = self._events.cursor(last_seen, asked.replay)
        self.watchers += 1  # at once: many that come together must not all find the last place
        return cursor, asked

    def _end(self) -> None:
        self.watchers -= 1

    async def _batches(self, cursor: Any, asked: Wanted) -> AsyncIterator[Seen]:
        while True:
            seen = await self._events.upcoming(cursor, asked, _TOGETHER)
            if seen.events or seen.lost:
                yield seen
            caught_up = len(seen.events) < _TOGETHER
            cursor = seen.cursor
            if caught_up:
                await self._events.more(cursor)
                await self._clock.sleep(_PAUSE)

    async def _pieces(self, cursor: Any, asked: Wanted) -> Pieces:
        yield _HELLO
        async for seen in self._batches(cursor, asked):
            lost = _LOST_EVENT % (_LOST % seen.lost) if seen.lost else b""
            yield lost + b"".join(
                b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), name.encode(), text)
                for number, name, text in seen.events
            )


class LiveSocket(Upgrade):
    """A WebSocket that tells, and does not listen."""

    __slots__ = ("_batches", "_left")

    def __init__(self, batches: AsyncIterator[Seen], left: Callable[[], None]) -> None:
        self._batches = batches
        self._left = left

    async def run(
        self, request: web.BaseRequest, spawn: Spawn, listening: Listening
    ) -> web.WebSocketResponse:
        """Answer the handshake and tell until the watcher leaves or the sidecar drains."""
        try:
            return await self._run(request, spawn, listening)
        finally:
            self._left()

    async def _run(
        self, request: web.BaseRequest, spawn: Spawn, listening: Listening
    ) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, compress=False, max_msg_size=4096)
        await socket.prepare(request)
        telling = spawn(self._tell(socket), "event socket")
        try:
            async with listening.until_drained():
                async for _ in socket:
                    pass  # whatever a watcher says
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    async def _tell(self, socket: web.WebSocketResponse) -> None:
        async for seen in self._batches:
            if seen.lost:
                await socket.send_str((_LOST % seen.lost).decode())
            for _, _, text in seen.events:
                await socket.send_str(text.decode())
