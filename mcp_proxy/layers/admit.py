"""Let in only as many calls as may run; refuse the rest early."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import count
from math import inf
from sys import maxsize

from mcp_proxy.core.call import Call, Pieces, Reply, Stream
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.errors import (
    OverloadedError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.gradient import Gradient
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward

# Seconds in a queue. A burst that is over in one second is worth waiting for; whoever would wait
# longer does better to hear of it, and to come back when the load has gone (the `Retry-After` is
# as long). Agents give up at 60 s and would have asked again by then: a long queue is full of
# calls that nobody waits for any more (Google SRE book, "Addressing Cascading Failures").
_PATIENCE = 1.0
_RETRY_AFTER = 1.0
# Once somebody has waited for all that time in vain it is no burst: the queue stands, and whoever
# joins it waits as long without one more call being answered. From then on nobody joins behind one
# who has waited for a twentieth of it (the share of CoDel's target in its interval, RFC 8289
# section 4.3): so those who are let in come at once, and the others hear at once. There is always
# somebody who waits, so no place stays free. What may be waited for grows back by a tenth of the
# time since the last such refusal. To keep it short for a second after each of them sufficed as
# well, but refused a twentieth of the calls for ever at nine tenths of what a (simulated) server of
# ten places could do; this way it was one of 250, and soon none.
_SHORT = 0.05 * _PATIENCE
_REGAINED = 0.1
# What has gathered in a restart of a few seconds is answered within about as long.
_CATCHING_UP = 5.0
# What the server is asked in order to end, answer or begin something else, and does at once.
# Clients take a `ping` without an answer for a dead server, and come back with an `initialize`.
_AT_ONCE = frozenset({"initialize", "ping", "tasks/cancel", "tasks/update"})
_BUSIEST = 5

QUEUE_FULL = "queue full"
STANDS = "queue stands"
TOO_LONG = "waited too long"
SHARE = "tool's share"
REASONS = (QUEUE_FULL, STANDS, TOO_LONG, SHARE)

_FAILED = (UpstreamUnreachableError, UpstreamTimeoutError, UpstreamBrokenError)
_FAILURES = frozenset({Verdict.UPSTREAM_FAILED, Verdict.BUSY})
_ANSWERS = frozenset({Verdict.OK, Verdict.TOOL_FAILED})

Key = tuple[str, str, str]  # service, tool, method


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many calls may be with the server, and how many may wait."""

    limit: int = 1024
    per_tool: int = 256
    queue: int = 1024


class _Waiting:
    __slots__ = ("admitted", "came", "number", "woken")

    def __init__(self, number: int, came: float) -> None:
        self.number = number  # in the order of arrival
        self.admitted = False
        self.begin(came)

    def begin(self, now: float) -> None:
        """Wait from now on, anew if need be."""
        self.came = now
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Share:
    """The calls of one tool."""

    __slots__ = ("in_flight", "key", "line", "most", "stood")

    def __init__(self, key: Key, most: int) -> None:
        self.key = key
        self.most = most
        self.in_flight = 0
        self.line: dict[_Waiting, None] = {}  # in the order of arrival; who leaves, leaves at once
        self.stood = -inf  # when a call was last refused because the tool's line stood

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.most

    @property
    def head(self) -> _Waiting:
        """Return who has waited longest; somebody must be waiting."""
        return next(iter(self.line))


