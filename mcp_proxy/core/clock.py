"""The ports through which the other rooms reach time, tasks and the reader of events.

Only shapes stand here; `layers/clock.py` holds the ones that really tick.
"""

from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol


class Clock(Protocol):
    """Where time comes from; tests hand in one that they move by hand."""

    def now(self) -> float:
        """Seconds that never jump (only differences mean anything)."""
        ...

    def wall(self) -> datetime:
        """Return the time of day in UTC, for people."""
        ...

    def epoch(self) -> float:
        """Return the time of day in seconds since 1970: what machines tell each other."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero lets the loop look at its sockets once."""
        ...

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Raise TimeoutError from the block when it takes longer than `seconds`."""
        ...


class Spawn(Protocol):
    """Start work that outlives its caller; the returned task may be awaited or cancelled."""

    def __call__(self, work: Coroutine[Any, Any, Any], name: str) -> "Running":
        """Keep a reference until the work is done (the loop itself keeps only a weak one)."""
        ...


class Running(Awaitable[Any], Protocol):
    """A started piece of work."""

    def cancel(self) -> bool:
        """Ask it to stop."""
        ...

    def done(self) -> bool:
        """Tell whether it has ended."""
        ...


class Emit(Protocol):
    """Tell people that something happened: a dotted, past-tense name and flat fields."""

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        """Never block and never raise: a signal must not break a call."""
        ...
