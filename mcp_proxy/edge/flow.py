"""Send a streamed body on to the client, piece by piece as it comes."""

from contextlib import nullcontext

from aiohttp import web

from mcp_proxy.core.call import Stream
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.edge.answer import Answer
from mcp_proxy.edge.heartbeat import Heartbeat
from mcp_proxy.edge.listening import Visit


async def write_stream(
    request: web.BaseRequest,
    answer: Answer,
    stream: Stream,
    heartbeat: Heartbeat | None,
    visit: Visit | None,
) -> None:
    """Send a body; the client's pace is the server's, since nothing is read ahead.

    `heartbeat` is of event streams only: comments keep them open while they are quiet. `visit` is
    of streams that have no end of their own: they end, with a whole event, in the drain.
    """
    try:
        await answer.prepare(request)
        with heartbeat.on(answer) if heartbeat else nullcontext() as pulse:
            async with visit.of(pulse) if visit else nullcontext():
                async for piece in stream:
                    if pulse is not None:
                        pulse.sent(piece)
                    if visit is not None:
                        visit.sent(piece)
                    await answer.write(piece)
                    if visit is not None and visit.over:
                        break
    except ProxyError:
        raise cut(request) from None
    finally:
        await stream.aclose()


def cut(request: web.BaseRequest) -> ConnectionResetError:
    """Break the connection off: the head is out, and a clean end would make a cut body look whole."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()
