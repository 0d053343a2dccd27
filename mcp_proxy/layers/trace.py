"""Tell calls and tries as spans: two layers, the outermost and the innermost."""

from collections.abc import Callable
from typing import Protocol

from mcp_proxy.core import spans as names
from mcp_proxy.core.call import Call, Reply, Stream
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.spans import Attributes
from mcp_proxy.core.trace import Trace
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.observe import cache_part


class Span(Protocol):
    """Something that takes time, and is told of when it is over."""

    @property
    def trace(self) -> Trace:
        """Return its place in the trace."""
        ...

    @property
    def recording(self) -> bool:
        """Tell whether anybody will see it."""
        ...

    def end(self, said: Attributes) -> None:
        """End it, once; it has failed if it says an `error.type`."""
        ...


class Spans(Protocol):
    """Where spans come from (signals/traces)."""

    def serve(self, name: str, parent: Trace | None) -> Span:
        """Begin the span of a call that we serve; here is decided whether its trace is recorded."""
        ...

    def ask(self, name: str, parent: Trace) -> Span:
        """Begin the span of a request to the server, for a call that is recorded."""
        ...

    async def aclose(self) -> None:
        """Send what is still here."""
        ...


class TraceCall:
    """Tell each call as a span: hits, refusals and departures too."""

    def __init__(self, spans: Spans, *, session_ids: bool = False) -> None:
        self._spans = spans
        self._session_ids = session_ids

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on in the span; it ends with the body."""
        span = self._spans.serve(names.name_of(call), call.trace)
        # what `_replace` does, in a quarter of the time: `trace` and `known` are the last fields
        traced = Call(*call[:-2], span.trace, call.known)
        if not span.recording:
            return await forward(traced)

        def told(reply: Reply, verdict: Verdict) -> Attributes:
            return {**self._of(call), **served(call, reply, verdict)}

        try:
            reply = await forward(traced)
        except BaseException:
            span.end({**self._of(call), **left()})
            raise
        at_end(reply, span, told)
        return reply

    def _of(self, call: Call) -> Attributes:
        return names.of_call(call, session_ids=self._session_ids)


class TraceTry:
    """Tell each request to the server as a span, and the server of which span it is a child.

    The tries of a call that is not recorded are not: its own place in the trace is passed on.
    """

    def __init__(
        self, spans: Spans, server: Attributes, circuits: Callable[[Call], str] | None
    ) -> None:
        self._spans = spans
        self._server = server
        self._circuits = circuits  # how those of a call stand

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on in the span; it ends with the body."""
        trace = call.trace
        if trace is None or not trace.sampled:
            return await forward(call)
        span = self._spans.ask(names.name_of(call), trace)
        # now: what comes of the try may change them
        said = names.of_try(call, self._server, self._circuits(call) if self._circuits else "")

        def told(reply: Reply, verdict: Verdict) -> Attributes:
            return {**said, **names.of_end(call, reply, verdict)}

        try:
            reply = await forward(call._replace(trace=span.trace))
        except ProxyError as error:
            span.end({**said, "error.type": error.code})
            raise
        except BaseException:
            span.end({**said, **left()})
            raise
        at_end(reply, span, told)
        return reply


def at_end(reply: Reply, span: Span, told: Callable[[Reply, Verdict], Attributes]) -> None:
    """End a span with the body of a reply."""
    body = reply.body
    if isinstance(body, Stream):
        body.on_end(lambda: span.end(told(reply, body.verdict or Verdict.LEFT)))
    else:
        span.end(told(reply, reply.verdict))


def served(call: Call, reply: Reply, verdict: Verdict) -> Attributes:
    """Return what came of a call, as whoever serves it sees that."""
    said = names.of_end(call, reply, verdict)
    said["mcpp.cache.result"] = cache_part(reply)
    if verdict is Verdict.CLIENT_FAULT and not reply.error_code:
        # the server did its work (HTTP conventions: a 4xx is no error of a server's span)
        said.pop("error.type", None)
    return said


def left() -> Attributes:
    """Return what there is to say where the caller has gone, or did not need the answer."""
    return {"mcpp.verdict": Verdict.LEFT.value}
