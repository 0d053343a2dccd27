"""Tell how each call ended."""

from typing import Protocol

from mcp_proxy.core import capture
from mcp_proxy.core.call import Call, Reply, Stream
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward


class Counts(Protocol):
    """Where outcomes are counted (signals/metrics)."""

    def began(self) -> None:
        """Count a call that is under way."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """Count how it ended."""
        ...


class Observe:
    """See every call, refusals and departures too: count it, and report each tool call once."""

    def __init__(
        self,
        counts: Counts,
        clock: Clock,
        emit: Emit,
        upstream: str = "",
        captured: capture.Captured = capture.nothing,
    ) -> None:
        self._upstream = upstream  # of calls that tell no other
        self._counts = counts
        self._clock = clock
        self._emit = emit
        self._captured = captured  # what a tool call's event tells of its arguments

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on and report the end: of the body, if that is a stream."""
        self._counts.began()
        try:
            reply = await forward(call)
        except BaseException:
            self._report(call, None, Verdict.LEFT)
            raise
        body = reply.body
        if isinstance(body, Stream):
            body.on_end(lambda: self._ended(call, reply, body))
        else:
            self._report(call, reply, reply.verdict)
        return reply

    def _ended(self, call: Call, reply: Reply, stream: Stream) -> None:
        if stream.error_code is not None:
            reply = reply._replace(error_code=stream.error_code)
        self._report(call, reply, stream.verdict or Verdict.LEFT)

    def _report(self, call: Call, reply: Reply | None, verdict: Verdict) -> None:
        message = call.message
        outcome = Outcome(
            message.service,
            message.named,
            verdict,
            self._clock.now() - call.arrived,
            reply.attempts if reply else 0,
            cache_part(reply),
            reply.error_code if reply else None,
            call.trace.trace_id if call.trace and call.trace.sampled else "",
        )
        self._counts.ended(outcome)
        if not message.tool:
            return
        self._emit(
            "tool.call.completed",
            "info" if verdict is Verdict.OK or verdict is Verdict.LEFT else "warning",
            **call.ids,
            service=message.service,
            tool=message.tool,
            dialect=message.dialect,
            verdict=verdict,
            status=reply.status if reply else None,
            code=outcome.code,
            cache=outcome.cache,
            attempts=outcome.attempts,
            upstream=call.tried[-1] if call.tried else self._upstream,
            duration_ms=round(outcome.seconds * 1000, 3),
            **self._captured(message),
        )


def cache_part(reply: Reply | None) -> str:
    """Return in one word how the cache took part in a reply."""
    note = reply.cache if reply else None
    if note is None:
        return "bypass"
    if note.hit:
        return "stale" if note.stale else "hit"
    if note.collapsed:
        return "collapsed"
    # RFC 9211 calls it stale too that what was asked for anew had been over; nothing old was told
    return "expired" if note.forwarded == "stale" else note.forwarded
