"""Speak Streamable HTTP to the sidecar, and lines to the processes of a command.

One process for each session: a stdio server has one client, and what it asks or tells (sampling,
roots, log messages, subscriptions) names nobody. Between clients that shared one, all of it would
leak. It listens on a Unix socket in a directory of its own, so that no other user of the machine
can go round the sidecar, and only while the command runs (supervisor).
"""

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from tempfile import mkdtemp
from typing import Any

import orjson
from aiohttp import web

from mcp_proxy.core import sse
from mcp_proxy.core.clock import Clock, Emit, Running, Spawn
from mcp_proxy.core.jsonrpc import STATELESS_SINCE, is_response
from mcp_proxy.core.reading import read_answer
from mcp_proxy.stdio.child import LINE_LIMIT, Child, Command, GoneError, Guard
from mcp_proxy.stdio.mailbox import BrokenError, Mailbox
from mcp_proxy.stdio.session import Request, Session
from mcp_proxy.stdio.supervisor import Supervisor

SESSION = "Mcp-Session-Id"
# The revisions that begin with a handshake; a process of the command knows nothing else.
_SPOKEN = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
# Seconds after which a session may make room for another, if nobody waits or listens in it.
# Should its client return, the sidecar opens it anew.
_IDLE = 60.0
# Seconds that a handshake waits for room: our own look at the tools, after a start, takes less.
_PATIENCE = 2.0
# Nobody comes back to what was left for so long: its process is ended.
_LEFT = 1800.0
_SWEEP = 60.0
_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
_FIELD_LIMIT = 65_536  # bytes of a header, as the sidecar takes them
_SHUTDOWN = 0.1  # seconds; aiohttp waits up to twice this


