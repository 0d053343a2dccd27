"""Bound the time a call may take."""

from contextlib import aclosing

from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import DeadlineExceededError
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.eager import Begun


class Deadline:
    """Bound the time until the answer, all tries included; on a stream, the silence of the server.

    Each piece of a streamed answer restarts the time, and it stands still while a request of the
    server to the client waits for its answer: people may take long to fill in a form.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; raises DeadlineExceededError when no answer began in time."""
        answering = Begun(forward(call))
        reply = answering.result
        if reply is None:  # it waits for somebody, so it needs a timer: a hit does not
            try:
                async with self._clock.timeout(self._seconds):
                    reply = await answering
            except TimeoutError:
                raise self._exceeded() from None
        body = reply.body
        if isinstance(body, Stream):
            body.wrap(lambda pieces: self._bounded(body, pieces))
        return reply

    async def _bounded(self, stream: Stream, pieces: Pieces) -> Pieces:
        async with aclosing(pieces):
            while True:
                try:
                    if stream.asking:
                        piece = await anext(pieces)
                    else:
                        async with self._clock.timeout(self._seconds):
                            piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise self._exceeded() from None
                yield piece

    def _exceeded(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"The call took longer than {self._seconds:g} s.", delivered=Delivery.UNKNOWN
        )
