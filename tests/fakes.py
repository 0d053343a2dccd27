"""Fakes that the tests move by hand: a clock, a scripted origin, a shelf of what was told."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from multidict import CIMultiDict

from mcp_proxy.core.call import EMPTY, Call, Pieces, Reply, Stream, Whole
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.intent import OPAQUE, Intent, Keep, Stack
from mcp_proxy.core.message import NOTHING, Dialect, Message
from mcp_proxy.core.verdict import Verdict

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# No open wait of a test is longer than this (house style, section 8).
BOUND = 5.0  # seconds of real time

# What calls may do, in the three shapes that layers tell apart.
WRITE = Intent(Stack.FULL)
READ = Intent(Stack.FULL, repeatable=True, writes=False)
KEPT = Intent(Stack.FULL, repeatable=True, keep=Keep(300.0), collapsible=True, writes=False)


class FakeClock:
    """Time that passes only in `advance`; sleepers wake in order, timeouts fire on time."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now - 1000.0)

    def epoch(self) -> float:
        return self.wall().timestamp()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), act))

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - this is the clock
            return
        self.slept.append(seconds)
        woken = asyncio.get_running_loop().create_future()
        self._at(self._now + seconds, lambda: woken.done() or woken.set_result(None))
        await woken

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return self._timeout(seconds)

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        # asyncio's own timeout, told to fire by hand: rescheduled to the past when time comes
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as block:  # noqa: TID251 - this is the clock
            over = False

            def fire() -> None:
                if not over:
                    block.reschedule(loop.time() - 1)

            self._at(self._now + seconds, fire)
            try:
                yield
            finally:
                over = True
                self._due = [entry for entry in self._due if entry[2] is not fire]
                heapq.heapify(self._due)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, running whatever becomes due on the way."""
        until = self._now + seconds
        await settle()
        while self._due and self._due[0][0] <= until:
            when, _, act = heapq.heappop(self._due)
            self._now = max(self._now, when)
            act()
            await settle()
        self._now = until
        await settle()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let `work` run to its end, and as much time pass as it waits for."""
        task = spawn(work, "run")
        await settle()
        while not task.done() and self._due:
            await self.advance(self._due[0][0] - self._now)
        return await within(task)


async def settle() -> None:
    """Let the loop run until nothing but time could move it on."""
    for _ in range(50):
        await asyncio.sleep(0)  # noqa: TID251 - no time passes


async def within(work: Awaitable[T], seconds: float = BOUND) -> T:
    """Wait for `work`, but not for ever: a hang is a failed test."""
    async with asyncio.timeout(seconds):  # noqa: TID251 - bounds the test, in real time
        return await work


def spawn(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Start a task as `layers.clock.Tasks` does; the test's loop keeps it."""
    return asyncio.get_running_loop().create_task(work, name=name)


class Told:
    """An emit that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        self.events.append((event, level, fields))

    def names(self) -> list[str]:
        return [event for event, _, _ in self.events]


class Script:
    """An origin that plays its lines in order, and repeats the last one."""

    def __init__(self, *lines: Reply | BaseException | Callable[[Call], Any]) -> None:
        self._lines = list(lines)
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        line = self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, Reply):
            return line
        result: Reply = await line(call)
        return result


def call(
    intent: Intent = OPAQUE,
    message: Message = NOTHING,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    arrived: float = 1000.0,
    target: str = "/mcp",
) -> Call:
    return Call(
        "POST",
        target,
        CIMultiDict(headers or {}),
        Whole(body) if body else EMPTY,
        intent,
        "request-1",
        message,
        arrived=arrived,
    )


def reply(
    status: int = 200, body: bytes = b"{}", verdict: Verdict = Verdict.OK, **headers: str
) -> Reply:
    return Reply(
        status,
        CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}),
        Whole(body),
        verdict=verdict,
        attempts=1,
    )


class Feed:
    """A streamed body that the test feeds piece by piece, and sees released."""

    def __init__(self) -> None:
        self._given: asyncio.Queue[tuple[bytes | BaseException | None, dict[str, Any]]] = (
            asyncio.Queue()
        )
        self.released = 0
        self.body = Stream(self._pieces(), self._release)

    def give(self, *pieces: bytes | BaseException, **shown: Any) -> None:
        """Add pieces, or the error that cuts the body; `shown` is what the stream shows of them.

        As edge/events does, the stream shows it before the piece is yielded.
        """
        for piece in pieces:
            self._given.put_nowait((piece, shown))

    def end(self) -> None:
        """End the body in good order."""
        self._given.put_nowait((None, {}))

    async def _pieces(self) -> Pieces:
        while True:
            piece, shown = await self._given.get()
            for name, value in shown.items():
                setattr(self.body, name, value)
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def _release(self) -> None:
        self.released += 1


def streamed(feed: Feed, status: int = 200, verdict: Verdict = Verdict.OK, **headers: str) -> Reply:
    headers = headers or {"Content_Type": "text/event-stream"}
    return reply(status, b"", verdict, **headers)._replace(body=feed.body)


async def read(answer: Reply) -> bytes:
    """Read a streamed reply to its end, and let go of it as the edge does."""
    assert isinstance(answer.body, Stream)
    read_so_far = b""
    try:
        async for piece in answer.body:
            read_so_far += piece
    finally:
        await answer.body.aclose()
    return read_so_far


def tool(name: str = "look", request_id: str | int | None = 1, **params: Any) -> Message:
    """Return an MCP tool call."""
    params = {"name": name, **params}
    return Message(Dialect.RPC, "tools/call", request_id, params, tool=name)


def rest_tool(name: str = "look", service: str = "jira", **params: Any) -> Message:
    """Return a REST tool call."""
    body = {"service": service, "tool_name": name, "params": params}
    return Message(Dialect.REST, params=body, service=service, tool=name)


def rpc(method: str = "tools/list", request_id: str | int | None = 1, **params: Any) -> Message:
    """Return an MCP request that calls no tool."""
    return Message(Dialect.RPC, method, request_id, params)


def error_of(kind: type[ProxyError], **values: Any) -> ProxyError:
    return kind("It failed.", **values)
