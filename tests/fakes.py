"""Fakes that the tests move by hand: a clock, a scripted origin, a shelf of what was told."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from multidict import CIMultiDict

from mcp_proxy.core.call import EMPTY, Call, Reply, Whole
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.intent import OPAQUE, Intent
from mcp_proxy.core.message import NOTHING, Message
from mcp_proxy.core.verdict import Verdict

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time that passes only in `advance`; sleepers wake in order, timeouts fire on time."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now - 1000.0)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), act))

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._at(self._now + seconds, lambda: woken.done() or woken.set_result(None))
        await woken

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return self._timeout(seconds)

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        # asyncio's own timeout, told to fire by hand: rescheduled to the past when time comes
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as block:
            over = False

            def fire() -> None:
                if not over:
                    block.reschedule(loop.time() - 1)

            self._at(self._now + seconds, fire)
            try:
                yield
            finally:
                over = True

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


async def settle() -> None:
    """Let the loop run until nothing but time could move it on."""
    for _ in range(50):
        await asyncio.sleep(0)


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
    intent: Intent = OPAQUE, message: Message = NOTHING, *, headers: dict[str, str] | None = None,
    body: bytes = b"{}", arrived: float = 1000.0, target: str = "/mcp",
) -> Call:
    return Call(
        "POST", target, CIMultiDict(headers or {}), Whole(body) if body else EMPTY, intent,
        "request-1", message, arrived=arrived,
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


def error_of(kind: type[ProxyError], **values: Any) -> ProxyError:
    return kind("It failed.", **values)
