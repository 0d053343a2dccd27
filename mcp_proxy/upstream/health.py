"""How is the server? One cheap probe at a time, never a session of its own (F47)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy.core.clock import Clock
from mcp_proxy.upstream.presence import Presence, State

# While the server is away or ill it is asked every second, so that its return is noticed within one.
_TROUBLED_INTERVAL = 1.0
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Probe:
    """What one look at the server showed."""

    connected: bool
    status: int | None = None  # None when no answer came
    said: Mapping[str, Any] = field(default_factory=dict)  # its own health fields
    trouble: str | None = None  # in the words of an error code
    cause: str = ""  # in those of people

    @property
    def alive(self) -> bool:
        """Any status below 500 is alive: a server without a health page answers 404."""
        return self.status is not None and self.status < 500


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many probes in a row change what is thought of a server that accepts connections."""

    fall: int = 3  # that it does not answer well, until it is unhealthy
    rise: int = 2  # that it does, until it is healthy again


class Monitor:
    """Probe the server now and then, and tell `presence` what the probe found."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[Probe]],
        presence: Presence,
        clock: Clock,
        *,
        interval: float,
        thresholds: Thresholds,
        rng: Callable[[], float],
        told: Callable[[Probe], None],
    ) -> None:
        self._probe = probe
        self._presence = presence
        self._clock = clock
        self._interval = interval  # seconds
        self._thresholds = thresholds
        self._rng = rng
        self._told = told  # of each change of `healthy`, with the probe that decided
        self._nudged = asyncio.Event()
        self._successes = 0  # good probes in a row
        self.healthy = True  # until it is known to be otherwise
        self.recovered = 0.0  # Clock.now() when it last became healthy again; 0 is never
        self.last: Probe | None = None
        self.probed = 0.0  # Clock.now() of the last probe
        self.failures = 0  # probes in a row that found the server not alive
        self.due = 0.0  # Clock.now() of the next probe
        self.last_error: tuple[float, str] | None = None  # when, and what was wrong then

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.look()
            pause = self._pause()
            self.due = self._clock.now() + pause
            with suppress(TimeoutError):
                async with self._clock.timeout(pause):
                    await self._nudged.wait()
            self._nudged.clear()

    async def look(self) -> Probe:
        """Probe once."""
        asked = self._clock.now()
        found = self.last = await self._probe()
        self.probed = self._clock.now()
        self.failures = 0 if found.alive else self.failures + 1
        self._successes = self._successes + 1 if found.alive else 0
        if not found.alive:
            self.last_error = (self.probed, found.trouble or f"status {found.status}")
        if found.connected:
            self._presence.answered(asked)
            self._judge(found)
        elif self._presence.state in {State.UNKNOWN, State.PRESENT} and (
            # a refusal may be a restart: the bridge finds out, and says so when it is none
            not self._presence.refused()
        ):
            self._presence.gone()
        return found

    def _judge(self, found: Probe) -> None:
        falls = self.healthy and self.failures >= self._thresholds.fall
        rises = not self.healthy and self._successes >= self._thresholds.rise
        if falls or rises:
            self.healthy = not self.healthy
            if self.healthy:
                self.recovered = self._clock.now()
            self._told(found)

    def nudge(self) -> None:
        """Look again at once: something has changed."""
        self._nudged.set()

    def _pause(self) -> float:
        if self._presence.away or self.failures or not self.healthy:
            return min(_TROUBLED_INTERVAL, self._interval)
        return self._interval * (1 - _JITTER + 2 * _JITTER * self._rng())
