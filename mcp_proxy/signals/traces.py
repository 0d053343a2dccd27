"""Spans for OpenTelemetry; its only importer, and itself imported only where traces are wanted."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from mcp_proxy import __version__
from mcp_proxy.core.trace import Trace, own

_NAME = "mcp-sidecar"
_FAILED = Status(StatusCode.ERROR)
_NOBODY = Context()


class Ours:
    """A span of the SDK."""

    __slots__ = ("_span", "recording", "trace")

    def __init__(self, span: Span, parent: Trace | None) -> None:
        self._span = span
        self.recording = span.is_recording()
        context = span.get_span_context()
        self.trace = own(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags, parent
        )

    def end(self, said: Mapping[str, str | int]) -> None:
        """End it; it has failed if it says an `error.type`."""
        if self.recording:
            self._span.set_attributes(said)
            if "error.type" in said:
                self._span.set_status(_FAILED)
        self._span.end()


class Traces:
    """Begin spans, and hand those that are sampled to a processor.

    Sampler, resource and limits are those of the standard OTEL_* variables, which the SDK reads. The
    client's tracestate is carried past the SDK, which would export it: it is others' to read.
    """

    def __init__(self, processor: SpanProcessor, sampler: Sampler | None = None) -> None:
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _NAME}))
        # its own hook at exit would wait for half a minute
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mcp_proxy", __version__)

    def begin(
        self, name: str, said: Mapping[str, str | int], parent: Trace | None, *, asks: bool = False
    ) -> Ours:
        """Begin a span below `parent`, or a trace."""
        other = parent.other if parent is not None else None
        span = self._tracer.start_span(
            name,
            _within(parent, remote=not asks) if parent is not None else _NOBODY,
            SpanKind.CLIENT if asks else SpanKind.SERVER,
            said,
            [Link(_context(other, remote=True))] if other is not None else None,
        )
        return Ours(span, parent)

    async def aclose(self) -> None:
        """Send what is queued.

        In a thread of its own that nobody waits for at the end of the process: a collector that
        hangs is asked for as long as its timeout says.
        """
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def shut() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        Thread(target=shut, name="last spans", daemon=True).start()
        await sent.wait()


def over_otlp() -> Traces:
    """Return traces that go to where OTEL_EXPORTER_OTLP_* says, in batches, from a thread.

    Raises ValueError where a variable cannot be used.
    """
    return Traces(BatchSpanProcessor(OTLPSpanExporter()))


def _within(parent: Trace, *, remote: bool) -> Context:
    return set_span_in_context(NonRecordingSpan(_context(parent, remote=remote)), _NOBODY)


def _context(trace: Trace, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16), int(trace.span_id, 16), remote, TraceFlags(trace.flags)
    )
