"""Let identical calls that are in flight together share one answer."""

import asyncio
from dataclasses import dataclass

from multidict import CIMultiDict

from mcp_proxy.core.answers import retold
from mcp_proxy.core.call import EMPTY, CacheNote, Call, Delivery, Reply, Stream
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import DeadlineExceededError
from mcp_proxy.core.jsonrpc import same_id
from mcp_proxy.core.keys import credentials
from mcp_proxy.layers.chain import Forward


@dataclass(slots=True, eq=False)
class _Flight:
    key: str
    asked: Call
    # Until it is over: what it raised holds its frame, and so the flight (core/errors, without_frames).
    task: asyncio.Future[Reply] | None = None
    waiting: int = 0
    led: bool = True  # the caller that began it still waits
    told: bool = False  # somebody has the answer and will store it


class Coalesce:
    """Ask once for all callers that want the same; who leaves takes nobody down.

    The flight runs in a task of its own, so that it lives while one caller waits, and is bounded
    by the time that a call may take. A key holds who asks and the generation of the answers, so
    nobody joins a flight that began before a write which that caller has seen finished.
    """

    def __init__(self, seconds: float, clock: Clock, spawn: Spawn, limit: int) -> None:
        self._seconds = seconds
        self._clock = clock
        self._spawn = spawn
        self._limit = limit
        self._flights: dict[str, _Flight] = {}

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Join the flight for the same answer, or begin it."""
        if call.message.method == "notifications/cancelled" and self._others_want(call):
            # It would take the answer from those who joined; a cancelled call's is ignored anyway.
            return Reply(202, CIMultiDict(), EMPTY)
        if call.key is None or not call.intent.collapsible:
            return await forward(call)
        flight = self._flights.get(call.key)
        if flight is None:
            return await self._lead(call, call.key, forward)
        reply = await self._wait(flight)
        own = (
            None
            if isinstance(reply.body, Stream)
            else retold(reply, flight.asked, call, self._limit)
        )
        if own is None:
            return await forward(call)  # a stream is its leader's: ask for ourselves
        if not flight.told:
            flight.told = True
            return own
        return own._replace(cache=CacheNote(collapsed=True))

    def _others_want(self, call: Call) -> bool:
        """Tell whether a cancellation names a flight that somebody else waits for, too."""
        cancelled = call.message.params.get("requestId")
        return any(
            flight.waiting > flight.led
            and same_id(cancelled, flight.asked.message.id)
            and credentials(flight.asked.headers) == credentials(call.headers)
            for flight in self._flights.values()
        )

    async def _lead(self, call: Call, key: str, forward: Forward) -> Reply:
        flight = self._flights[key] = _Flight(key, call)
        task = self._spawn(self._fly(flight, forward), "flight")
        assert isinstance(task, asyncio.Future)
        flight.task = task
        try:
            reply = await self._wait(flight)
        except asyncio.CancelledError:
            flight.led = False
            if task.done() and not task.cancelled() and task.exception() is None:
                await task.result().discard()
            raise
        flight.told = True
        return reply

    async def _wait(self, flight: _Flight) -> Reply:
        assert flight.task is not None
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and flight.task is not None:
                # At once, not at the end of its tidying: who joined it would be cancelled with it.
                self._close_to_others(flight)
                flight.task.cancel()

    def _close_to_others(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    async def _fly(self, flight: _Flight, forward: Forward) -> Reply:
        try:
            async with self._clock.timeout(self._seconds):
                reply = await forward(flight.asked)
        except TimeoutError:
            raise DeadlineExceededError(
                f"The call took longer than {self._seconds:g} s.", delivered=Delivery.UNKNOWN
            ) from None
        finally:
            self._close_to_others(flight)
            flight.task = None
        if not flight.led:
            await reply.discard()
        return reply
