"""Keep the command running: one process at least, and one for each client's session."""

from asyncio import Event, Lock
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mcp_proxy.core.clock import Clock, Emit, Spawn
from mcp_proxy.core.restarts import Restarts
from mcp_proxy.stdio.child import Child, Command, Guard, start
from mcp_proxy.stdio.lines import Line

# Seconds for each step of an end: closed stdin, SIGTERM, SIGKILL.
_PATIENCE = 2.0
# At our own end there is less (serving has 0.9 for all that follows the last answers).
_LAST_PATIENCE = 0.25


class Supervisor:
    """Start processes, notice their end, and keep one ready while no session has any.

    starting --(lives, or has for as long as the pause before it)--> open --(the last one failed)-->
    pause --> starting. Only while it is open does the bridge listen: a command that does not run is
    a server that refuses connections, and nothing was delivered.
    """

    def __init__(
        self,
        command: Command,
        guard: Guard,
        clock: Clock,
        emit: Emit,
        spawn: Spawn,
    ) -> None:
        self._command = command
        self._guard = guard
        self._clock = clock
        self._emit = emit
        self._spawn = spawn
        self._alive: set[Child] = set()
        self._beginning = Lock()  # one at a time: a server may be one that can run only once
        self._spare: Child | None = None
        self._changed = Event()
        self._over = False
        self._failing = False
        self._restarts = Restarts(1)
        self._pause = 0.0
        self._not_before = 0.0
        self.hears: dict[Child, Callable[[Line], bool]] = {}
        self.started = 0
        self.failed = 0  # processes that ended, or never began, against our will
        self.ignored = 0  # lines that were no message

    async def run(
        self, opened: Callable[[], Awaitable[None]], closed: Callable[[], Awaitable[None]]
    ) -> None:
        """Keep a process running; tell when clients may come and when not."""
        while not self._over:
            self._changed.clear()
            if not self._alive:
                if self._failing:
                    await closed()
                async with self._beginning:
                    await self._begin()
            if self._alive:
                self._failing = False
                await opened()
                await self._changed.wait()

    async def _begin(self) -> None:
        """Start the one that waits for the next session."""
        if self._alive:  # a session has one meanwhile
            return
        with suppress(OSError):
            child = await self._start()
            if self._failing:
                with suppress(TimeoutError):
                    async with self._clock.timeout(self._pause):
                        await child.over.wait()
            self._spare = child

    async def take(self) -> Child:
        """Return a process that nobody has; raises OSError."""
        async with self._beginning:
            child, self._spare = self._spare, None
            return await self._start() if child is None or child.over.is_set() else child

    async def dismiss(self, child: Child) -> None:
        """End a process whose session is over; returns when it has ended."""
        await self._dismissed(child, _PATIENCE)

    async def _dismissed(self, child: Child, patience: float) -> None:
        await child.dismiss(patience)
        await child.over.wait()

    async def _start(self) -> Child:
        """Start a process, not before the pause is over; raises OSError."""
        if self._over:
            raise ConnectionAbortedError
        try:
            while (pause := self._not_before - self._clock.now()) > 0:
                await self._clock.sleep(pause)
            child = await start(self._command, self._clock, self._guard)
        except OSError as error:
            self._fail(lived=0.0)
            self._emit(
                "child.not_started",
                "error",
                reason=error.strerror or type(error).__name__,
                pause_seconds=self._pause,
            )
            raise
        self.started += 1
        self._alive.add(child)
        self._changed.set()
        self._emit("child.started", "info", command=self._command.name, pid=child.pid)
        self._spawn(self._watch(child), "watch a child")
        return child

    async def _watch(self, child: Child) -> None:
        def heard(line: Line) -> None:
            if not self._tell(child, line):
                self._ignore(child, line)

        try:
            await child.run(heard)
        finally:
            self._ended(child)

    def _tell(self, child: Child, line: Line) -> bool:
        hears = self.hears.get(child)
        return hears is not None and hears(line)

    def _ignore(self, child: Child, line: Line) -> None:
        self.ignored += 1
        child.ignored += 1
        if child.ignored == 1:  # the rest is counted
            self._emit(
                "child.line_ignored",
                "warning",
                pid=child.pid,
                reason="no message" if line.whole else "too long",
            )

    def _ended(self, child: Child) -> None:
        self._alive.discard(child)
        self.hears.pop(child, None)
        lived = self._clock.now() - child.born
        if not child.dismissed:
            self._fail(lived)
        self._emit(
            "child.ended",
            "info" if child.dismissed else "error",
            pid=child.pid,
            exit_code=child.exit_code,
            expected=child.dismissed,
            lived_seconds=round(lived, 3),
            lines_ignored=child.ignored,
        )
        self._changed.set()

    def _fail(self, lived: float) -> None:
        self.failed += 1
        self._failing = True
        self._pause = self._restarts.died(0, lived)
        self._not_before = self._clock.now() + self._pause

    def snapshot(self) -> dict[str, int]:
        """Return what metrics tell."""
        return {
            "processes": len(self._alive),
            "started": self.started,
            "failed": self.failed,
            "lines_ignored": self.ignored,
        }

    async def end(self) -> None:
        """End all processes, in parallel; no more are started."""
        self._over = True
        ending = [
            self._spawn(self._dismissed(child, _LAST_PATIENCE), "end a process")
            for child in self._alive
        ]
        for one in ending:
            await one
