"""Drop what a call may have made stale."""

from asyncio import CancelledError, shield
from contextlib import aclosing

from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream
from mcp_proxy.core.clock import Running, Spawn
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.shelf import Shelf
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward


class Invalidate:
    """Drop all stored answers after a call that may have written, before its answer goes out.

    Whatever the verdict: a tool that failed half-way has changed something too. When the fate of
    the call is unknown, the server may still carry it out, so nothing is stored for a while.
    """

    def __init__(self, shelf: Shelf, quarantine: float, spawn: Spawn) -> None:
        self._shelf = shelf
        self._quarantine = quarantine  # seconds
        self._spawn = spawn

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; then invalidate, unless the call is known not to have been delivered."""
        if not call.intent.writes:
            return await forward(call)
        try:
            reply = await forward(call)
        except (Exception, CancelledError) as error:
            if not (isinstance(error, ProxyError) and error.delivered is Delivery.NO):
                await self._drop(unknown=True)
            raise
        # 202: the work is still to come (RFC 9110 section 15.3.3), as after a legacy POST
        unknown = reply.verdict is Verdict.UPSTREAM_FAILED or reply.status == 202
        body = reply.body
        if isinstance(body, Stream) and body.verdict is None:
            self._watch(body, unknown=unknown)
        else:
            await self._drop(unknown=unknown)
        return reply

    def _watch(self, stream: Stream, *, unknown: bool) -> None:
        """Invalidate once: before the piece with the answer goes on, or when the stream is over.

        A stream without a verdict of its own (a page, a download) ends with its last byte.
        """
        dropped = False

        async def drop_once(*, unknown: bool) -> None:
            nonlocal dropped
            if not dropped:
                dropped = True
                await self._drop(unknown=unknown)

        async def watched(pieces: Pieces) -> Pieces:
            async with aclosing(pieces):
                try:
                    async for piece in pieces:
                        if stream.verdict is not None:
                            await drop_once(unknown=False)
                        yield piece
                except ProxyError:
                    await drop_once(unknown=True)
                    raise
            await drop_once(unknown=unknown)

        def ended() -> None:
            if not dropped:
                self._begin(unknown=True)

        stream.wrap(watched)
        stream.on_end(ended)

    async def _drop(self, *, unknown: bool) -> None:
        # In a task of its own: a caller who leaves meanwhile does not stop it half-way.
        await shield(self._begin(unknown=unknown))

    def _begin(self, *, unknown: bool) -> Running:
        quarantine = self._quarantine if unknown else 0.0
        return self._spawn(self._shelf.invalidate(quarantine=quarantine), "invalidate")