class Admit:
    """Bound the calls that are with the server at once, in all and of each tool.

    A call that finds no place waits for a moment in a bounded queue, first come, first served; but
    a tool that has its share holds up nobody else. A call that finds the queue full, or standing
    without hope, is refused at once, so those who wait keep their place. A permit is held until the
    end of the answer's body.

    Whenever a place comes free, those who may have it get it in that very step. So if there is
    room, nobody waits for it, and a call that comes then needs to look at two numbers only.
    """

    def __init__(
        self,
        bounds: Bounds,
        clock: Clock,
        emit: Emit,
        *,
        deadline: float,
        gradient: Gradient | None = None,
        restarting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._emit = emit
        # Whoever is let in must have time left to be answered.
        self._longest = deadline / 2
        self._patience = min(_PATIENCE, self._longest)
        self._restarting = restarting  # is the server so just now?
        self._restarted = -inf  # when it was last seen so
        self._gradient = gradient
        self._limit = bounds.limit if gradient is None else gradient.limit
        self._in_flight = 0
        self._waiting = 0
        self._numbers = count()
        # Names come from callers: a tool of which nothing is here is not remembered.
        self._shares: dict[Key, _Share] = {}
        self._lines: dict[Key, _Share] = {}  # those of which a call waits
        self._stood = -inf  # when a call was last refused because the queue stood
        self._shed: Counter[str] = Counter()

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on as soon as there is a place; raises OverloadedError when there is none in time."""
        if passes(call):
            return await forward(call)
        share = self._share(call)
        if self._in_flight < self._limit and share.in_flight < share.most:
            self._in_flight += 1
            share.in_flight += 1
        else:
            await self._wait(call, share)
        gradient, crowd = self._gradient, self._in_flight
        began = self._clock.now() if gradient is not None else 0.0
        try:
            reply = await forward(call)
        except BaseException as error:
            if gradient is not None and isinstance(error, _FAILED):
                self._learn(gradient, Verdict.UPSTREAM_FAILED, 0.0, crowd)
            self._release(share)
            raise
        body = reply.body
        if gradient is not None:
            self._measure(gradient, reply, began, crowd)
        if isinstance(body, Stream):
            body.on_end(partial(self._release, share))
        else:
            self._release(share)
        return reply

    def _share(self, call: Call) -> _Share:
        message = call.message
        key = (message.service, message.tool, message.method)
        share = self._shares.get(key)
        if share is None:
            # A method that is no tool call has a share as a tool has (as it has a circuit). What is
            # neither has none: it is not one thing that can hang.
            most = call.intent.max_concurrency or self._bounds.per_tool
            if not any(key):
                most = maxsize
            share = self._shares[key] = _Share(key, most)
        return share

    # --- waiting

    async def _wait(self, call: Call, share: _Share) -> None:
        """Wait for a permit; raises OverloadedError if none came in time."""
        now = self._clock.now()
        reason = self._full(share) or self._standing(share, now)
        if reason:
            raise self._refusal(call, share, reason)
        waiting = _Waiting(next(self._numbers), now)
        share.line[waiting] = None
        self._lines[share.key] = share
        self._waiting += 1
        try:
            await self._turn(waiting)
        except TimeoutError:
            if waiting.admitted:  # in the last moment
                return
            self._leave(share, waiting)
            self._stand(share, self._clock.now())
            reason = TOO_LONG if share.has_room else SHARE
            raise self._refusal(call, share, reason) from None
        except BaseException:
            if waiting.admitted:  # and left before it knew
                self._release(share)
            else:
                self._leave(share, waiting)
                self._forget(share)
            raise

    async def _turn(self, waiting: _Waiting) -> None:
        """Wait for a place: a moment, and anew where a restart has held everybody up."""
        over = self._clock.now() + self._longest
        while True:
            held_up = self._held_up()
            try:
                async with self._clock.timeout(self._patience):
                    await waiting.woken
                    return
            except TimeoutError:
                now = self._clock.now()
                goes_on = (held_up or self._held_up()) and now + self._patience <= over
                if waiting.admitted or not goes_on:
                    raise
                waiting.begin(now)

    def _held_up(self) -> bool:
        """Tell whether calls wait because of a restart.

        While the server restarts no call ends and no place comes free, and afterwards it has to catch
        up: that says nothing of the load. With 200 reads of one tool a second, a restart of 2 s would
        shed 120 of 1500.
        """
        now = self._clock.now()
        if self._restarting():
            self._restarted = now
        return now - self._restarted <= _CATCHING_UP

    def _full(self, share: _Share) -> str:
        """Return why a call of this tool may not even wait, or nothing."""
        queue = self._bounds.queue
        if self._waiting >= queue:
            return QUEUE_FULL if share.has_room else SHARE
        # A tool has the same part of the queue as of the server: a dead one must not fill it. A rule
        # that narrows the tool's share is no reason to refuse what can wait its turn.
        most = max(share.most, self._bounds.per_tool)
        return SHARE if len(share.line) * self._bounds.limit >= queue * most else ""

    def _standing(self, share: _Share, now: float) -> str:
        """Return why a call of this tool would wait in vain, or nothing."""
        # It waits for a place with the server, behind whoever is next, or for one of its tool's.
        line = self._next() if share.has_room else share
        if line is None or not line.line or self._held_up():
            return ""
        since = now - (self._stood if share.has_room else share.stood)
        if now - line.head.came <= min(self._patience, _SHORT + _REGAINED * since):
            return ""
        self._stand(share, now)
        return STANDS if share.has_room else SHARE

    def _stand(self, share: _Share, now: float) -> None:
        if share.has_room:
            self._stood = now
        else:
            share.stood = now

    def _leave(self, share: _Share, waiting: _Waiting) -> None:
        del share.line[waiting]
        self._waiting -= 1
        if not share.line:
            del self._lines[share.key]

    def _next(self) -> _Share | None:
        """Return the line of the one who gets the next place with the server, if anybody may."""
        return min(
            (share for share in self._lines.values() if share.has_room),
            key=lambda share: share.head.number,
            default=None,
        )

    def _let_in(self) -> None:
        """Give the places that are free to those who have waited longest for one."""
        while self._in_flight < self._limit and (share := self._next()) is not None:
            waiting = share.head
            self._leave(share, waiting)
            self._in_flight += 1
            share.in_flight += 1
            waiting.admitted = True
            if not waiting.woken.done():  # it may be leaving: then it gives the permit on
                waiting.woken.set_result(None)

    def _release(self, share: _Share) -> None:
        self._in_flight -= 1
        share.in_flight -= 1
        if self._lines:
            self._let_in()
        self._forget(share)

    def _forget(self, share: _Share) -> None:
        if not share.in_flight and not share.line:
            del self._shares[share.key]

    def _refusal(self, call: Call, share: _Share, reason: str) -> OverloadedError:
        self._forget(share)
        self._shed[reason] += 1
        if self._gradient is not None:
            self._gradient.refused()
            self._follow(self._gradient)
        self._emit(
            "load.shed",
            "warning",
            **call.ids,
            service=call.message.service,
            tool=call.message.named,
            reason=reason,
            in_flight=self._in_flight,
            waiting=self._waiting,
        )
        what = f"too many calls of {call.message.named}" if reason == SHARE else "too many calls"
        return OverloadedError(
            f"There are {what} at once; this one was not sent.", retry_after=_RETRY_AFTER
        )

    # --- the adaptive limit

    def _learn(self, gradient: Gradient, verdict: Verdict, seconds: float, crowd: int) -> None:
        if verdict in _FAILURES:
            gradient.failed(crowd)
        elif verdict in _ANSWERS:
            gradient.answered(seconds, crowd)
        self._follow(gradient)

    def _follow(self, gradient: Gradient) -> None:
        self._limit = gradient.limit
        self._let_in()

    def _measure(self, gradient: Gradient, reply: Reply, began: float, crowd: int) -> None:
        """Tell the gradient how long the server took; pauses between tries are not the server's."""
        body = reply.body
        if isinstance(body, Stream) and reply.verdict not in _FAILURES:
            body.wrap(lambda pieces: self._timed(gradient, body, pieces, began, crowd))
        elif reply.upstream_seconds is not None:
            self._learn(gradient, reply.verdict, reply.upstream_seconds, crowd)

    async def _timed(
        self, gradient: Gradient, stream: Stream, pieces: Pieces, began: float, crowd: int
    ) -> Pieces:
        """Time a stream until its answer: its head comes before the work, its end may be late.

        Not if the server asked the client in between: people take their time.
        """
        timing = True
        async with aclosing(pieces):
            try:
                async for piece in pieces:
                    timing = timing and not stream.asking
                    if timing and stream.verdict is not None:
                        timing = False
                        self._learn(gradient, stream.verdict, self._clock.now() - began, crowd)
                    yield piece
            except _FAILED:
                if timing:
                    self._learn(gradient, Verdict.UPSTREAM_FAILED, 0.0, crowd)
                raise

    def snapshot(self) -> dict[str, object]:
        """Return what is here just now, what was refused so far, and the busiest tools."""
        busiest = nlargest(
            _BUSIEST,
            (share for share in self._shares.values() if any(share.key)),
            key=lambda share: (share.in_flight, len(share.line)),
        )
        return {
            "in_flight": self._in_flight,
            "waiting": self._waiting,
            "limit": self._limit,
            "shed": dict(self._shed),
            "busiest": [
                {
                    "service": share.key[0],
                    "tool": share.key[1] or share.key[2],
                    "in_flight": share.in_flight,
                    "waiting": len(share.line),
                    "limit": share.most,
                }
                for share in busiest
            ],
        }


def passes(call: Call) -> bool:
    """Tell whether a call needs no permit.

    The server may be waiting for it: a call of a tool that asks its user something holds a permit
    until the answer is posted, so if answers had to wait for a permit, enough such calls would
    wait for each other for ever. The same goes for what cancels a call. Responses and
    notifications have no answer of their own to produce, so they load the server little. A tool
    call without an id is no notification that anybody sends: it must not get around the limit.
    """
    message = call.message
    if message.dialect is Dialect.RPC:
        silent = message.id is None and not message.tool
        if silent or message.method in _AT_ONCE:
            return True
    return call.intent.ends_elsewhere
