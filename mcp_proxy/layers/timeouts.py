"""Bound many blocks by few lengths of time, cheaply.

`asyncio.timeout` makes a timer for each block and asks the system for the process id three times
(Python 3.11), which is a tenth of what a relayed call costs beyond aiohttp's own work. Blocks of
one length end in the order in which they began, so one timer for each length is enough.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self


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


class Together:
    """Make blocks that have no length of their own, and end together when they are told to."""

    def __init__(self) -> None:
        self._running: dict[Bound, None] = {}
        self.over = False

    def within(self) -> "Bound":
        """Return a block that raises TimeoutError when `end` is called, or has been."""
        return Bound(self)

    def end(self) -> None:
        """Break all blocks off that may end now, and those to come."""
        self.over = True
        for bound in list(self._running):
            if bound.may_end:
                self._break(bound)

    def begin(self, bound: "Bound") -> "asyncio.Task[object]":
        """Let a block begin."""
        bound.task = running_task()
        self._running[bound] = None
        if self.over:
            self._break(bound)
        return bound.task

    def leave(self, bound: "Bound") -> None:
        """Let a block be over."""
        self._running.pop(bound, None)

    def _break(self, bound: "Bound") -> None:
        self._running.pop(bound)
        bound.break_off()


class Owner(Protocol):
    """Who knows the blocks that run."""

    def begin(self, bound: "Bound") -> "asyncio.Task[object]":
        """Let a block begin; return its task."""
        ...

    def leave(self, bound: "Bound") -> None:
        """Let a block be over."""
        ...


class Bound:
    """One block; it cancels its task when the time is over, as `asyncio.timeout` does."""

    __slots__ = ("_asked", "_owner", "expired", "task", "until")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.expired = False
        self.until = 0.0  # loop time

    async def __aenter__(self) -> Self:
        """Begin to count."""
        self.task = self._owner.begin(self)
        self._asked = self.task.cancelling() - self.expired
        return self

    @property
    def may_end(self) -> bool:
        """Tell whether it may be broken off now; who may not sees to it that it ends soon."""
        return True

    def break_off(self) -> None:
        """Cancel what is in the block."""
        self.expired = True
        self.task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End; raises TimeoutError if the block ended because its time was over."""
        self._owner.leave(self)
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
        return running_task()

    def leave(self, bound: Bound) -> None:
        self._running.pop(bound, None)

    def _look(self) -> None:
        """Cancel what is over; wait for the oldest of what is left."""
        now = self._loop.time()
        self._timer = None
        for bound in list(self._running):
            if bound.until > now:
                self._timer = self._loop.call_at(bound.until, self._look)
                return
            self._running.pop(bound)
            bound.break_off()
        self._forget(self._seconds)


def running_task() -> "asyncio.Task[object]":
    """Return the task in which this runs."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("Only a task can be bounded.")
    return task
