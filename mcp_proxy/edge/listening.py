"""Streams have no end of their own: when the sidecar drains, they are ended."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mcp_proxy.edge.heartbeat import Pulse
from mcp_proxy.edge.mail import Box
from mcp_proxy.layers.timeouts import Together


class Listening:
    """Know who listens, and let them go together."""

    def __init__(self) -> None:
        self._open: dict[Together, Callable[[], bool]] = {}
        self.over = False  # nobody is to listen any more

    @asynccontextmanager
    async def until_drained(self, ready: Callable[[], bool] = lambda: True) -> AsyncIterator[None]:
        """Break the block off, as if it had come to its end, when `end` is called.

        Who is not `ready` then stays, and sees to it that it leaves soon.
        """
        visit = Together()
        self._open[visit] = ready
        if self.over:
            visit.end()
        try:
            with suppress(TimeoutError):
                async with visit.within():
                    yield
        finally:
            del self._open[visit]

    def end(self) -> None:
        """Let everybody go who listens now."""
        self.over = True
        for visit, ready in self._open.items():
            if ready():
                visit.end()


class Visit:
    """One event stream of a listener: it may end between two events, if no answer is to come."""

    def __init__(self, listening: Listening, box: Box) -> None:
        self._listening = listening
        self._box = box
        self._pulse: Pulse | None = None  # None: nobody can tell where its events end

    @asynccontextmanager
    async def until_drained(self, pulse: Pulse | None) -> AsyncIterator[None]:
        """Break the block off when it may end, once nobody is to listen any more."""
        self._pulse = pulse
        try:
            async with self._listening.until_drained(self._may_end):
                yield
        finally:
            self._box.close()

    def sent(self, piece: bytes) -> None:
        """Take note of a piece that goes out."""
        if self._pulse is not None:
            self._box.saw(piece)

    @property
    def over(self) -> bool:
        """Tell whether it is to end here."""
        return self._listening.over and self._may_end()

    def _may_end(self) -> bool:
        return self._box.settled and (self._pulse is None or self._pulse.between_events)
