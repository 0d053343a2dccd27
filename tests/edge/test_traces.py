"""Traces through a real sidecar: what goes upstream, what is told, and what is not."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.edge.collector import Collector, values
from tests.edge.conftest import Opened
from tests.edge.wire import (
    Client,
    Exchange,
    Front,
    Said,
    Upstream,
    answer,
    chunk,
    chunked,
    get,
    post,
    request,
    result,
    rpc,
    sidecar,
    streamed,
    tool,
    unused_port,
)

pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is not installed")

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind

from mcp_proxy.signals.traces import Traces

A, B = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
IN_A, IN_B = f"00-{A}-00f067aa0ba902b7-01", f"00-{B}-b7ad6b7169203331-01"
ANSWER = answer(result(content=[], isError=False))
LOOK = {"service": "jira", "tool_name": "look", "params": {"key": "OPS-1"}}
DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "2026-01-01T00:00:00"}'


class Seen:
    """A sidecar that traces, and its spans."""

    def __init__(self, front: Front, exporter: InMemorySpanExporter) -> None:
        self.front = front
        self._exporter = exporter

    async def ask(self, raw: bytes) -> Said:
        return await self.front.ask(raw)

    def spans(self, kind: SpanKind = SpanKind.SERVER) -> list[ReadableSpan]:
        found = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in found if span.kind is kind]

    @property
    def served(self) -> ReadableSpan:
        [span] = self.spans()
        return span

    @property
    def tried(self) -> list[ReadableSpan]:
        return self.spans(SpanKind.CLIENT)


@asynccontextmanager
async def seen(url: str, sampler: Any = ALWAYS_ON, **settings: Any) -> AsyncIterator[Seen]:
    exporter = InMemorySpanExporter()
    spans = Traces(SimpleSpanProcessor(exporter), ParentBased(sampler))
    async with sidecar(url, None, spans, **settings) as front:
        yield Seen(front, exporter)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "rules.toml").write_text("[tools.look]\nread_only = true\n")
    return str(tmp_path / "rules.toml")


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}-{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str | None:
    return f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" if span.parent else None


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- tracing is off


async def test_trace_headers_pass_as_they_came(front: Opened, upstream: Upstream) -> None:
    """Protocol section 9: also where nobody traces here."""
    upstream.plays(ANSWER)
    opened = await front()
    headers = [("traceparent", IN_B), ("tracestate", "b=2"), ("baggage", "x=1")]
    in_body = rpc("tools/call", name="look", _meta={"traceparent": IN_A, "tracestate": "a=1"})
    await opened.ask(post("/mcp", in_body, *[f"{name}: {value}" for name, value in headers]))
    [asked] = upstream.asked
    assert [field for field in asked.headers if field[0] in dict(headers)] == headers
    assert asked.json == in_body
    [event] = [one for one in opened.told() if one["event"] == "tool.call.completed"]
    assert event["trace_id"] == A
    assert list(event)[:5] == ["timestamp", "level", "event", "request_id", "trace_id"]


async def test_what_only_the_message_says_is_added_as_headers(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(ANSWER)
    meta = {"traceparent": IN_A, "tracestate": "a=1", "baggage": "user=7"}
    in_body = rpc("tools/call", name="look", _meta=meta)
    await (await front()).ask(post("/mcp", in_body))
    [asked] = upstream.asked
    assert {name: asked[name] for name in meta} == meta
    assert asked.json == in_body, "the body is never edited"


async def test_a_call_without_a_trace_gets_none(front: Opened, upstream: Upstream) -> None:
    upstream.plays(ANSWER)
    opened = await front()
    await opened.ask(post("/mcp", tool("look")))
    assert "traceparent" not in upstream.asked[0]
    assert all("trace_id" not in event for event in opened.told())


async def test_an_error_before_any_layer_says_its_ids(front: Opened) -> None:
    """X-Request-Id is echoed in every error; the event stands beside it."""
    opened = await front()
    refused = await opened.ask(
        get("/x", "Host: evil.example", f"traceparent: {IN_A}", "X-Request-Id: mine")
    )
    assert (refused.status, refused["X-Request-Id"]) == (421, "mine")
    assert refused.json["request_id"] == "mine"


async def test_what_is_no_http_has_an_id_too(front: Opened) -> None:
    async with (await front()).client() as client:
        refused = await client.ask(b"NONSENSE\r\n\r\n")
    assert refused.status == 400
    assert refused["X-Request-Id"] == refused.json["request_id"] != ""


# --- spans


async def test_a_call_and_its_try_continue_the_clients_trace(upstream: Upstream) -> None:
    upstream.plays(ANSWER)
    async with seen(upstream.url) as sidecar_:
        await sidecar_.ask(
            post("/mcp", tool("look"), f"traceparent: {IN_A}", "tracestate: a=1", "baggage: x=1")
        )
        served, [tried] = sidecar_.served, sidecar_.tried
        assert parent_of(served) == f"{A}-00f067aa0ba902b7"
        assert parent_of(tried) == id_of(served)
        [asked] = upstream.asked
        assert asked["traceparent"] == f"00-{id_of(tried)}-01"
        assert (asked["tracestate"], asked["baggage"]) == ("a=1", "x=1")
        assert (served.name, tried.name) == ("tools/call look", "tools/call look")
        assert said(served) == {
            "network.transport": "tcp",
            "network.protocol.name": "http",
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "look",
            "client.address": "127.0.0.1",
            "jsonrpc.request.id": "1",
            "http.response.status_code": 200,
            "mcpp.verdict": "ok",
            "mcpp.cache.result": "bypass",
        }
        assert said(tried)["server.port"] == upstream.port
        assert said(tried)["mcpp.breaker.state"] == "closed"
        [event] = [one for one in sidecar_.front.told() if one["event"] == "tool.call.completed"]
        assert event["trace_id"] == A


async def test_a_trace_begins_here_where_the_client_has_none(upstream: Upstream) -> None:
    upstream.plays(ANSWER)
    async with seen(upstream.url) as sidecar_:
        await sidecar_.ask(post("/mcp", tool("look"), "tracestate: of=nothing"))
        assert parent_of(sidecar_.served) is None
        assert "tracestate" not in upstream.asked[0]
        [event] = [one for one in sidecar_.front.told() if one["event"] == "tool.call.completed"]
        assert event["trace_id"] == id_of(sidecar_.served)[:32]


async def test_the_message_is_the_parent_and_the_header_a_link(upstream: Upstream) -> None:
    """Protocol section 9."""
    upstream.plays(ANSWER)
    async with seen(upstream.url) as sidecar_:
        meta = {"traceparent": IN_A, "tracestate": "a=1"}
        in_body = rpc("tools/call", name="look", _meta=meta)
        await sidecar_.ask(post("/mcp", in_body, f"traceparent: {IN_B}", "tracestate: b=2"))
        served = sidecar_.served
        assert parent_of(served) == f"{A}-00f067aa0ba902b7"
        assert [f"{link.context.trace_id:032x}" for link in served.links] == [B]
        [asked] = upstream.asked
        assert asked["traceparent"] == f"00-{id_of(sidecar_.tried[0])}-01"
        assert asked["tracestate"] == "a=1"
        assert asked.json == in_body


async def test_hits_are_told_on_both_ways(upstream: Upstream, rules: str) -> None:
    """A hit on the express way walks through the same layers, so it is a span too."""
    upstream.plays(answer(DONE))
    async with seen(upstream.url, MCP_CONFIG_FILE=rules) as sidecar_:
        async with sidecar_.front.client() as client:
            asked = post("/api/call-tool", LOOK)
            for _ in range(3):
                await client.ask(asked)
            express = sidecar_.front.sidecar.inbound.express
            assert express is not None
            assert express.answered == 2
            express.closed = True
            await client.ask(asked)
            await client.ask(post("/api/call-tool", LOOK, f"traceparent: {IN_A}"))
        results = [said(span)["mcpp.cache.result"] for span in sidecar_.spans()]
        assert results == ["miss", "hit", "hit", "hit", "hit"]
        assert len(sidecar_.tried) == 1
        assert {span.name for span in sidecar_.spans()} == {"execute_tool look"}
        assert parent_of(sidecar_.spans()[-1]) == f"{A}-00f067aa0ba902b7"
        assert len({id_of(span)[:32] for span in sidecar_.spans()}) == 5


async def test_each_try_is_a_span(upstream: Upstream, rules: str) -> None:
    upstream.plays(answer(status="502 Bad Gateway"), answer(DONE))
    async with seen(upstream.url, MCP_CONFIG_FILE=rules) as sidecar_:
        await sidecar_.ask(post("/api/call-tool", LOOK))
        first, second = sidecar_.tried
        assert [said(one)["mcpp.retry.attempt"] for one in (first, second)] == [1, 2]
        assert said(first)["error.type"] == "502"
        assert parent_of(first) == parent_of(second) == id_of(sidecar_.served)
        assert "error.type" not in said(sidecar_.served)
        heard = [asked["traceparent"] for asked in upstream.asked]
        assert [parent[3:52] for parent in heard] == [id_of(one) for one in (first, second)]
        [event] = [one for one in sidecar_.front.told() if one["event"] == "retry.scheduled"]
        assert event["trace_id"] == id_of(first)[:32]


async def test_an_open_circuit_is_told(upstream: Upstream) -> None:
    upstream.plays(answer(status="500 Internal Server Error"))
    async with seen(upstream.url, MCP_CB_FAILURE_THRESHOLD=1) as sidecar_:
        for _ in range(2):
            await sidecar_.ask(post("/mcp", tool("save")))
        _, refused = sidecar_.spans()
        assert said(refused)["error.type"] == "circuit_open"
        assert said(refused)["mcpp.breaker.state"] == "open"
        assert len(sidecar_.tried) == 1


async def test_refusals_and_failures_are_told() -> None:
    async with seen(f"http://localhost:{unused_port()}", MCP_MAX_RETRIES=0) as sidecar_:
        await sidecar_.ask(get("/x", "Host: evil.example"))
        await sidecar_.ask(post("/mcp", tool("save")))
        refused, failed = sidecar_.spans()
        assert (refused.name, said(refused)["error.type"]) == ("GET", "host_not_allowed")
        assert said(failed)["error.type"] == "upstream_unreachable"
        assert [said(one)["error.type"] for one in sidecar_.tried] == ["upstream_unreachable"]


async def test_a_client_that_leaves_is_told(upstream: Upstream) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.left()

    upstream.plays(never)
    async with seen(upstream.url) as sidecar_:
        async with sidecar_.front.client() as client:
            await client.send(post("/mcp", tool("save")))
            await upstream.until(lambda: len(upstream.asked) == 1)
        await upstream.until(lambda: not upstream.open)
        assert said(sidecar_.served)["mcpp.verdict"] == "left"
        assert said(sidecar_.tried[0])["mcpp.verdict"] == "left"


async def test_a_streamed_answer_is_told_when_it_is_over(upstream: Upstream) -> None:
    async def in_parts(exchange: Exchange) -> None:
        await exchange.send(streamed(), chunk(b": begun\n\n"))
        await exchange.reader.readexactly(0)
        gate.append(exchange)

    gate: list[Exchange] = []
    upstream.plays(in_parts)
    async with seen(upstream.url) as sidecar_, sidecar_.front.client() as client:
        await client.send(post("/mcp", tool("save"), "Accept: text/event-stream"))
        await client.head()
        await client.chunk()
        assert sidecar_.spans() == []
        await gate[0].send(chunked(b"data: " + result(isError=True, content=[]) + b"\n\n"))
        while await client.chunk():
            pass
        assert said(sidecar_.served)["error.type"] == "tool_error"
        assert said(sidecar_.tried[0])["error.type"] == "tool_error"


async def test_the_server_hears_that_nobody_records(upstream: Upstream) -> None:
    """Parent-based: the decision is made once, and holds for all."""
    upstream.plays(ANSWER)
    async with seen(upstream.url, ALWAYS_OFF) as sidecar_:
        await sidecar_.ask(post("/mcp", tool("look")))
        await sidecar_.ask(post("/mcp", tool("look"), f"traceparent: {IN_A[:-1]}0"))
        assert sidecar_.spans() + sidecar_.tried == []
        flags = [asked["traceparent"][-2:] for asked in upstream.asked]
        assert [int(one, 16) & 1 for one in flags] == [0, 0]
        assert upstream.asked[1]["traceparent"][3:35] == A


async def test_a_websocket_is_told_with_its_handshake(upstream: Upstream) -> None:
    upstream.plays(answer(status="403 Forbidden"))
    async with seen(upstream.url) as sidecar_:
        await sidecar_.ask(
            get(
                "/ws",
                "Connection: upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                f"traceparent: {IN_A}",
            )
        )
        assert upstream.asked[0]["traceparent"] == f"00-{id_of(sidecar_.tried[0])}-01"
        assert said(sidecar_.served)["http.response.status_code"] == 403


async def test_a_session_is_told_only_where_that_is_allowed(upstream: Upstream) -> None:
    upstream.plays(ANSWER)
    for allowed in ("false", "true"):
        async with seen(upstream.url, MCP_TRACES_SESSION_IDS=allowed) as sidecar_:
            await sidecar_.ask(post("/mcp", tool("look"), "Mcp-Session-Id: abc"))
            assert ("mcp.session.id" in said(sidecar_.served)) == (allowed == "true")


# --- what is not told

CANARY = "s3cret-c4nary"


def loaded_with_secrets() -> list[bytes]:
    """Return requests with a canary wherever a secret may stand."""
    headers = [
        f"Authorization: Bearer {CANARY}",
        f"Cookie: session={CANARY}",
        f"X-Api-Key: {CANARY}",
        f"X-Request-Id: {CANARY}",
        f"Mcp-Session-Id: {CANARY}",
        f"MCP-Protocol-Version: {CANARY}",
        f"User-Agent: {CANARY}",
        f"Referer: http://{CANARY}/",
        f"traceparent: {IN_A}",
        f"tracestate: a={CANARY}",
        f"baggage: user={CANARY}",
    ]
    meta = {"traceparent": IN_B, "tracestate": f"b={CANARY}", "baggage": CANARY, "x": CANARY}
    bodies = [
        tool("look", password=CANARY),
        rpc("tools/call", 2, name="look", arguments={CANARY: [CANARY]}, _meta=meta),
        rpc("resources/read", 3, uri=f"file:///{CANARY}"),
        rpc("prompts/get", 4, name="greet", arguments={"key": CANARY}),
        rpc("completion/complete", 5, ref={"uri": CANARY}),
    ]
    rest = {**LOOK, "params": {"token": CANARY}}
    return [
        *(post(f"/mcp?key={CANARY}", body, *headers) for body in bodies),
        post(f"/api/call-tool?key={CANARY}", rest, *headers),
        get(f"/{CANARY}/x?key={CANARY}", *headers),
        get(f"/messages/?session_id={CANARY}", *headers),
        request("PROPFIND", f"/{CANARY}", *headers),
        post("/mcp", CANARY.encode(), *headers),
        get("/x", f"Host: {CANARY}.example", *headers[:2]),
    ]


ANSWERS = [
    ANSWER.replace(b"[]", b'["%s"]' % CANARY.encode()),
    answer(CANARY.encode(), f"X-Secret: {CANARY}", f"Set-Cookie: {CANARY}", status="401 No"),
    answer(
        json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": CANARY}}).encode()
    ),
    answer(CANARY.encode(), status=f"500 {CANARY}"),
    streamed() + chunked(b"data: " + CANARY.encode() + b"\n\n"),
]


@pytest.mark.parametrize("played", range(len(ANSWERS)))
async def test_no_secret_is_in_any_exported_byte(upstream: Upstream, played: int) -> None:
    """DESIGN section 6 for spans: no arguments, results, credentials, or URLs."""
    upstream.plays(ANSWERS[played])
    collector = Collector()
    async with collector.listening() as url:
        exporter = OTLPSpanExporter(f"{url}/v1/traces")
        spans = Traces(BatchSpanProcessor(exporter), ParentBased(ALWAYS_ON))
        own = f"http://user:{CANARY}@localhost:{upstream.port}/{CANARY}"
        async with sidecar(own, None, spans, MCP_MAX_RETRIES=1) as front:
            for raw in loaded_with_secrets():
                async with front.client() as client:
                    await asked(client, raw)
    assert upstream.asked
    assert len(collector.spans) >= 2 * len(loaded_with_secrets()) - 1
    assert all(CANARY.encode() not in one.body for one in collector.got)


async def asked(client: Client, raw: bytes) -> None:
    await client.send(raw)
    assert (await client.hear()).status >= 200


# --- a receiver


async def test_a_real_receiver_gets_real_spans(upstream: Upstream) -> None:
    """OTLP/HTTP with protobuf, over loopback."""
    upstream.plays(ANSWER)
    collector = Collector()
    async with collector.listening() as url:
        exporter = OTLPSpanExporter(f"{url}/v1/traces")
        spans = Traces(BatchSpanProcessor(exporter), ParentBased(ALWAYS_ON))
        async with sidecar(upstream.url, None, spans) as front:
            await front.ask(post("/mcp", tool("look"), f"traceparent: {IN_A}"))
    assert {said.target for said in collector.got} == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "mcp-sidecar"
    tried, served = collector.spans
    assert (served.name, served.kind, tried.kind) == ("tools/call look", 2, 3)
    assert (served.trace_id.hex(), tried.trace_id.hex()) == (A, A)
    assert served.parent_span_id.hex() == "00f067aa0ba902b7"
    assert tried.parent_span_id == served.span_id
    assert served.trace_state == "", "others' notes are theirs to read"
    assert values(served.attributes)["gen_ai.tool.name"] == "look"
