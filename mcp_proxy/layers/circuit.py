"""One circuit on pybreaker's state machine; the only importer of pybreaker.

    closed --(too many failures)--> open --(recovery time over)--> half-open
      ^                              ^                                |
      |                              +------(the probe failed)--------+
      +---------------------(the probe got an answer)-----------------+

pybreaker 1.4.1 decides the transitions; what it gets wrong for an asyncio proxy is kept from it.
It is only ever told outcomes, synchronously: its `call_async` needs tornado, and `call` counts a
coroutine as a success. It reads the wall clock, so the recovery time is kept here, on our clock.
Half-open it lets everybody through, so the one probe is given out here. It takes an outcome that
arrives late as the trial call, so outcomes carry the generation of the state they left in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import NamedTuple

from pybreaker import (
    STATE_CLOSED,
    STATE_OPEN,
    CircuitBreaker,
    CircuitMemoryStorage,
)

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import CircuitOpenError, without_frames
from mcp_proxy.core.window import Window

# A circuit that keeps failing its probes waits longer each time, up to five minutes.
_LONGEST_OPEN = 300.0
_JITTER = 0.1
# What a caller is told to wait while somebody else's probe is out.
_PROBE_OUT = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a circuit opens, and for how long."""

    failures: int = 5  # in a row
    recovery: float = 60.0  # seconds
    rate: float = 0.5  # or this share of failures ...
    volume: int = 20  # ... among at least so many tries ...
    window: float = 10.0  # ... within so many seconds
    slow: float = 0.0  # seconds after which an answer counts as a failed try; 0 is never


class Ticket(NamedTuple):
    """Leave to make one try; names the state in which it was given."""

    generation: int
    probe: bool
    breaks: int = 0  # connections that had broken when it was given


class _FailedTryError(Exception):
    """What pybreaker is told of a failed try."""


class _Storage(CircuitMemoryStorage):
    """Trip on a share of failures as well as on failures in a row."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        super().__init__(STATE_CLOSED)
        self._limits = limits
        self._clock = clock
        self._window = Window(limits.window, limits.volume, limits.rate)
        self.generation = 0

    def increment_counter(self) -> None:
        """Count a failure (pybreaker calls this once per failure)."""
        super().increment_counter()
        self._window.add(self._clock.now(), failed=True)

    def reset_counter(self) -> None:
        """End the run of failures (pybreaker calls this once per success)."""
        super().reset_counter()
        self._window.add(self._clock.now(), failed=False)

    @property
    def counter(self) -> int:
        """Return the run of failures, or "enough to trip" when the share of failures is too high."""
        if self._window.tripped(self._clock.now()):
            return self._limits.failures
        return super().counter

    @property
    def state(self) -> str:
        """Return the state's name."""
        return super().state

    @state.setter
    def state(self, state: str) -> None:
        # pybreaker sets the state last when it opens or closes: whatever left before is history
        self._state = state
        self.generation += 1
        self._window.clear()


class Circuit:
    """Stop asking what keeps failing; after a while let one probe find out."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        clock: Clock,
        rng: Callable[[], float],
        told: Callable[[str, str, str], None],
        *,
        patience: float = inf,
    ) -> None:
        self.name = name
        self._patience = patience  # seconds after which who is refused may ask again, at most
        self.opened = 0  # how often, since the start
        self._limits = limits
        self._clock = clock
        self._rng = rng
        self._told = told
        self._storage = _Storage(limits, clock)
        self._until = 0.0  # when an open circuit may be probed
        self._in_a_row = 0  # openings without a success in between
        self._probe: Ticket | None = None  # of this state, or of a past one
        self._breaks = 0  # broken connections that counted

    @cached_property
    def _breaker(self) -> CircuitBreaker:
        """Return pybreaker's machine, which most circuits never need: it is made with the first failure.

        It and its state hold each other, so a forgotten one stays until the collector comes: where
        2000 tools were called in turn, 7000 of them were found, 6 MiB.
        """
        return CircuitBreaker(
            fail_max=self._limits.failures,
            state_storage=self._storage,
            name=self.name,
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> str:
        """Return `closed`, `open` or `half_open`."""
        return self._storage.state.replace("-", "_")

    @property
    def failures(self) -> int:
        """Return the length of the present run of failures."""
        return self._storage.counter

    def time_left(self) -> float:
        """Return the seconds until an open circuit may be probed."""
        return max(0.0, self._until - self._clock.now())

    def enter(self) -> Ticket:
        """Return leave for one try; raises CircuitOpenError while there is none."""
        if self._storage.state == STATE_CLOSED:
            return Ticket(self._storage.generation, probe=False, breaks=self._breaks)
        if self._storage.state == STATE_OPEN:
            if left := self.time_left():
                raise self._refusal(left)
            self._change(self._breaker.half_open)
        if self._probe is not None and self._probe.generation == self._storage.generation:
            raise self._refusal(_PROBE_OUT)
        self._probe = Ticket(self._storage.generation, probe=True, breaks=self._breaks)
        return self._probe

    def record(self, ticket: Ticket, *, failed: bool, broken: bool = False) -> None:
        """Count the outcome of a try, unless the state has changed since it left.

        Of connections that break together only one counts. A server that dies takes all of them
        with it, and that is one event: if each counted, five reads under way at a restart would
        open the circuit of a sound tool.
        """
        late = ticket.generation != self._storage.generation
        if late or (broken and ticket.breaks != self._breaks):
            return
        self._breaks += broken
        if not failed and self._storage.state == STATE_CLOSED:
            # what pybreaker's closed state does with a success, without its 9 µs of ceremony
            self._storage.reset_counter()
            return
        self._change(lambda: self._tell_breaker(failed=failed))

    def leave(self, ticket: Ticket) -> None:
        """Give the probe's place back; call it after each try, whatever came of it."""
        if ticket is self._probe:
            self._probe = None

    def trip(self) -> None:
        """Open at once: it is known that the next try would fail."""
        if self._storage.state != STATE_OPEN:
            self._change(self._breaker.open)

    def reset(self) -> None:
        """Close at once: it is known that the next try would succeed."""
        if self._storage.state != STATE_CLOSED:
            self._change(self._breaker.close)

    def allow_probe(self) -> None:
        """End the waiting of an open circuit: the next call is its probe."""
        self._until = self._clock.now()

    def _tell_breaker(self, *, failed: bool) -> None:
        def outcome() -> None:
            if failed:
                raise _FailedTryError

        try:
            self._breaker.call(outcome)
        except _FailedTryError as failure:
            without_frames(failure)  # pybreaker's frames hold it

    def _change(self, act: Callable[[], object]) -> None:
        before = self.state
        act()
        after = self.state
        if before == after:
            return
        if after == "open":
            self._wait_anew()
        elif after == "closed":
            self._in_a_row = 0
        self._told(self.name, before, after)

    def _wait_anew(self) -> None:
        self.opened += 1
        seconds = self._limits.recovery
        if self._in_a_row:
            longest = max(_LONGEST_OPEN, seconds)
            seconds = min(seconds * 2 ** min(self._in_a_row, 16), longest)
            seconds *= 1 - _JITTER + 2 * _JITTER * self._rng()
        self._in_a_row += 1
        self._until = self._clock.now() + seconds

    def _refusal(self, left: float) -> CircuitOpenError:
        error = CircuitOpenError(
            f"The circuit of {self.name} is open: it has kept failing.",
            retry_after=min(left, self._patience),
        )
        error.circuit = self.state
        return error
