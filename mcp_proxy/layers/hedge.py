"""Ask a second time when a read takes unusually long."""

import asyncio
from typing import Literal

from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Reply, Whole
from mcp_proxy.core.clock import Clock, Emit, Running, Spawn
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.latency import Latencies
from mcp_proxy.core.session import SESSION
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward

Delay = float | Literal["p95"]


class Hedge:
    """Send a read that may be repeated once more when no answer has come after a while.

    The first good answer wins, and the other call is let go of. The second one is paid for out of
    the retry budget (Dean and Barroso, "The Tail at Scale", 2013: 5 % more requests there). Not in a
    handshake-era session: there two calls with one id are never in flight together. Nor a write that
    is idempotent: the one that lost might be carried out after what others write next.
    """

    def __init__(
        self, delay: Delay, budget: Budget, clock: Clock, spawn: Spawn, emit: Emit
    ) -> None:
        self._delay = delay  # seconds, or the tool's own 95th percentile
        self._budget = budget
        self._clock = clock
        self._spawn = spawn
        self._emit = emit
        self._latencies = Latencies()

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Return the first good answer of one or two calls; else what the first one came to."""
        name = f"{call.message.service}/{call.message.named}"
        began = self._clock.now()
        delay = self._delay_of(call, name)
        reply = await (self._hedged(call, forward, delay) if delay else forward(call))
        if reply.verdict is Verdict.OK:
            self._latencies.note(name, self._clock.now() - began)
        return reply

    def _delay_of(self, call: Call, name: str) -> float | None:
        """Return after how many seconds to ask again; None where that is never done."""
        may = (
            call.intent.repeatable
            and not call.intent.writes
            and call.intent.stack is not Stack.SHORT
            and isinstance(call.body, Whole)
            and SESSION not in call.headers
        )
        if not may:
            return None
        return self._latencies.p95(name) if self._delay == "p95" else self._delay

    async def _hedged(self, call: Call, forward: Forward, delay: float) -> Reply:
        calls = [self._started(call, forward)]
        try:
            async with self._clock.timeout(delay):
                await asyncio.wait({calls[0]})
        except TimeoutError:
            if self._budget.take(self._clock.now()):
                self._tell(call, delay)
                calls.append(self._started(call, forward))
        except BaseException:
            self._let_go(calls[0])
            raise
        return await self._first_good(calls)

    def _started(self, call: Call, forward: Forward) -> "asyncio.Future[Reply | ProxyError]":
        task = self._spawn(outcome_of(call, forward), "hedged call")
        assert isinstance(task, asyncio.Future)
        return task

    async def _first_good(self, calls: "list[asyncio.Future[Reply | ProxyError]]") -> Reply:
        waiting = set(calls)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in calls:  # not in the order of a set, which is none
                    if one in done and is_good(one.result()):
                        calls.remove(one)
                        return as_reply(one.result())
            return as_reply(calls.pop(0).result())
        finally:
            for one in calls:
                self._let_go(one)

    def _let_go(self, losing: "asyncio.Future[Reply | ProxyError]") -> None:
        losing.cancel()
        self._spawn(released(losing), "let go of a hedged call")

    def _tell(self, call: Call, delay: float) -> None:
        self._emit(
            "retry.scheduled",
            **call.ids,
            service=call.message.service,
            tool=call.message.tool,
            method=call.message.method,
            attempt=call.attempt,
            wait_ms=round(delay * 1000),
            reason="no answer yet",
        )


async def outcome_of(call: Call, forward: Forward) -> Reply | ProxyError:
    """Return the reply, or the error as a value."""
    try:
        return await forward(call)
    except ProxyError as error:
        return error


def is_good(outcome: Reply | ProxyError) -> bool:
    """Tell whether there is no use in waiting for the other one."""
    return not isinstance(outcome, ProxyError) and outcome.verdict not in {
        Verdict.UPSTREAM_FAILED,
        Verdict.BUSY,
    }


def as_reply(outcome: Reply | ProxyError) -> Reply:
    """Return a reply; raises the error that there is instead."""
    if isinstance(outcome, ProxyError):
        raise outcome
    return outcome


async def released(losing: Running) -> None:
    """Close what a call that lost has opened meanwhile."""
    try:
        outcome = await losing
    except asyncio.CancelledError:
        return
    if isinstance(outcome, Reply):
        await outcome.discard()
