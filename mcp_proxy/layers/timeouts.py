"""Bound many blocks by few lengths of time, cheaply.

`asyncio.timeout` makes a timer for each block and asks the system for the process id three times
(Python 3.11), which is a tenth of what a relayed call costs beyond aiohttp's own work. Blocks of
one length end in the order in which they began, so one timer for each length is enough.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Timeouts:
    """Make bounded blocks in one event loop."""

    def __init__(self) -> None:
        self._queues: dict[float, _Queue] = {}

    def within(self, seconds: float) -> "Bound":
        """Return a block that raises TimeoutError when it takes longer than `seconds`."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(seconds, self._forget)
        return Bound(queue)

    def _forget(self, seconds: float) -> None:
        self._queues.pop(seconds, None)


class Bound:
    """One block; it cancels its task when the time is over, as `asyncio.timeout` does."""

    __slots__ = ("_asked", "_queue", "expired", "task", "until")

    def __init__(self, queue: "_Queue") -> None:
        self._queue = queue
        self.expired = False
        self.until = 0.0  # loop time

    async def __aenter__(self) -> Self:
        """Begin to count."""
        self.task = self._queue.begin(self)
        self._asked = self.task.cancelling()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End; raises TimeoutError if the block ended because its time was over."""
        self._queue.end(self)
        # somebody else's cancellation stays one (the count tells them apart)
        if (
            self.expired
            and self.task.uncancel() <= self._asked
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from error


class _Queue:
    """The blocks of one length, the oldest first."""

    def __init__(self, seconds: float, forget: Callable[[float], None]) -> None:
        self._seconds = seconds
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._running: dict[Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, bound: Bound) -> "asyncio.Task[object]":
        bound.until = self._loop.time() + self._seconds
        self._running[bound] = None
        if self._timer is None:
            self._timer = self._loop.call_at(bound.until, self._look)
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("Only a task can be bounded.")
        return task

    def end(self, bound: Bound) -> None:
        self._running.pop(bound, None)

    def _look(self) -> None:
        """Cancel what is over; wait for the oldest of what is left."""
        now = self._loop.time()
        self._timer = None
        for bound in list(self._running):
            if bound.until > now:
                self._timer = self._loop.call_at(bound.until, self._look)
                return
            bound.expired = True
            self._running.pop(bound)
            bound.task.cancel()
        self._forget(self._seconds)
