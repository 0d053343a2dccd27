"""Streams have no end of their own: when the sidecar drains, they are ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Listening:
    """Know who listens, and let them go together."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def until_drained(self) -> AsyncIterator[None]:
        """Break the block off, as if it had come to its end, when `end` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as block:  # noqa: TID251 - ends with us, not with time
                self._open.add(block)
                try:
                    yield
                finally:
                    self._open.discard(block)

    def end(self) -> None:
        """Let everybody go who listens now."""
        for block in self._open:
            block.reschedule(0)
