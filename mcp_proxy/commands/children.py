"""Processes that live as long as a command: a sidecar, and the demo's server."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, TypeVar

from mcp_proxy.commands.options import environment
from mcp_proxy.core.clock import Clock

T = TypeVar("T")
_STARTING = 20.0  # seconds
_ENDING = 5.0
_LINE_LIMIT = 1 << 20


class StartError(Exception):
    """A process did not come up."""


class Child:
    """A process of ours; what it prints is read, so that it never waits for us."""

    def __init__(self, process: asyncio.subprocess.Process, clock: Clock) -> None:
        self._process = process
        self._clock = clock
        self._reading: asyncio.Task[None] | None = None

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, whatever it takes."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with self._clock.timeout(_ENDING):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def started(self) -> str:
        """Return the URL of a sidecar once it listens; raises StartError."""
        out = self._process.stdout
        assert out is not None
        said: dict[str, Any] = {}
        try:
            async with self._clock.timeout(_STARTING):
                while said.get("event") != "proxy.started":
                    line = await out.readline()
                    if not line:
                        raise StartError("the sidecar did not start: see above")
                    said = _event(line)
        except TimeoutError:
            raise StartError(f"the sidecar did not start within {_STARTING:g} s") from None
        self._reading = asyncio.get_running_loop().create_task(_read_on(out))
        return str(said["urls"][0])


def _event(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


async def _read_on(out: asyncio.StreamReader) -> None:
    while await out.read(_LINE_LIMIT):
        pass


async def start(clock: Clock, *arguments: str, **environ: str) -> Child:
    """Run one of our own modules; Ctrl-C in our terminal reaches us alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**_inherited(), **environ},
        limit=_LINE_LIMIT,
        start_new_session=True,
    )
    return Child(process, clock)


@asynccontextmanager
async def sidecar(clock: Clock, upstream: str, **environ: str) -> AsyncIterator[str]:
    """Run a sidecar with its defaults and these settings on a free port; yields its URL."""
    child = await start(
        clock,
        *("mcp_proxy", "run", "--upstream", upstream, "--host", "127.0.0.1", "--port", "0"),
        **environ,
    )
    try:
        yield await child.started()
    finally:
        await child.end()


def _inherited() -> Mapping[str, str]:
    """Return our environment without what configures a sidecar."""
    return {
        name: value
        for name, value in environment().items()
        if not name.startswith(("MCP_", "REDIS_URL", "OTEL_"))
    }


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end, or until a signal; what was begun is ended in either case.

    Raises KeyboardInterrupt after a signal.
    """

    async def until_signalled() -> T:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        return await work()

    try:
        return asyncio.run(until_signalled())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def quietly_interrupted() -> NoReturn:
    """End as a program does that Ctrl-C has ended."""
    sys.stdout.flush()
    os._exit(128 + signal.SIGINT)
