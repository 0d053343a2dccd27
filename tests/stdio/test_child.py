"""One process, and what is written to it."""

import asyncio
import os
import sys
from pathlib import Path

from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.stdio.child import Command, Guard, start
from tests.fakes import settle


async def test_of_a_process_that_does_not_read_one_message_is_held(tmp_path: Path) -> None:
    """Whoever waits behind it may give up, and nothing of theirs is written."""
    idle = Command((sys.executable, "-c", "import time; time.sleep(600)"), None, os.environ)
    guard, tasks = Guard(str(tmp_path / "none")), Tasks()
    child = await start(idle, SystemClock(), guard)
    running = tasks(child.run(lambda _: None), "run")
    size = 1_000_000
    written: list[int] = []
    try:
        for number in range(4):
            saying = asyncio.ensure_future(
                child.say(b"x" * size, lambda number=number: written.append(number))
            )
            await settle()
            assert not saying.done()
            saying.cancel()
            await asyncio.wait([saying])
        stdin = child._process.stdin
        assert stdin is not None
        assert 0 < stdin.transport.get_write_buffer_size() < size
        assert written == [0]
    finally:
        await child.dismiss(0.01)
        await asyncio.wait([running])
        guard.close()
