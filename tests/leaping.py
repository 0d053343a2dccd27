"""An event loop whose time can be moved on: for timers that live inside aiohttp."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.fakes import settle


class LeapingLoop(asyncio.SelectorEventLoop):
    """Time runs as usual, and leaps when it is told to."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


async def leap(seconds: float) -> None:
    """Let so much time pass at once; what has become due runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    await settle()
    loop.ahead += seconds
    await settle()


def leaping(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on such a loop."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(work())
