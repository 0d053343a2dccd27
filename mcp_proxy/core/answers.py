"""One answer for several callers: take it out of its envelope, and put it into another's.

MCP answers are never altered beyond the JSON-RPC id (DESIGN section 3). An answer that came as an
event stream is told on as JSON where the caller accepts that, because event ids belong to one
stream.
"""

from multidict import CIMultiDict

from mcp_proxy.core import freshness, jsonrpc, sse
from mcp_proxy.core.call import CacheNote, Call, Headers, Reply, Whole
from mcp_proxy.core.frame import Frame
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.headers import accepts, media_type
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.reading import read_answer

EVENT_STREAM = "text/event-stream"
JSON = "application/json"
# They speak of one exchange, one stream or one session, or are set anew for each answer.
_NOT_TOLD_ON = frozenset(
    {
        "age",
        "cache-status",
        "connection",
        "content-length",
        "mcp-session-id",
        "ratelimit",
        "ratelimit-policy",
        "server-timing",
        "x-request-id",
    }
)
_OF_A_STREAM = frozenset({"cache-control", "content-type", "x-accel-buffering"})


def answer_in(reply: Reply, limit: int) -> bytes | None:
    """Return the one JSON text in a whole reply, or None when there is not exactly one."""
    if not isinstance(reply.body, Whole):
        return None
    if media_type(reply.headers) != EVENT_STREAM:
        return reply.body.data
    events = [event for event in sse.Splitter(limit).feed(reply.body.data) if event.data]
    return events[0].data if len(events) == 1 else None


def framed(call: Call, reply: Reply, answer: bytes, *, stored: float, terms: Terms) -> Frame | None:
    """Return the answer as it is kept, or None when its id cannot be told from the rest."""
    span = None
    if call.message.dialect is Dialect.RPC:
        span = jsonrpc.id_span(answer)
        if span is None or answer[slice(*span)] != jsonrpc.token(call.message.id):
            return None
    return Frame(told_on(reply.headers), answer, stored, terms, span)


def told_on(headers: Headers) -> CIMultiDict[str]:
    """Return the headers that hold for whoever gets the answer."""
    dropped = _NOT_TOLD_ON
    streamed = media_type(headers) == EVENT_STREAM
    if streamed:
        dropped |= _OF_A_STREAM
    kept = CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )
    if streamed:
        kept["Content-Type"] = JSON
    return kept


def for_everybody(frame: Frame) -> Frame:
    """Return a frame without what the server's headers may say to the one who asked.

    That an answer is public is said of the result, not of what stands around it: a renewed token,
    a name, the Origin that may read it.
    """
    kept = CIMultiDict({"Content-Type": frame.headers.get("Content-Type", JSON)})
    return frame._replace(headers=kept)


def told(frame: Frame, call: Call, note: CacheNote | None = None) -> Reply:
    """Return a kept answer in the words of this caller: its id, its media type."""
    if call.message.dialect is not Dialect.RPC:
        return Reply(200, frame.headers, Whole(frame.body), cache=note, lines=frame.lines)
    body = frame.body_for(jsonrpc.token(call.message.id))
    if accepts(call.headers, JSON) or not accepts(call.headers, EVENT_STREAM):
        return Reply(200, frame.headers, Whole(body), cache=note, lines=frame.lines)
    headers = CIMultiDict(frame.headers)
    headers["Content-Type"] = EVENT_STREAM
    return Reply(200, headers, Whole(sse.event(body)), cache=note)


def retold(reply: Reply, asked: Call, call: Call, limit: int) -> Reply | None:
    """Return the reply to `asked` as the reply to the identical `call`; None if it cannot be.

    What may not be kept may not be shared either (DESIGN section 4): a cookie or a question belongs
    to the one who asked. A doubled key is refused because one of two ids would stay.
    """
    if not freshness.may_store(asked, reply):
        return None
    text = answer_in(reply, limit)
    answer = None if text is None else read_answer(text)
    if text is None or answer is None or not freshness.is_complete(asked, answer):
        return None
    frame = framed(asked, reply, text, stored=0.0, terms=freshness.Terms())
    if frame is None:
        return None
    own = told(frame, call)
    return reply._replace(headers=own.headers, body=own.body)
