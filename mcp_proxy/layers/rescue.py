"""Turn our errors into answers of the caller's dialect: one table, one place (DESIGN section 5)."""

from dataclasses import dataclass

import orjson
from multidict import CIMultiDict

from mcp_proxy.core import errors, jsonrpc, rest, sse
from mcp_proxy.core.answers import EVENT_STREAM
from mcp_proxy.core.call import Call, Delivery, Pieces, Reply, Stream, Whole
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.errors import InternalError, ProxyError
from mcp_proxy.core.headers import media_type
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Style:
    """How callers want to be told."""

    tool_result: bool = True  # a failed tools/call is a result with isError, not an error
    always_200: bool = False  # REST: the basic server's habit


class Rescue:
    """Answer instead of failing: a caller always gets a structured answer, never a traceback."""

    def __init__(self, style: Style, clock: Clock, emit: Emit) -> None:
        self._style = style
        self._clock = clock
        self._emit = emit

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; answer for whatever is raised."""
        try:
            reply = await forward(call)
        except ProxyError as error:
            return self.answer(call, errors.without_frames(error))
        except Exception as mistake:  # noqa: BLE001 - the last net under every caller
            return self.answer(call, self._reported(call, mistake))
        body = reply.body
        if isinstance(body, Stream):
            body.wrap(lambda pieces: self._to_the_end(call, reply, body, pieces))
        return reply

    def _reported(self, call: Call, mistake: Exception) -> ProxyError:
        self._emit(
            "proxy.failed",
            "error",
            **call.ids,
            method=call.message.method,
            tool=call.message.tool,
            exception=mistake,
        )
        return InternalError("The sidecar made a mistake.", delivered=Delivery.UNKNOWN)

    def answer(self, call: Call, error: ProxyError) -> Reply:
        """Return the answer that the caller of `call` understands."""
        repeatable = call.intent.repeatable
        wait = errors.retry_after(error, repeatable=repeatable)
        details = errors.details(error, repeatable=repeatable, request_id=call.request_id)
        status, kind, body = self._shaped(call, error, details)
        headers = CIMultiDict({"Content-Type": kind, "Cache-Control": "no-store", **error.headers})
        if wait is not None:
            headers["Retry-After"] = str(errors.whole_seconds(wait))
        return Reply(
            status,
            headers,
            Whole(body),
            verdict=Verdict.CLIENT_FAULT if error.status < 500 else Verdict.UPSTREAM_FAILED,
            attempts=error.attempts,
            cache=error.cache,
            error_code=error.code,
        )

    def _shaped(
        self, call: Call, error: ProxyError, details: dict[str, object]
    ) -> tuple[int, str, bytes]:
        message = call.message
        if error.asked is not None:  # the stream on which its caller waits
            asked = call._replace(message=error.asked)
            return 200, EVENT_STREAM, sse.event(self._rpc(asked, error, details))
        if message.dialect is Dialect.RPC and message.id is not None:
            if message.method == "server/discover":
                # anything but a 503 would read as "this is an old server" (SDK 2.3, mode auto)
                return 503, PROBLEM, problem(error, details, 503)
            return 200, JSON, self._rpc(call, error, details)
        if message.dialect is Dialect.REST:
            text = errors.advice(error, repeatable=call.intent.repeatable)
            stamp = self._clock.wall().isoformat()
            status = 200 if self._style.always_200 else error.status
            return status, JSON, rest.error_body(text, stamp, details)
        return error.status, PROBLEM, problem(error, details)

    def _rpc(self, call: Call, error: ProxyError, details: dict[str, object]) -> bytes:
        text = errors.advice(error, repeatable=call.intent.repeatable)
        if call.message.tool and self._style.tool_result:
            return jsonrpc.error_result(call.message, text, details)
        return jsonrpc.error_response(call.message.id, error.status, text, details)

    async def _to_the_end(self, call: Call, reply: Reply, stream: Stream, pieces: Pieces) -> Pieces:
        """Give an event stream that is cut without its answer one final message.

        Not when it gave event ids: then the client comes back with Last-Event-ID. Anything else
        that is cut stays cut: the edge aborts the connection, so that it cannot look whole.
        What held no answer is judged by its end: failed when it was cut, else by its status.
        """
        tail = sse.Tail()
        try:
            try:
                async for piece in pieces:
                    tail.saw(piece)
                    yield piece
            except ProxyError as error:
                lost = call.message.id is not None and stream.verdict is None
                if not lost or media_type(reply.headers) != "text/event-stream":
                    stream.verdict = stream.verdict or Verdict.UPSTREAM_FAILED
                    raise
                if stream.event_id:
                    return
                stream.verdict = Verdict.UPSTREAM_FAILED
                stream.error_code = error.code
                error.attempts = reply.attempts  # no layer counts once the head is out
                details = errors.details(
                    error, repeatable=call.intent.repeatable, request_id=call.request_id
                )
                # the cut may have come in the middle of an event
                half = b"" if tail.between_events else sse.VOID
                yield half + sse.event(self._rpc(call, error, details))
            else:
                stream.verdict = stream.verdict or reply.verdict
        finally:
            await pieces.aclose()


def problem(error: ProxyError, details: dict[str, object], status: int | None = None) -> bytes:
    """Return an `application/problem+json` text (RFC 9457) with the failure object in it.

    `status` is that of the answer, where it is not the error's own (section 3.1.2: the same).
    """
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": error.code.replace("_", " "),
            "status": status or error.status,
            "detail": error.message,
            **details,
        }
    )
