"""Spans for OpenTelemetry; its only importer, and itself imported only where traces are wanted."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from time import time_ns

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from mcp_proxy import __version__
from mcp_proxy.core.trace import RANDOM, SAMPLED, Trace, own

_NAME = "mcp-sidecar"
_SCOPE = InstrumentationScope("mcp_proxy", __version__)
_WELL, _FAILED = Status(), Status(StatusCode.ERROR)
_NOBODY = Context()


class Ours:
    """A span, begun; it becomes one of the SDK's when it is over."""

    __slots__ = ("_began", "_kind", "_name", "_parent", "_traces", "recording", "trace")

    def __init__(
        self, traces: "Traces", trace: Trace, parent: Trace | None, name: str, kind: SpanKind
    ) -> None:
        self._traces = traces
        self._parent = parent
        self._name = name
        self._kind = kind
        self._began = time_ns()
        self.trace = trace
        self.recording = trace.sampled

    def end(self, said: Mapping[str, str | int]) -> None:
        """End it; it has failed if it says an `error.type`."""
        parent, served = self._parent, self._kind is SpanKind.SERVER
        other = parent.other if parent is not None else None
        self._traces.ended(
            ReadableSpan(
                self._name,
                _context(self.trace, remote=False),
                _context(parent, remote=served) if parent is not None else None,
                self._traces.resource,
                said,
                links=[Link(_context(other, remote=True))] if other is not None else (),
                kind=self._kind,
                status=_FAILED if "error.type" in said else _WELL,
                start_time=self._began,
                end_time=time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )


class Traces:
    """Begin spans, and hand those that are sampled to a processor.

    Sampler and resource are those of the standard OTEL_* variables, which the SDK reads. Its own
    spans copy and check each attribute under a lock: 49 µs for one, against 8 for these, where a hit
    takes 60 in all. The client's tracestate is carried past the SDK, which would export it: it is
    others' to read.
    """

    def __init__(self, processor: SpanProcessor, sampler: Sampler | None = None) -> None:
        # the hook at exit would wait for half a minute
        provider = TracerProvider(sampler, Resource.create(), shutdown_on_exit=False)
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._processor = processor
        self.ended = processor.on_end
        self.resource = provider.resource
        if str(self.resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            self.resource = self.resource.merge(Resource({SERVICE_NAME: _NAME}))

    def serve(self, name: str, parent: Trace | None) -> Ours:
        """Begin the span of a call below what its client named, or a trace; the sampler decides."""
        if parent is None:
            number, context, flags = self._ids.generate_trace_id(), _NOBODY, 0
            trace_id = f"{number:032x}"
        else:
            trace_id, flags = parent.trace_id, parent.flags & RANDOM
            number, context = int(trace_id, 16), _within(parent)
        found = self._sampler.should_sample(context, number, name, SpanKind.SERVER)
        if found.decision is Decision.RECORD_AND_SAMPLE:
            flags |= SAMPLED
        return Ours(self, self._below(parent, trace_id, flags), parent, name, SpanKind.SERVER)

    def ask(self, name: str, parent: Trace) -> Ours:
        """Begin the span of a request to the server below that of its call, recorded as that is."""
        trace = self._below(parent, parent.trace_id, parent.flags)
        return Ours(self, trace, parent, name, SpanKind.CLIENT)

    def _below(self, parent: Trace | None, trace_id: str, flags: int) -> Trace:
        return own(trace_id, f"{self._ids.generate_span_id():016x}", flags, parent)

    async def aclose(self) -> None:
        """Send what is queued.

        In a thread of its own that nobody waits for at the end of the process: a collector that
        hangs is asked for as long as its timeout says.
        """
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def shut() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        Thread(target=shut, name="last spans", daemon=True).start()
        await sent.wait()


def over_otlp() -> Traces:
    """Return traces that go to where OTEL_EXPORTER_OTLP_* says, in batches, from a thread.

    Raises ValueError where a variable cannot be used.
    """
    return Traces(BatchSpanProcessor(OTLPSpanExporter()))


def _within(parent: Trace) -> Context:
    return set_span_in_context(NonRecordingSpan(_context(parent, remote=True)), _NOBODY)


def _context(trace: Trace, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16), int(trace.span_id, 16), remote, TraceFlags(trace.flags)
    )
