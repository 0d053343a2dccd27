"""Wait for what happens instead of for time."""

import asyncio
from collections.abc import Callable

from tests.edge.wire import bound


class Watch:
    """Let a test go on as soon as something holds; it is looked at whenever something happens."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def tell(self) -> None:
        """Say that something has happened."""
        for holds, woken in self._waiting:
            if not woken.done() and holds():
                woken.set_result(None)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds, but not for ever."""
        if holds():
            return
        waiting = holds, asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            async with bound():
                await waiting[1]
        finally:
            self._waiting.remove(waiting)
