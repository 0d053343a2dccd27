"""Drop what a call may have made stale."""

from asyncio import CancelledError
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from mcp_proxy.core import jsonrpc
from mcp_proxy.core.answers import answer_in
from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream, Whole
from mcp_proxy.core.clock import Spawn
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.intent import SESSION_END
from mcp_proxy.core.keys import credentials
from mcp_proxy.core.scopes import of_caller, of_pattern
from mcp_proxy.core.shelf import Shelf
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward

# Hears of a call that made answers invalid: how many were dropped from this process, and whether
# the fate of the call is unknown.
Told = Callable[[Call, int, bool], None]


@dataclass(slots=True)
class _Watch:
    call: Call
    stream: Stream
    unknown: bool  # the fate of the call, should the stream end without a verdict
    begun: bool  # its answer is not the end of it
    dropped: bool = False


class Invalidate:
    """Drop all stored answers after a call that may have written, before its answer goes out.

    Whatever the verdict: a tool that failed half-way has changed something too. When the fate of
    the call is unknown, the server may still carry it out, so nothing is stored for a while.
    """

    def __init__(
        self, shelf: Shelf, quarantine: float, spawn: Spawn, told: Told = lambda *_: None
    ) -> None:
        self._shelf = shelf
        self._told = told
        self._quarantine = quarantine  # seconds
        self._spawn = spawn

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; then invalidate, unless the call is known not to have been delivered."""
        if not call.intent.writes:
            reply = await forward(call)
            await self._part(call, reply)
            return await self._dropped(call, reply) if ends_a_write(call, reply) else reply
        try:
            reply = await forward(call)
        except (Exception, CancelledError) as error:
            if not (isinstance(error, ProxyError) and error.delivered is Delivery.NO):
                await self._drop(call, unknown=True)
            raise
        # 202: the work is still to come (RFC 9110 section 15.3.3), as after a legacy POST; a task is
        # only begun when its call is answered
        to_come = reply.status == 202 and not call.intent.ends_elsewhere
        # a try that was given up may be carried out after the one that was answered
        begun = jsonrpc.begins_task(call.message) or (call.intent.repeatable and reply.attempts > 1)
        unknown = reply.verdict is Verdict.UPSTREAM_FAILED or to_come or begun
        await self._part(call, reply)
        return await self._dropped(call, reply, unknown=unknown, begun=begun)

    async def _dropped(
        self, call: Call, reply: Reply, *, unknown: bool = False, begun: bool = False
    ) -> Reply:
        """Return a reply of which nothing goes out before what it may have made stale is dropped."""
        body = reply.body
        if isinstance(body, Stream) and body.verdict is None:
            watch = _Watch(call, body, unknown, begun)
            body.wrap(lambda pieces: self._watched(watch, pieces))
            body.on_end(lambda: self._ended(watch))
        else:
            await self._drop(call, unknown=unknown)
        return reply

    async def _part(self, call: Call, reply: Reply) -> None:
        """Drop what one caller was told: the credentials do not hold (any more), the session is over."""
        gone = reply.status == 404 and "Mcp-Session-Id" in call.headers
        if reply.status in {401, 403} or gone or call.intent is SESSION_END:
            await self._shelf.invalidate(of_caller(credentials(call.headers)))

    async def _watched(self, watch: _Watch, pieces: Pieces) -> Pieces:
        """Invalidate before the piece with the answer goes on, or the end, or the error."""
        async with aclosing(pieces):
            try:
                async for piece in pieces:
                    if watch.stream.verdict is not None:
                        await self._drop_once(watch, unknown=watch.begun)
                    yield piece
            except ProxyError:
                await self._drop_once(watch, unknown=True)
                raise
        # a stream without a verdict of its own (a page, a download) ends with its last byte
        await self._drop_once(watch, unknown=watch.unknown)

    async def _drop_once(self, watch: _Watch, *, unknown: bool) -> None:
        if not watch.dropped:
            watch.dropped = True
            await self._drop(watch.call, unknown=unknown)

    def _ended(self, watch: _Watch) -> None:
        if not watch.dropped:
            self._spawn(self._drop(watch.call, unknown=True), "invalidate")

    async def _drop(self, call: Call, *, unknown: bool) -> None:
        quarantine = self._quarantine if unknown else 0.0
        entries = 0
        for pattern in call.intent.invalidates:
            entries += await self._shelf.invalidate(of_pattern(pattern), quarantine) or 0
        self._told(call, entries, unknown)


def ends_a_write(call: Call, reply: Reply) -> bool:
    """Tell whether an answer may show the end of what another call began: of a task."""
    if reply.status != 200 or not jsonrpc.may_show_end(call.message):
        return False
    answer = answer_in(reply, len(reply.body.data)) if isinstance(reply.body, Whole) else None
    return answer is None or not jsonrpc.goes_on(answer)
