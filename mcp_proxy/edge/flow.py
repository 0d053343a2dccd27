"""Send a streamed body on to the client, piece by piece as it comes."""

from contextlib import nullcontext

from aiohttp import web

from mcp_proxy.core.call import Stream
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.heartbeat import Heartbeat


async def write_stream(
    request: web.BaseRequest, answer: Answer, stream: Stream, heartbeat: Heartbeat | None
) -> None:
    """Send a body; the client's pace is the server's, since nothing is read ahead.

    `heartbeat` is of event streams only: comments keep them open while they are quiet.
    """
    try:
        await answer.prepare(request)
        with heartbeat.on(answer) if heartbeat else nullcontext() as pulse:
            async for piece in stream:
                if pulse is not None:
                    pulse.sent(piece)
                await answer.write(piece)
    except ProxyError:
        raise cut(request) from None
    finally:
        await stream.aclose()


def cut(request: web.BaseRequest) -> ConnectionResetError:
    """Break the connection off: the head is out, and a clean end would make a cut body look whole."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()
