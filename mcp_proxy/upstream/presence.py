"""Is the server there? Bridges a restart, so that callers need not notice it."""

from collections.abc import Awaitable, Callable
from enum import Enum

from mcp_proxy.core.clock import Clock, Running, Spawn

# One shared connect try in so many seconds while a restart is bridged (DESIGN section 4).
_BRIDGE_STEP = 0.25


class State(Enum):
    """What the last connection said."""

    UNKNOWN = "unknown"  # nobody has tried yet
    PRESENT = "present"
    RESTARTING = "restarting"  # refused, and within the grace
    LOST = "lost"


class Presence:
    """Know whether connections are accepted, and bridge a restart, once for all calls (upstream/fleet).

    unknown, present --(a connection is refused)--> restarting --(grace over)--> lost;
    any of them becomes present with the first connection that is made.
    """

    def __init__(
        self,
        connects: Callable[[], Awaitable[bool]],
        grace: float,
        clock: Clock,
        spawn: Spawn,
        told: Callable[[State, State], None],
    ) -> None:
        self._connects = connects
        self._grace = grace  # seconds
        self._clock = clock
        self._spawn = spawn
        self._told = told
        self.bridge: Running | None = None  # ends when the present restart does, either way
        self.state = State.UNKNOWN
        self.since = clock.now()
        self._refused_at: float | None = None  # Clock.now(), until a connection is made
        self.departures = 0  # how often a server that was there has gone away

    @property
    def away(self) -> bool:
        """Tell whether its connections are refused, as far as is known."""
        return self.state in {State.RESTARTING, State.LOST} or self._refused_at is not None

    def refused(self) -> bool:
        """Take note of a refused connection; True while a restart is being bridged."""
        self._refused_at = self._clock.now()
        if self.state in {State.UNKNOWN, State.PRESENT}:
            if self._grace <= 0:
                return False
            self._change(State.RESTARTING)
            self.bridge = self._spawn(self._wait_for_return(self.since), "bridge a restart")
        return self.state is State.RESTARTING

    def answered(self, asked: float) -> None:
        """Take note that a request of that time found a connection.

        What was under way when the server went away says nothing of its return: a server that
        shuts down in good order answers its last calls after it has stopped to listen.
        """
        if asked < self.since:
            return
        if self._refused_at is not None and asked >= self._refused_at:
            self._refused_at = None
        if self.state is not State.PRESENT:
            self._change(State.PRESENT)

    def gone(self) -> None:
        """Take note that the server is known to be away, by whatever evidence."""
        if self.state is not State.LOST:
            self._change(State.LOST)

    async def _wait_for_return(self, since: float) -> None:
        while self.state is State.RESTARTING and self.since == since:
            if self._clock.now() >= since + self._grace:
                self._change(State.LOST)
                return
            await self._clock.sleep(_BRIDGE_STEP)
            if await self._connects():
                self.answered(self._clock.now())

    def _change(self, after: State) -> None:
        before, self.state = self.state, after
        if before is State.PRESENT:
            self.departures += 1
        self.since = self._clock.now()
        self._told(before, after)
