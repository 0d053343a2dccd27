"""Bound the time a call may take."""

from contextlib import aclosing

from mcp_proxy.core import jsonrpc
from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream, Whole
from mcp_proxy.core.clock import Clock, Running, Spawn
from mcp_proxy.core.errors import DeadlineExceededError, DrainingError, ProxyError
from mcp_proxy.core.intent import RESPONSE
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.session import SESSION
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.eager import Begun
from mcp_proxy.layers.timeouts import Together


class Deadline:
    """Bound the time until the answer, all tries included; on a stream, the silence of the server.

    Each piece of a streamed answer restarts the time, and it stands still while a request of the
    server to the client waits for its answer: people may take long to fill in a form. It runs again
    from the moment in which the client posts that answer here (one that comes to another worker of
    this sidecar is not seen).

    The end of the process is a deadline for all of them.
    """

    def __init__(self, seconds: float, clock: Clock, spawn: Spawn) -> None:
        self._seconds = seconds
        self._clock = clock
        self._spawn = spawn
        self._under_way = Together()
        # by session and question: the streams on which clients are asked something
        self._asked: dict[tuple[str | None, int | None], _Pause] = {}

    def end(self) -> None:
        """Break off what is still under way; raises DrainingError there."""
        self._under_way.end()

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; raises DeadlineExceededError when no answer began in time."""
        if call.intent is RESPONSE:
            self._heard(call)
        answering = Begun(forward(call))
        reply = answering.result
        if reply is None:  # it waits for somebody, so it needs a timer: a hit does not
            try:
                async with self._clock.timeout(self._seconds), self._under_way.within():
                    reply = await answering
            except TimeoutError:
                error = self._over(_delivered(call))
                error.attempts = len(call.tried or ())  # the last one is under way
                raise error from None
        body = reply.body
        if isinstance(body, Stream):
            body.wrap(lambda pieces: self._bounded(call, body, pieces))
        return reply

    async def _bounded(self, call: Call, stream: Stream, pieces: Pieces) -> Pieces:
        pause = _Pause(stream)
        try:
            async with aclosing(pieces):
                while True:
                    try:
                        async with self._under_way.within():
                            piece = await self._next(pause, pieces)
                    except StopAsyncIteration:
                        return
                    except TimeoutError:
                        raise self._over(Delivery.UNKNOWN) from None
                    if stream.asking:
                        self._forget(pause)
                        pause.key = call.headers.get(SESSION), stream.question
                        self._asked[pause.key] = pause
                    yield piece
        finally:
            self._forget(pause)

    async def _next(self, pause: "_Pause", pieces: Pieces) -> bytes:
        if not pause.stream.asking:
            async with self._clock.timeout(self._seconds):
                return await anext(pieces)
        pause.over = Together()
        try:
            async with pause.over.within():
                return await anext(pieces)
        finally:
            pause.end()

    def _forget(self, pause: "_Pause") -> None:
        if self._asked.get(pause.key) is pause:
            del self._asked[pause.key]

    def _heard(self, call: Call) -> None:
        """Let the time run on where the client has answered."""
        answer = read_answer(call.body.data) if isinstance(call.body, Whole) else None
        if answer is None:
            return
        question = jsonrpc.mark(answer.get("id"))
        pause = self._asked.pop((call.headers.get(SESSION), question), None)
        if pause is not None:
            pause.stream.asking = False
            if pause.over is not None:
                pause.timer = self._spawn(self._end(pause.over), "bound a call that has asked")

    async def _end(self, pause: Together) -> None:
        await self._clock.sleep(self._seconds)
        pause.end()

    def _over(self, delivered: Delivery) -> ProxyError:
        if self._under_way.over:
            return DrainingError(
                "The sidecar is shutting down and cannot wait for the answer any longer.",
                delivered=delivered,
            )
        return DeadlineExceededError(
            f"The call took longer than {self._seconds:g} s.", delivered=delivered
        )


class _Pause:
    """A stream of which the time may stand still."""

    __slots__ = ("key", "over", "stream", "timer")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.key: tuple[str | None, int | None] = (None, None)
        self.over: Together | None = None  # while it is waited for
        self.timer: Running | None = None  # once the client has answered

    def end(self) -> None:
        """Take note that something came."""
        self.over = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _delivered(call: Call) -> Delivery:
    """Return what became of a call that was given up: no try of it may have begun.

    It may have waited for a place, or for a sign of life of its session. A call that may be
    repeated may share the try of another, so this says nothing of it.
    """
    waited = call.tried is not None and not call.tried and not call.intent.repeatable
    return Delivery.NO if waited else Delivery.UNKNOWN
