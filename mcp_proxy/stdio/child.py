"""One process of the server's command: started, written to line by line, ended."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcp_proxy.core.clock import Clock
from mcp_proxy.stdio import guard
from mcp_proxy.stdio.lines import Line, Lines

# Bytes of one message of a child. It must be held as a whole until it is told on: this is far
# more than any tool result that a model can read, and 16 sessions hold 256 MiB at worst.
LINE_LIMIT = 16 * 1024 * 1024
_PIECE = 65_536
# Seconds for what a process wrote just before its end; a process of its own may hold the pipe open.
_LAST_WORDS = 0.5
# What configures the sidecar, and may hold its secrets, is not the command's.
_OURS = ("MCP_", "REDIS_URL")


class Command(NamedTuple):
    """What is run: no shell reads it."""

    arguments: tuple[str, ...]
    cwd: str | None
    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return what it may be called in public: arguments may hold secrets."""
        return Path(self.arguments[0]).name

    def environment(self) -> dict[str, str]:
        """Return what a child gets of our environment."""
        return {name: value for name, value in self.environ.items() if not name.startswith(_OURS)}


def nothing() -> None:
    """Do nothing."""


class GoneError(Exception):
    """The process has ended before anything of a message was written to it."""


class Guard:
    """Ends our children should we be killed (guard.py); started anew if somebody kills it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def begun(self, group: int) -> None:
        """Watch over a group of processes."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """Forget a group; its number may soon be somebody else's."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._closed:
            return
        try:
            self._write(line)
        except OSError:
            self._let_go()
            with suppress(OSError):  # no process can be had: children still see the end of stdin
                self._write("".join(f"+{group}\n" for group in self._groups))

    def _write(self, text: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - our own file
                [sys.executable, "-I", "-S", guard.__file__, self._directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def close(self) -> None:
        """Let it end what is left, and itself; returns when it has."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            process.wait()


class Child:
    """A running process; what it says is told line by line, and at last that it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, clock: Clock, guard: Guard) -> None:
        self._process = process
        self._clock = clock
        self._guard = guard
        self._writing = asyncio.Lock()
        self.pid = process.pid
        self.born = clock.now()
        self.over = asyncio.Event()  # it has ended, and its last words are told
        self.dismissed = False  # its end is wanted
        self.exit_code: int | None = None  # negative: the number of a signal
        self.ignored = 0  # lines that were no message
        guard.begun(self.pid)

    async def run(self, heard: Callable[[Line], None]) -> None:
        """Tell what it says until it has ended or says no more; returns when it has ended."""
        reading = asyncio.ensure_future(self._read(heard))  # noqa: TID251 - awaited below
        waiting = asyncio.ensure_future(self._process.wait())  # noqa: TID251
        try:
            await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                await self._within(_LAST_WORDS, asyncio.shield(reading))
            elif not await self._within(_LAST_WORDS, asyncio.shield(waiting)):
                await self._end(_LAST_WORDS)  # it answers nobody any more
        finally:
            reading.cancel()
            waiting.cancel()
            self._kill(signal.SIGKILL)  # what it has started goes with it
            self._guard.ended(self.pid)
            self.exit_code = self._process.returncode
            self.over.set()

    async def _read(self, heard: Callable[[Line], None]) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        lines = Lines(LINE_LIMIT)
        while piece := await stdout.read(_PIECE):
            for line in lines.feed(piece):
                heard(line)

    async def say(self, message: bytes, written: Callable[[], None] = nothing) -> None:
        """Write one message; raises GoneError, or ConnectionError where its fate is not known.

        One at a time, and not before the last one is on its way: what waits here has not been written
        when the process ends, and of a process that does not read no more is held than one message.
        `written` is told in the very step in which it is.
        """
        stdin = self._process.stdin
        assert stdin is not None
        line = message.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"  # never inside a string
        async with self._writing:
            with suppress(ConnectionError):  # of the last one; this one is not written
                await stdin.drain()
            if self.over.is_set() or stdin.is_closing():
                raise GoneError
            written()
            stdin.write(line)
            await stdin.drain()

    async def dismiss(self, patience: float) -> None:
        """End it, whatever it takes: its stdin is closed, then signals, each after `patience`.

        MCP 2025-11-25, lifecycle, shutdown of stdio.
        """
        self.dismissed = True
        await self._end(patience)

    async def _end(self, patience: float) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if await self._within(patience, self._process.wait()):
                return
            self._kill(number)
        await self._process.wait()

    async def _within(self, seconds: float, work: Awaitable[object]) -> bool:
        try:
            async with self._clock.timeout(seconds):
                await work
        except TimeoutError:
            return False
        return True

    def _kill(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self.pid, number)


async def start(command: Command, clock: Clock, guard: Guard) -> Child:
    """Start a process of the command, as the leader of a group; raises OSError.

    Its stderr is ours: it is the operator's, and no event or log line of ours.
    """
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=None,
        cwd=command.cwd,
        env=command.environment(),
        start_new_session=True,
    )
    return Child(process, clock, guard)
