"""Streams have no end of their own: when the sidecar drains, they are ended."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

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
