"""Drop what a call may have made stale."""

from contextlib import aclosing

from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream
from mcp_proxy.core.clock import Spawn
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
        except ProxyError as error:
            if error.delivered is not Delivery.NO:
                await self._shelf.invalidate(quarantine=self._quarantine)
            raise
        except BaseException:
            # The caller left: nobody waits for the answer, so the rest may happen behind us.
            self._fate_unknown()
            raise
        body = reply.body
        if isinstance(body, Stream) and body.verdict is None:
            body.wrap(lambda pieces: self._until_answered(body, pieces))
            body.on_end(lambda: self._unless_answered(body))
        else:
            # 202: the work is still to come (RFC 9110 section 15.3.3), as after a legacy POST
            unknown = reply.verdict is Verdict.UPSTREAM_FAILED or reply.status == 202
            await self._shelf.invalidate(quarantine=self._quarantine if unknown else 0.0)
        return reply

    async def _until_answered(self, stream: Stream, pieces: Pieces) -> Pieces:
        done = False
        async with aclosing(pieces):
            async for piece in pieces:
                if stream.verdict is not None and not done:
                    done = True
                    await self._shelf.invalidate()
                yield piece
        if not done:
            # a stream without a verdict of its own (a page, a download) ends with its last byte
            stream.verdict = Verdict.OK
            await self._shelf.invalidate()

    def _unless_answered(self, stream: Stream) -> None:
        if stream.verdict is None:
            self._fate_unknown()

    def _fate_unknown(self) -> None:
        self._spawn(
            self._shelf.invalidate(quarantine=self._quarantine), "invalidate after a departure"
        )
