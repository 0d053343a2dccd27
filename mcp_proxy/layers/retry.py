"""Ask again where that is safe; the only importer of aiohttp-retry."""

from collections.abc import Callable
from typing import Any, Protocol

from aiohttp_retry import ExponentialRetry

from mcp_proxy.core.backoff import hinted_wait, wait_before_next
from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Delivery, Reply, Stream
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.errors import (
    CircuitOpenError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
    without_frames,
)
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward


class Backoff(ExponentialRetry):
    """The policy: how many tries, after which outcomes, below which ceiling of delay.

    Only the policy object of aiohttp-retry is used. Its client repeats POST by default, sleeps on
    an answer that it has not released (a pool of 10 and 20 calls dead-lock), and knows neither
    deadline nor budget, so the loop is ours.
    """

    def __init__(self, retries: int, base: float, factor: float, maximum: float) -> None:
        super().__init__(
            attempts=retries + 1,
            start_timeout=base,
            factor=factor,
            max_timeout=maximum,
            statuses={429, 500, 502, 503, 504},
            exceptions={UpstreamUnreachableError, UpstreamTimeoutError, UpstreamBrokenError},
            retry_all_server_errors=False,
        )

    def get_timeout(self, attempt: int, response: Any = None) -> float:
        """Return the ceiling of the delay after try number `attempt`, in seconds.

        The library's own first delay is base x factor; ours is base.
        """
        return super().get_timeout(attempt - 1, response)

    def repeats(self, outcome: Reply | ProxyError) -> bool:
        """Tell whether this outcome is of the kind that another try can mend."""
        if isinstance(outcome, ProxyError):
            return isinstance(outcome, tuple(self.exceptions))
        if outcome.verdict is Verdict.BUSY:
            return outcome.status in self.statuses
        unreadable = outcome.status < 500
        return outcome.verdict is Verdict.UPSTREAM_FAILED and (
            unreadable or outcome.status in self.statuses
        )


class Presence(Protocol):
    """What is known of the server's being there (upstream/presence)."""

    async def returned(self, target: str) -> bool:
        """Wait, together with all who ask, until a restarting server accepts connections.

        An empty name stands for whichever returns first. False when none did within the restart
        grace, or when all are known to be lost.
        """
        ...


class Retry:
    """Repeat a failed try within the policy, the budget and the window.

    A call that may not be repeated is sent again only while it is proved that no try of it was
    delivered. Calls that found the server refusing connections wait for it to return first.
    """

    def __init__(
        self,
        policy: Backoff,
        budget: Budget,
        presence: Presence,
        clock: Clock,
        emit: Emit,
        *,
        rng: Callable[[], float],
        window: float,
        attempt_timeout: float,
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._presence = presence
        self._clock = clock
        self._emit = emit
        self._rng = rng
        self._window = window  # seconds after arrival in which a try may start
        self._attempt_timeout = attempt_timeout  # seconds of silence

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Return the first reply that no further try could better, or raise the last error."""
        self._budget.asked(self._clock.now())
        attempt, bridged = 1, 0  # bridged: tries that found a restarting server; they cost nothing
        delivered = Delivery.NO
        while True:
            outcome = await self._try(call, forward, attempt, attempt - bridged)
            delivered = max_delivery(delivered, outcome)
            if isinstance(outcome, ProxyError):
                outcome.delivered = delivered
            if not may_follow(call, delivered):
                break
            if await self._bridges(call, outcome):
                bridged += 1
            else:
                wait = self._wait(call, outcome, attempt - bridged)
                if wait is None:
                    break
                await self._pause(call, outcome, attempt, wait)
            attempt += 1
        if isinstance(outcome, ProxyError):
            raise outcome
        return outcome

    async def _try(
        self, call: Call, forward: Forward, attempt: int, counted: int
    ) -> Reply | ProxyError:
        try:
            reply = await forward(self._timed(call, attempt, counted))
        except ProxyError as error:
            # an open circuit let nothing out
            error.attempts = attempt - isinstance(error, CircuitOpenError)
            return without_frames(error)
        return reply if attempt == reply.attempts else reply._replace(attempts=attempt)

    def _timed(self, call: Call, attempt: int, counted: int) -> Call:
        """Give a try the silence after which it is given up, if another may follow it."""
        silence = call.intent.attempt_timeout
        another = counted < self._policy.attempts and may_follow(call, Delivery.UNKNOWN)
        if silence is None and another:
            left = call.arrived + self._window - self._clock.now()
            silence = self._attempt_timeout if self._attempt_timeout < left else None
        if silence == call.silence and attempt == call.attempt:
            return call
        return call._replace(silence=silence, attempt=attempt)

    async def _bridges(self, call: Call, outcome: Reply | ProxyError) -> bool:
        over = call.arrived + self._window
        return (
            isinstance(outcome, UpstreamUnreachableError)
            and outcome.bridged
            and self._clock.now() < over
            and await self._presence.returned(outcome.target)
            and self._clock.now() < over
        )

    def _wait(self, call: Call, outcome: Reply | ProxyError, counted: int) -> float | None:
        """Return the seconds until the next try, or None when there is to be none."""
        if counted >= self._policy.attempts or not self._policy.repeats(outcome):
            return None
        now = self._clock.now()
        hint = None
        if isinstance(outcome, Reply):
            hint = hinted_wait(outcome.headers, self._clock.wall())
        left = call.arrived + self._window - now
        wait = wait_before_next(self._policy.get_timeout(counted), hint, left, self._rng)
        return wait if wait is not None and self._budget.take(now) else None

    async def _pause(
        self, call: Call, outcome: Reply | ProxyError, attempt: int, wait: float
    ) -> None:
        self._emit(
            "retry.scheduled",
            **call.ids,
            service=call.message.service,
            tool=call.message.tool,
            method=call.message.method,
            attempt=attempt,
            wait_ms=round(wait * 1000),
            reason=outcome.code if isinstance(outcome, ProxyError) else outcome.status,
        )
        # Release the connection first: sleeping on it starves the pool.
        if isinstance(outcome, Reply):
            await outcome.discard()
        await self._clock.sleep(wait)


def may_follow(call: Call, delivered: Delivery) -> bool:
    """Tell whether another try can do no harm; a streamed body has been read and is gone."""
    if isinstance(call.body, Stream):
        return False
    return call.intent.repeatable or delivered is Delivery.NO


def max_delivery(before: Delivery, outcome: Reply | ProxyError) -> Delivery:
    """Return whether any try so far can have reached the server."""
    after = outcome.delivered if isinstance(outcome, ProxyError) else Delivery.UNKNOWN
    return Delivery.UNKNOWN if Delivery.UNKNOWN in {before, after} else Delivery.NO
