"""Calls and tries as spans: each begun once, and ended once."""

import asyncio

import pytest

from mcp_proxy.core.call import CacheNote, Call, Reply, Stream
from mcp_proxy.core.errors import ProxyError, UpstreamTimeoutError
from mcp_proxy.core.message import Message
from mcp_proxy.core.spans import Attributes
from mcp_proxy.core.trace import Trace, own
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Layer, join
from mcp_proxy.layers.rescue import Rescue, Style
from mcp_proxy.layers.trace import TraceCall, TraceTry
from tests.fakes import (
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    read,
    reply,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

PARENT = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1, state="a=1")
SERVER: Attributes = {"server.address": "localhost", "server.port": 9000}


class FakeSpan:
    def __init__(self, name: str, trace: Trace, *, recording: bool) -> None:
        self.name = name
        self.said: Attributes = {}
        self.trace = trace
        self.recording = recording
        self.ended = 0

    def end(self, said: Attributes) -> None:
        self.ended += 1
        self.said |= said


class FakeSpans:
    """Numbers its spans."""

    def __init__(self, *, recording: bool = True) -> None:
        self.begun: list[FakeSpan] = []
        self.asking: list[bool] = []
        self.parents: list[Trace | None] = []
        self._recording = recording

    def serve(self, name: str, parent: Trace | None) -> FakeSpan:
        return self._begin(name, parent, asks=False)

    def ask(self, name: str, parent: Trace) -> FakeSpan:
        return self._begin(name, parent, asks=True)

    def _begin(self, name: str, parent: Trace | None, *, asks: bool) -> FakeSpan:
        trace_id = parent.trace_id if parent else "0" * 31 + "1"
        trace = own(trace_id, f"{len(self.begun) + 1:016x}", int(self._recording), parent)
        self.begun.append(FakeSpan(name, trace, recording=self._recording))
        self.asking.append(asks)
        self.parents.append(parent)
        return self.begun[-1]

    async def aclose(self) -> None: ...

    @property
    def only(self) -> FakeSpan:
        [span] = self.begun
        return span


async def ask(
    origin: object, *layers: Layer, message: Message | None = None, trace: Trace | None = PARENT
) -> tuple[Reply, list[Call]]:
    script = Script(origin)
    asked = call(WRITE, message or tool())._replace(trace=trace, known=None)
    return await within(join(layers, script)(asked)), script.calls


def rescue() -> Rescue:
    return Rescue(Style(), FakeClock(), Told())


# --- calls


@pytest.mark.parametrize("parent", [PARENT, None])
async def test_a_call_goes_on_in_its_span(parent: Trace | None) -> None:
    spans = FakeSpans()
    answer = reply()._replace(cache=CacheNote(hit=True))
    _, [asked] = await ask(answer, TraceCall(spans), trace=parent)
    span = spans.only
    assert (spans.asking, spans.parents) == ([False], [parent])
    assert asked == call(WRITE, tool())._replace(trace=span.trace, headers=asked.headers)
    assert (span.name, span.ended) == ("tools/call look", 1)
    assert span.said["mcpp.cache.result"] == "hit"
    assert span.said["mcpp.verdict"] == "ok"


async def test_session_ids_are_told_where_that_is_allowed() -> None:
    for allowed in (False, True):
        spans = FakeSpans()
        layer = TraceCall(spans, session_ids=allowed)
        asked = call(WRITE, tool(), headers={"Mcp-Session-Id": "abc"})
        await within(join([layer], Script(reply()))(asked))
        assert ("mcp.session.id" in spans.only.said) == allowed


async def test_a_refusal_has_failed() -> None:
    spans = FakeSpans()
    await ask(error_of(UpstreamTimeoutError), TraceCall(spans), rescue())
    assert spans.only.said["error.type"] == "upstream_timeout"


async def test_a_clients_fault_is_no_error_of_the_span_that_serves_it() -> None:
    """HTTP conventions: of the one that asks, it is."""
    served, tried = FakeSpans(), FakeSpans()
    answer = reply(404, verdict=Verdict.CLIENT_FAULT)
    await ask(answer, TraceCall(served), TraceTry(tried, SERVER, None))
    assert "error.type" not in served.only.said
    assert served.only.said["http.response.status_code"] == 404
    assert tried.only.said["error.type"] == "404"
    spans = FakeSpans()
    await ask(answer._replace(error_code="rate_limited"), TraceCall(spans))
    assert spans.only.said["error.type"] == "rate_limited"


@pytest.mark.parametrize("tries", [False, True])
async def test_a_departure_ends_the_span(*, tries: bool) -> None:
    spans = FakeSpans()
    layer = TraceTry(spans, SERVER, None) if tries else TraceCall(spans)
    task = spawn(ask(lambda _: asyncio.Event().wait(), layer), "call")
    await settle()
    assert spans.only.ended == 0
    task.cancel()
    await settle()
    assert spans.only.ended == 1
    assert spans.only.said["mcpp.verdict"] == "left"
    assert "error.type" not in spans.only.said


# --- tries


async def test_the_server_hears_of_the_try() -> None:
    spans = FakeSpans()
    _, [asked] = await ask(reply(), TraceCall(spans), TraceTry(spans, SERVER, lambda _: "closed"))
    served, tried = spans.begun
    assert spans.asking == [False, True]
    assert spans.parents == [PARENT, served.trace]
    assert asked.trace == tried.trace
    assert asked.trace.headers() == {
        "traceparent": f"00-{PARENT.trace_id}-{tried.trace.span_id}-01",
        "tracestate": "a=1",
    }
    assert tried.said["mcpp.breaker.state"] == "closed"
    assert tried.said["mcpp.retry.attempt"] == 1
    assert tried.said["server.address"] == "localhost"
    assert [span.ended for span in spans.begun] == [1, 1]


async def test_a_try_that_fails_has_failed() -> None:
    spans = FakeSpans()
    with pytest.raises(ProxyError):
        await ask(error_of(UpstreamTimeoutError), TraceTry(spans, SERVER, None))
    assert (spans.only.said["error.type"], spans.only.ended) == ("upstream_timeout", 1)


# --- streams


async def test_a_span_ends_with_the_body() -> None:
    spans, feed = FakeSpans(), Feed()
    answer, _ = await ask(streamed(feed), TraceCall(spans), rescue(), TraceTry(spans, SERVER, None))
    feed.give(b"answer", verdict=Verdict.TOOL_FAILED)
    feed.end()
    assert [span.ended for span in spans.begun] == [0, 0]
    assert await within(read(answer)) == b"answer"
    assert [span.ended for span in spans.begun] == [1, 1]
    assert [span.said["error.type"] for span in spans.begun] == ["tool_error", "tool_error"]
    assert isinstance(answer.body, Stream)
    await answer.body.aclose()
    assert [span.ended for span in spans.begun] == [1, 1], "exactly once"


async def test_a_stream_that_is_left_alone_is_a_departure() -> None:
    spans, feed = FakeSpans(), Feed()
    answer, _ = await ask(streamed(feed), TraceCall(spans))
    assert isinstance(answer.body, Stream)
    await answer.body.aclose()
    assert spans.only.said["mcpp.verdict"] == "left"


async def test_a_call_that_is_not_recorded_is_not_told_of() -> None:
    """Its context goes upstream all the same, so that the server does not record either."""
    spans = FakeSpans(recording=False)
    _, [asked] = await ask(reply(), TraceCall(spans), TraceTry(spans, SERVER, None))
    assert asked.trace == spans.only.trace, "and its tries have no place of their own"
    assert spans.asking == [False]
    assert spans.only.ended == 0
