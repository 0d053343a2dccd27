"""Bound the time a call may take."""

from contextlib import aclosing

from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import DeadlineExceededError, DrainingError, ProxyError
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.eager import Begun
from mcp_proxy.layers.timeouts import Together


class Deadline:
    """Bound the time until the answer, all tries included; on a stream, the silence of the server.

    Each piece of a streamed answer restarts the time, and it stands still while a request of the
    server to the client waits for its answer: people may take long to fill in a form.

    The end of the process is a deadline for all of them.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._under_way = Together()

    def end(self) -> None:
        """Break off what is still under way; raises DrainingError there."""
        self._under_way.end()

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; raises DeadlineExceededError when no answer began in time."""
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
            body.wrap(lambda pieces: self._bounded(body, pieces))
        return reply

    async def _bounded(self, stream: Stream, pieces: Pieces) -> Pieces:
        async with aclosing(pieces):
            while True:
                try:
                    async with self._under_way.within():
                        if stream.asking:
                            piece = await anext(pieces)
                        else:
                            async with self._clock.timeout(self._seconds):
                                piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise self._over(Delivery.UNKNOWN) from None
                yield piece

    def _over(self, delivered: Delivery) -> ProxyError:
        if self._under_way.over:
            return DrainingError(
                "The sidecar is shutting down and cannot wait for the answer any longer.",
                delivered=delivered,
            )
        return DeadlineExceededError(
            f"The call took longer than {self._seconds:g} s.", delivered=delivered
        )


def _delivered(call: Call) -> Delivery:
    """Return what became of a call that was given up: no try of it may have begun.

    It may have waited for a place, or for a sign of life of its session. A call that may be
    repeated may share the try of another, so this says nothing of it.
    """
    waited = call.tried is not None and not call.tried and not call.intent.repeatable
    return Delivery.NO if waited else Delivery.UNKNOWN