class _Request(web.BaseRequest):
    """A request whose answer does not tell the versions of Python and aiohttp."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)


class Refusal(Exception):  # noqa: N818 - an answer
    """An answer that needs no process."""

    def __init__(self, status: int, code: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.status = status
        self.headers: dict[str, str] = more.pop("headers", {})
        self.error = {"code": code, "message": text, **more}


class Bridge:
    """A server in front of a command; `socket` is where it listens."""

    def __init__(
        self,
        command: Command,
        mcp_path: str,
        sessions: int,
        *,
        clock: Clock,
        emit: Emit,
        spawn: Spawn,
    ) -> None:
        self._path = mcp_path.rstrip("/")
        self._limit = sessions
        self._clock = clock
        self._spawn = spawn
        self._directory = mkdtemp(prefix="mcp-sidecar-")  # for us alone: mode 0700
        self.socket = f"{self._directory}/socket"
        self._guard = Guard(self._directory)
        self._supervisor = Supervisor(command, self._guard, clock, emit, spawn)
        self._sessions: dict[str, Session] = {}
        self._opening = 0
        self._ending = 0
        self._freed = asyncio.Event()
        self._listening = asyncio.Event()  # for the first time
        self._running: list[Running] = []
        self._runner: web.ServerRunner | None = None
        self._site: web.UnixSite | None = None

    @property
    def departures(self) -> int:
        """Return how often a process has gone away by itself."""
        return self._supervisor.failed

    def snapshot(self) -> dict[str, int]:
        """Return what metrics tell."""
        return {
            **self._supervisor.snapshot(),
            "sessions": len(self._sessions),
            "messages_dropped": sum(one.dropped for one in self._sessions.values()),
        }

    # --- life

    def start(self) -> None:
        """Keep the command running from now on, and listen while it does."""
        self._running = [
            self._spawn(self._supervisor.run(self._open, self._close), "keep a command running"),
            self._spawn(self._sweep(), "end idle sessions"),
        ]

    async def settled(self, seconds: float) -> None:
        """Return when it listens for the first time, or could not in so many seconds."""
        with suppress(TimeoutError):
            async with self._clock.timeout(seconds):
                await self._listening.wait()

    async def aclose(self) -> None:
        """End everything; what is not ended in time is left to the guard."""
        for task in self._running:
            task.cancel()
        try:
            await self._supervisor.end()
            if self._runner is not None:
                await self._runner.cleanup()
        finally:
            await asyncio.to_thread(self._guard.close)
            shutil.rmtree(self._directory, ignore_errors=True)  # a socket, at most

    async def _open(self) -> None:
        if self._site is not None:
            return
        if self._runner is None:
            server = web.Server(
                self._answer,
                request_factory=partial(
                    _Request, loop=asyncio.get_running_loop(), client_max_size=LINE_LIMIT
                ),
                access_log=None,
                handler_cancellation=True,
                max_field_size=_FIELD_LIMIT,
                max_line_size=_FIELD_LIMIT,
            )
            self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN)
            await self._runner.setup()
        self._site = web.UnixSite(self._runner, self.socket)
        await self._site.start()
        self._listening.set()

    async def _close(self) -> None:
        """Stop to listen; what is under way goes on."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(_SWEEP)
            for session in list(self._sessions.values()):
                if self._idle(session) > _LEFT:
                    self._end(session)

    # --- HTTP

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._answered(request)
        except Refusal as refusal:
            answer = _refused(refusal)
        except GoneError:
            answer = _refused(_not_found())
        except (BrokenError, ConnectionError):
            # no answer is the answer: what was asked may or may not have been done
            answer = web.Response()
            if request.transport is not None:
                request.transport.abort()
        # each request finds out anew whether somebody listens
        answer.force_close()
        return answer

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.rstrip("/") != self._path:
            return web.Response(status=404, text="There is nothing at this path.\n")
        if request.headers.get("MCP-Protocol-Version", "") >= STATELESS_SINCE:
            supported = {"supported": list(_SPOKEN)}
            raise Refusal(400, -32022, "This server begins with a handshake.", data=supported)
        if request.method == "POST":
            return await self._posted(request)
        if request.method not in {"GET", "DELETE"}:
            raise Refusal(405, -32600, "Only POST, GET and DELETE.")
        session = self._session(request)
        if request.method == "DELETE":
            self._end(session)
            return web.Response(status=204)
        return await self._listened(request, session)

    async def _posted(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Refusal(413, -32600, f"A message may have {LINE_LIMIT} bytes.") from None
        message = read_answer(data)
        if message is None:
            raise Refusal(400, -32700, "This is not one JSON-RPC message.")
        method, asks = message.get("method"), "id" in message
        if method == "initialize" and asks:
            return await self._opened(message, data)
        session = self._session(request)
        if isinstance(method, str) and asks:
            if type(message["id"]) not in (str, int):
                raise Refusal(400, -32600, "An id is a string or an integer.")
            if session.full:
                raise Refusal(503, 503, "Too much is unanswered.", headers={"Retry-After": "1"})
            asked = await session.ask(message, data)
            return await self._told(request, session, asked)
        if not isinstance(method, str) and not is_response(message):
            raise Refusal(400, -32600, "This is no JSON-RPC message.")
        await session.say(message, data)
        return web.Response(status=202)

    def _session(self, request: web.BaseRequest) -> Session:
        session_id = request.headers.get(SESSION)
        if session_id is None:
            raise Refusal(400, -32600, f"{SESSION} is missing.")
        session = self._sessions.get(session_id)
        if session is None:
            raise _not_found()
        session.used = self._clock.now()
        return session

    async def _opened(self, message: Mapping[str, Any], data: bytes) -> web.StreamResponse:
        """Give a client a process of its own."""
        if type(message["id"]) not in (str, int):
            raise Refusal(400, -32600, "An id is a string or an integer.")
        await self._make_room()
        self._opening += 1
        try:
            try:
                child = await self._supervisor.take()
            except OSError:
                raise Refusal(503, 503, "The server's command cannot be started.") from None
            session = Session(child, self._clock.now(), self._spawn)
            self._hear(session)
            try:
                answer = await self._introduced(session, message, data)
            except BaseException:
                self._end(session)
                raise
        finally:
            self._opening -= 1
            self._freed.set()
        shown = web.Response(body=answer, content_type="application/json")
        if b"result" in answer and "result" in (read_answer(answer) or {}):
            self._sessions[session.id] = session
            shown.headers[SESSION] = session.id
            if child.over.is_set():
                self._forget(session)
        else:
            self._end(session)
        return shown

    async def _introduced(self, session: Session, message: Mapping[str, Any], data: bytes) -> bytes:
        """Return the answer to a handshake; nothing else is told before it."""
        try:
            asked = await session.ask(message, data)
            assert asked.box is not None
            while (said := await asked.box.get()) is not None:
                if asked.box.is_at_its_end:
                    return said
        except (GoneError, BrokenError, ConnectionError):
            pass
        raise Refusal(503, 503, "The server's command has ended before it answered.")

    async def _make_room(self) -> None:
        """Return when there is room for a session; raises Refusal where that takes too long.

        If there are too many, the one that was left first is ended. One that is ending counts: a
        server that can run only once has limit 1.
        """
        with suppress(TimeoutError):
            async with self._clock.timeout(_PATIENCE):
                while len(self._sessions) + self._opening + self._ending >= self._limit:
                    self._freed.clear()
                    left = max(self._sessions.values(), key=self._idle, default=None)
                    if left is not None and self._idle(left) >= _IDLE and not self._ending:
                        self._end(left)
                    await self._freed.wait()
                return
        text = f"All {self._limit} sessions of the server's command are in use."
        raise Refusal(503, 503, text, headers={"Retry-After": "5"})

    def _idle(self, session: Session) -> float:
        """Return for how many seconds nobody has waited or listened."""
        return 0.0 if session.busy else self._clock.now() - session.used

    def _hear(self, session: Session) -> None:
        child = session.child
        self._supervisor.hears[child] = session.heard
        self._spawn(self._see_off(session, child), "see a session off")

    async def _see_off(self, session: Session, child: Child) -> None:
        await child.over.wait()
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        session.over()
        self._freed.set()

    def _end(self, session: Session) -> None:
        """End a session, and in time its process; whoever wants that may leave meanwhile."""
        self._forget(session)
        self._ending += 1
        self._spawn(self._dismiss(session.child), "end a process")

    async def _dismiss(self, child: Child) -> None:
        try:
            await self._supervisor.dismiss(child)
        finally:
            self._ending -= 1
            self._freed.set()

    async def _told(
        self, request: web.BaseRequest, session: Session, asked: Request
    ) -> web.StreamResponse:
        """Answer a request: as JSON, or as a stream if something is told before the answer."""
        box = asked.box
        try:
            if box is None:
                raise BrokenError
            first = await box.get()
            if first is None:
                raise BrokenError
            if box.is_at_its_end:
                return web.Response(body=first, content_type="application/json")
            return await self._streamed(request, box, first)
        finally:
            session.left(asked)
            session.used = self._clock.now()

    async def _listened(self, request: web.BaseRequest, session: Session) -> web.StreamResponse:
        box = session.listen()
        try:
            return await self._streamed(request, box, None)
        finally:
            session.stop_listening(box)
            session.used = self._clock.now()

    async def _streamed(
        self, request: web.BaseRequest, box: Mailbox, first: bytes | None
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers=_STREAM)
        answer.force_close()
        await answer.prepare(request)
        said = first
        while True:
            if said is not None:
                await answer.write(sse.event(said))
            said = await box.get()
            if said is None:
                return answer


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(
        body=orjson.dumps({"jsonrpc": "2.0", "id": None, "error": refusal.error}),
        status=refusal.status,
        headers=refusal.headers,
        content_type="application/json",
    )


def _not_found() -> Refusal:
    return Refusal(404, -32001, "Session not found")
