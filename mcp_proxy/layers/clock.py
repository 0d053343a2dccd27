"""The only place where time passes and tasks start; everyone else is handed these."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from time import monotonic, time  # noqa: TID251
from typing import Any

from mcp_proxy.layers.timeouts import Timeouts


class SystemClock:
    """Time as the event loop sees it: monotonic, so that a clock step shifts nothing (F49)."""

    def __init__(self) -> None:
        self._timeouts = Timeouts()

    def now(self) -> float:
        """Return seconds that never jump."""
        return monotonic()

    def wall(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)  # noqa: TID251

    def epoch(self) -> float:
        """Return the time of day in seconds since 1970."""
        return time()

    async def sleep(self, seconds: float) -> None:
        """Sleep; zero lets the loop look at its sockets once."""
        await asyncio.sleep(seconds)  # noqa: TID251

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Bound a block."""
        return self._timeouts.within(seconds)


class Tasks:
    """Start tasks and keep them: the loop itself holds only a weak reference to each."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __call__(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `work` in the running loop."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def end(self) -> None:
        """Cancel what still runs and wait until it has stopped."""
        ending = list(self._running)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
