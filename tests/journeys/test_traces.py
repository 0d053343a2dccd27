"""Traces as an operator switches them on: the variables of OpenTelemetry, a process of its own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.edge.collector import Collector, values
from tests.edge.wire import Upstream, answer, result, tool, unused_port
from tests.journeys.conftest import Process

pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is not installed")

Begun = Callable[..., tuple[Process, str]]
# It may take a second longer to end than it does without traces; starting up is not in it.
A_SECOND = 1.0


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    server.plays(answer(result(content=[], isError=False)))
    await server.start()
    yield server
    await server.stop()


async def ask(http: aiohttp.ClientSession, url: str, times: int = 1) -> float:
    """Call a tool; return how long the slowest call took."""
    slowest = 0.0
    for _ in range(times):
        began = time.perf_counter()
        async with http.post(f"{url}/mcp", json=tool("look")) as heard:
            assert heard.status == 200
            await heard.read()
        slowest = max(slowest, time.perf_counter() - began)
    return slowest


async def ended(process: Process) -> tuple[float, list[dict[str, Any]]]:
    """End a sidecar; return how long that took, and its events."""
    began = time.perf_counter()
    code, out, err = await asyncio.to_thread(process.stop)
    assert (code, err) == (0, "")
    return time.perf_counter() - began, [json.loads(line) for line in out.splitlines()]


async def test_the_standard_variables_switch_it_on(
    sidecar_for: Begun, upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    """What is queued at SIGTERM is sent before the end."""
    collector = Collector()
    async with collector.listening() as endpoint:
        process, url = await asyncio.to_thread(
            sidecar_for,
            upstream.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20t",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
            OTEL_SERVICE_NAME="crm",
        )
        await ask(http, url)
        _, events = await ended(process)
    [export] = collector.got
    assert (export.target, export["authorization"]) == ("/v1/traces", "Bearer t")
    [resource] = collector.resources
    assert resource["service.name"] == "crm"
    assert resource["deployment.environment"] == "test"
    tried, served = collector.spans
    assert values(served.attributes)["mcp.method.name"] == "tools/call"
    [event] = [one for one in events if one["event"] == "tool.call.completed"]
    assert event["trace_id"] == served.trace_id.hex()
    assert upstream.asked[0]["traceparent"][3:52] == (
        f"{served.trace_id.hex()}-{tried.span_id.hex()}"
    )


async def test_the_sampler_is_the_standard_one(
    sidecar_for: Begun, upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    collector = Collector()
    async with collector.listening() as endpoint:
        process, url = await asyncio.to_thread(
            sidecar_for,
            upstream.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG="0",
        )
        await ask(http, url)
        await ended(process)
    assert collector.got == []
    assert int(upstream.asked[0]["traceparent"][-2:], 16) & 1 == 0


@pytest.mark.parametrize("away", [False, True], ids=["it hangs", "it is away"])
async def test_a_receiver_in_trouble_delays_neither_calls_nor_the_end(
    sidecar_for: Begun, upstream: Upstream, http: aiohttp.ClientSession, *, away: bool
) -> None:
    """A full queue drops spans; the end waits for half a second at most."""
    collector = Collector(hangs=True)
    async with collector.listening() as endpoint:
        plain, plain_url = await asyncio.to_thread(sidecar_for, upstream.url)
        traced, url = await asyncio.to_thread(
            sidecar_for,
            upstream.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{unused_port()}" if away else endpoint,
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        )
        await ask(http, plain_url)
        assert await ask(http, url, times=50) < A_SECOND
        if not away:
            await collector.until(1)
        usual, _ = await ended(plain)
        took, events = await ended(traced)
        assert took < usual + A_SECOND
        called = [one for one in events if one["event"] == "tool.call.completed"]
        assert len(called) == 50
        warned = [one for one in events if one["event"] == "library.logged"]
        assert len(warned) < 10, "a few lines, not one for each span"
    assert len(collector.got) <= 1


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "-5"},
    ],
)
async def test_nothing_is_told_where_it_is_off_or_cannot_be(
    sidecar_for: Begun,
    upstream: Upstream,
    http: aiohttp.ClientSession,
    environment: dict[str, str],
) -> None:
    """A wrong variable of tracing keeps nobody from being served."""
    process, url = await asyncio.to_thread(sidecar_for, upstream.url, **environment)
    warned = '"config.warning"' in process.first_line
    assert warned == (environment.get("OTEL_TRACES_EXPORTER") in {"zipkin", "otlp"})
    await ask(http, url)
    assert "traceparent" not in upstream.asked[0]
    await ended(process)


def test_where_it_is_off_nothing_of_it_is_imported(start: Callable[..., Process]) -> None:
    """But for what redis 8 takes of the SDK for metrics of its own, where that is installed."""
    lines = (
        "import sys",
        "import mcp_proxy.assembly, mcp_proxy.serving",
        "assert mcp_proxy.serving.spans(print) is None",
        (
            "print(any(name in sys.modules for name in ('mcp_proxy.signals.traces', "
            "'opentelemetry.sdk.trace', 'opentelemetry.exporter')))"
        ),
    )
    assert start("-c", "\n".join(lines)).first_line == "False\n"


def test_it_need_not_be_installed(start: Callable[..., Process]) -> None:
    lines = (
        "import sys",
        "sys.modules['opentelemetry'] = None",  # as if it were not there
        "import mcp_proxy.assembly",
        "print(mcp_proxy.assembly.Sidecar.__name__)",
    )
    assert start("-c", "\n".join(lines)).first_line == "Sidecar\n"


def test_a_missing_extra_is_said(start: Callable[..., Process]) -> None:
    lines = (
        "import sys",
        "sys.modules['opentelemetry'] = None",  # as if it were not there
        "import mcp_proxy.serving",
        "mcp_proxy.serving.spans(lambda *said, message: print(message))",
    )
    said = start("-c", "\n".join(lines), OTEL_TRACES_EXPORTER="otlp").first_line
    assert said == "OTEL_* asks for traces: install mcp-sidecar[otel]\n"
