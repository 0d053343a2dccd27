"""Send a streamed body on to the client, piece by piece as it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from aiohttp import web

from mcp_proxy.core.call import Stream
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.heartbeat import Heartbeat, Pulse
from mcp_proxy.edge.listening import Listening


async def write_stream(
    request: web.BaseRequest,
    answer: Answer,
    stream: Stream,
    heartbeat: Heartbeat | None,
    listening: Listening | None,
) -> None:
    """Send a body; the client's pace is the server's, since nothing is read ahead.

    `heartbeat` is of event streams only: comments keep them open while they are quiet. `listening`
    is of streams that have no end of their own: they end, with a whole event, when it is over.
    """
    try:
        await answer.prepare(request)
        with heartbeat.on(answer) if heartbeat else nullcontext() as pulse:
            async with _until_drained(listening, pulse):
                async for piece in stream:
                    if pulse is not None:
                        pulse.sent(piece)
                    await answer.write(piece)
                    if listening is not None and listening.over and _between_events(pulse):
                        break
    except ProxyError:
        raise cut(request) from None
    finally:
        await stream.aclose()


@asynccontextmanager
async def _until_drained(listening: Listening | None, pulse: Pulse | None) -> AsyncIterator[None]:
    if listening is None:
        yield
        return
    async with listening.until_drained(lambda: _between_events(pulse)):
        yield


def _between_events(pulse: Pulse | None) -> bool:
    return pulse is None or pulse.between_events


def cut(request: web.BaseRequest) -> ConnectionResetError:
    """Break the connection off: the head is out, and a clean end would make a cut body look whole."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()
