"""Spans of the SDK: what becomes of a name, a parent and an end."""

import asyncio

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is not installed")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from mcp_proxy.core.trace import Trace
from mcp_proxy.signals.traces import Traces
from tests.fakes import within

A, B = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
PARENT = Trace(A, "00f067aa0ba902b7", 3, state="a=s3cret", baggage="user=s3cret")
OTHER = Trace(B, "b7ad6b7169203331", 0)


class Bench:
    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = Traces(SimpleSpanProcessor(self.exporter), ParentBased(sampler))


def test_a_call_is_served_below_its_parent() -> None:
    bench = Bench()
    ours = bench.traces.serve("tools/call look", PARENT)
    assert (ours.trace.trace_id, ours.trace.sampled, ours.recording) == (A, True, True)
    assert ours.trace.span_id != PARENT.span_id
    assert ours.trace.flags == 3, "whether its id is random is the parent's to say (level 2)"
    ours.end({"gen_ai.tool.name": "look", "mcpp.verdict": "ok"})
    [span] = bench.exporter.get_finished_spans()
    assert (span.name, span.kind) == ("tools/call look", SpanKind.SERVER)
    assert span.attributes == {"gen_ai.tool.name": "look", "mcpp.verdict": "ok"}
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is not None
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (PARENT.span_id, True)
    assert span.context is not None
    assert f"{span.context.span_id:016x}" == ours.trace.span_id
    assert ours.trace.headers()["tracestate"] == "a=s3cret"
    assert "s3cret" not in span.to_json(), "others' notes are passed on, and not told"


def test_a_try_is_asked_below_its_call() -> None:
    bench = Bench()
    served = bench.traces.serve("tools/list", None)
    tried = bench.traces.ask("tools/list", served.trace)
    tried.end({"error.type": "upstream_timeout"})
    served.end({})
    asked, call = bench.exporter.get_finished_spans()
    assert (asked.kind, call.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert asked.parent is not None
    assert call.context is not None
    assert (asked.parent.span_id, asked.parent.is_remote) == (call.context.span_id, False)
    assert asked.status.status_code is StatusCode.ERROR
    assert asked.status.description is None, "no texts of errors"
    assert call.parent is None


def test_another_trace_is_a_link() -> None:
    bench = Bench()
    ours = bench.traces.serve("tools/list", PARENT._replace(other=OTHER))
    # one link is enough
    bench.traces.ask("tools/list", ours.trace).end({})
    ours.end({})
    asked, call = bench.exporter.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in call.links] == [B]
    assert asked.links == ()


@pytest.mark.parametrize(
    ("parent", "sampler", "sampled"),
    [
        (PARENT, ALWAYS_OFF, True),
        (PARENT._replace(flags=0), ALWAYS_ON, False),
        (None, ALWAYS_ON, True),
        (None, ALWAYS_OFF, False),
    ],
)
def test_who_began_a_trace_decides_whether_it_is_recorded(
    parent: Trace | None, sampler: Sampler, *, sampled: bool
) -> None:
    """The SDK's own default, parent-based; the server hears of the decision."""
    bench = Bench(sampler)
    ours = bench.traces.serve("tools/list", parent)
    tried = bench.traces.ask("tools/list", ours.trace)
    for one in (tried, ours):
        assert (one.trace.sampled, one.recording) == (sampled, sampled)


async def test_spans_are_sent_before_the_end() -> None:
    bench = Bench()
    await within(bench.traces.aclose())
    bench.traces.serve("tools/list", None).end({})


async def test_nobody_waits_for_an_exporter_whose_time_is_over() -> None:
    """The thread that still sends finds the loop closed, and ends in silence."""

    class Slow(SimpleSpanProcessor):
        def shutdown(self) -> None:
            released.wait(5)
            done.set()

    import threading

    released, done = threading.Event(), threading.Event()
    traces = Traces(Slow(InMemorySpanExporter()), ALWAYS_ON)

    async def ends() -> None:
        with pytest.raises(TimeoutError):
            await within(traces.aclose(), 0.01)

    await asyncio.to_thread(asyncio.run, ends())
    released.set()
    assert await asyncio.to_thread(done.wait, 5)
