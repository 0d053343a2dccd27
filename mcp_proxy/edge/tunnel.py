"""Relay WebSockets, frame by frame, until one side closes."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from mcp_proxy.core import headers as rules
from mcp_proxy.core.call import Call, Delivery, Reply, Upgrade, Whole
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import UpstreamBrokenError
from mcp_proxy.core.verdict import judge_status
from mcp_proxy.edge.failures import FAILURES, Presence, failed, noted
from mcp_proxy.edge.listening import Listening
from mcp_proxy.edge.outbound import Wire
from mcp_proxy.edge.pool import Pools
from mcp_proxy.edge.verbatim import sayable

# A larger message closes the connection with 1009; aiohttp's default of 4 MiB is small for data.
_MESSAGE_LIMIT = 16 << 20
_HANDSHAKE = (
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Accept",
)

_GOODBYE = 5.0  # seconds for a side to answer a close

Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Relay(Upgrade):
    """Two open ends of a WebSocket."""

    __slots__ = ("_changed", "_ended", "_spoken", "_upstream")

    def __init__(
        self,
        upstream: aiohttp.ClientWebSocketResponse,
        changed: Callable[[], Awaitable[None]],
        ended: Callable[[], None],
    ) -> None:
        self._upstream = upstream
        self._changed = changed
        self._ended = ended
        self._spoken = False  # the client has said something that may have changed answers

    async def run(
        self, request: web.BaseRequest, spawn: Spawn, listening: Listening
    ) -> web.WebSocketResponse:
        """Answer the client's handshake and pump both ways until one side closes."""
        chosen = self._upstream.protocol
        client = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            compress=False,
            timeout=_GOODBYE,
            max_msg_size=_MESSAGE_LIMIT,
            protocols=(chosen,) if chosen else (),
        )
        try:
            await client.prepare(request)
            upwards = spawn(self._pump(client, self._upstream), "websocket to server")
            try:
                async with listening.until_drained():
                    await self._pump(self._upstream, client)
                    await upwards  # it may be passing the client's goodbye on
            finally:
                upwards.cancel()
                await asyncio.gather(upwards, return_exceptions=True)
            await client.close(code=WSCloseCode.GOING_AWAY)  # unless it is closed
        finally:
            await self.aclose()
        return client

    async def _pump(self, source: Side, sink: Side) -> None:
        while True:
            message = await source.receive()
            if source is not self._upstream:
                self._spoken = True
            elif self._spoken:
                self._spoken = False
                await self._changed()
            if not await passed_on(message, source, sink):
                return

    async def aclose(self) -> None:
        """Let go of the server's end."""
        try:
            if self._spoken:
                await self._changed()
            await self._upstream.close(code=heard(self._upstream, WSCloseCode.GOING_AWAY))
        finally:
            self._ended()


async def passed_on(message: WSMessage, source: Side, sink: Side) -> bool:
    """Send one message on; False when it was the last."""
    match message.type:
        case WSMsgType.TEXT:
            await sink.send_str(message.data)
        case WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        case WSMsgType.PING:
            await sink.ping(message.data)
        case WSMsgType.PONG:
            await sink.pong(message.data)
        case WSMsgType.CLOSE:
            await say_goodbye(message, source, sink)
            return False
        case WSMsgType.CLOSING:  # the other pump is saying goodbye
            return False
        case _:  # cut without a goodbye
            await sink.close(code=heard(sink, WSCloseCode.GOING_AWAY))
            return False
    return True


async def say_goodbye(message: WSMessage, source: Side, sink: Side) -> None:
    """Close the sink as the source was closed, then the source as the sink answers to that."""
    code = message.data or WSCloseCode.OK
    await sink.close(code=code, message=(message.extra or "").encode())
    await source.close(code=heard(sink, code))


def heard(side: Side, otherwise: int) -> int:
    """Return the code with which a side was closed; aiohttp sets some that nobody has said."""
    code = side.close_code
    made_up = code in {None, WSCloseCode.OK, WSCloseCode.ABNORMAL_CLOSURE}
    return otherwise if code is None or made_up else code


class Tunnel:
    """Open the server's end first, so that its refusal is still an HTTP answer."""

    def __init__(
        self,
        wire: Wire,
        pools: Pools,
        clock: Clock,
        presence: Presence,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._wire = wire
        self._pools = pools
        self._clock = clock
        self._presence = presence
        self._changed = changed
        self._origin = URL(wire.address.origin)

    def adopt(self, wire: Wire) -> None:
        """Go on with other settings of the same server."""
        self._wire = wire

    async def __call__(self, call: Call) -> Reply:
        """Return a reply with both ends in its body, or the server's refusal."""
        self._pools.check(self._wire.streams_limit)
        started = self._clock.now()
        headers = rules.request_headers(
            call.headers,
            call.raw,
            via=f"1.1 {self._wire.pseudonym}",
            peer=call.peer,
            request_id=call.request_id,
            host=self._wire.host_for(call.peer),
            trace=call.trace,
        )
        offered = headers.get("Sec-WebSocket-Protocol", "")
        for name in (*_HANDSHAKE, "Content-Length"):  # it is 0, and a GET needs none
            headers.popall(name, None)
        try:
            upstream = await self._pools.streams.ws_connect(
                self._origin.with_path(self._wire.address.prefix + call.target, encoded=True),
                protocols=[name.strip() for name in offered.split(",") if name.strip()],
                headers=sayable(headers),
                autoping=False,
                autoclose=False,
                compress=0,
                max_msg_size=_MESSAGE_LIMIT,
                timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE),
            )
        except aiohttp.WSServerHandshakeError as refusal:
            kept = rules.end_to_end(CIMultiDict(refusal.headers or {}))
            if refusal.status < 200 or not rules.is_sound(*kept.values()):
                raise UpstreamBrokenError(
                    "The server's answer to a WebSocket handshake is none.",
                    delivered=Delivery.UNKNOWN,
                ) from None
            kept.popall("Content-Length", None)  # the refusal's body is lost with its exception
            verdict = judge_status(refusal.status, hinted=False)
            return Reply(refusal.status, kept, Whole(b""), verdict=verdict, attempts=1)
        except FAILURES as failure:
            raise noted(failed(failure), self._presence, started) from None
        self._presence.answered(started)
        self._pools.open_streams += 1
        relay = Relay(upstream, self._changed, self._pools.ended)
        return Reply(101, CIMultiDict(), relay, attempts=1)
