"""Where requests enter and answers leave: who may ask, and what we add to what is said."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Upstream,
    answer,
    bound,
    get,
    post,
    request,
    result,
    rpc,
    streamed,
    tool,
    unused_port,
)

READ = {"service": "jira", "tool_name": "jira_get_issue", "params": {"key": "OPS-1"}}
DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "2026-01-01T00:00:00"}'


# --- who may ask


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "10.0.0.7", "mcp-proxy:8080"],
)
async def test_a_host_that_no_dns_answer_can_forge_passes(
    front: Opened, upstream: Upstream, host: str
) -> None:
    """DESIGN section 6: loopback, an IP literal, a single label."""
    heard = await (await front()).ask(get("/page", f"Host: {host}"))
    assert heard.status == 200
    assert upstream.asked[0]["X-Forwarded-Host"] == host


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example:8000",
        "127.0.0.1.nip.io",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost/evil",
    ],
)
async def test_a_foreign_host_is_refused(front: Opened, upstream: Upstream, host: str) -> None:
    """F37: DNS rebinding, also with an unprotected server behind."""
    heard = await (await front()).ask(get("/page", f"Host: {host}"))
    assert heard.status == 421
    assert heard["Content-Type"] == "application/problem+json"
    assert heard.json["code"] == "host_not_allowed"
    assert heard.json["retryable"] is False
    assert "Retry-After" not in heard
    assert upstream.asked == []


async def test_an_allowed_host_passes(front: Opened) -> None:
    sidecar = await front(MCP_ALLOWED_HOSTS="mcp.example, other.example:8443")
    assert (await sidecar.ask(get("/", "Host: MCP.example:9"))).status == 200
    assert (await sidecar.ask(get("/", "Host: other.example:8443"))).status == 200
    assert (await sidecar.ask(get("/", "Host: other.example:1"))).status == 421
    assert (await (await front(MCP_ALLOWED_HOSTS="*")).ask(get("/", "Host: a.b"))).status == 200


async def test_a_request_without_host_passes(front: Opened) -> None:
    """HTTP/1.0; a browser always sends one."""
    heard = await (await front()).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert heard.status == 200


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1:8443", "http://[::1]:1", "http://box"]
)
async def test_a_passing_origin_travels_on_unchanged(
    front: Opened, upstream: Upstream, origin: str
) -> None:
    """Dropping it fails the suite's dns-rebinding-protection (protocol.md section 6)."""
    heard = await (await front()).ask(get("/page", "Host: box", f"Origin: {origin}"))
    assert heard.status == 200
    assert upstream.asked[0]["Origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost.evil.example",
        "file://",
        "http://a@localhost",
    ],
)
async def test_a_foreign_origin_is_refused(front: Opened, upstream: Upstream, origin: str) -> None:
    """F37; and the page may not read why."""
    heard = await (await front()).ask(get("/page", f"Origin: {origin}"))
    assert heard.status == 403
    assert heard.json["code"] == "origin_not_allowed"
    assert "Access-Control-Allow-Origin" not in heard
    assert upstream.asked == []


async def test_an_allowed_origin_passes(front: Opened) -> None:
    sidecar = await front(MCP_ALLOWED_ORIGINS="https://app.example/")
    assert (await sidecar.ask(get("/", "Origin: https://APP.example"))).status == 200
    assert (await sidecar.ask(get("/", "Origin: http://app.example"))).status == 403


async def test_the_checks_come_before_the_cache(front: Opened, upstream: Upstream) -> None:
    """F37: a stored answer is no way around them."""
    upstream.plays(answer(result(tools=[])))
    sidecar = await front(MCP_CACHE_IGNORE_HEADERS="Origin")
    asked = rpc("tools/list")
    await sidecar.ask(post("/mcp", asked))
    assert "hit" in (await sidecar.ask(post("/mcp", asked)))["Cache-Status"]
    assert (await sidecar.ask(post("/mcp", asked, "Host: evil.example"))).status == 421
    assert (await sidecar.ask(post("/mcp", asked, "Origin: http://evil.example"))).status == 403


@pytest.mark.parametrize("path", ["/api/health", "/api/metrics", "/api/cache/clear"])
async def test_own_endpoints_are_checked_too(front: Opened, path: str) -> None:
    """F38: the control plane is not for pages of others."""
    sidecar = await front()
    assert (await sidecar.ask(get(path, "Host: evil.example"))).status == 421
    assert (await sidecar.ask(post(path, b"", "Origin: http://evil.example"))).status == 403


async def test_the_probes_are_refused_to_nobody(front: Opened) -> None:
    """DESIGN section 6: an orchestrator asks by whatever name it knows."""
    sidecar = await front()
    for path in ("/livez", "/readyz"):
        asked = get(path, "Host: pod.cluster.example", "Origin: http://evil.example")
        assert (await sidecar.ask(asked)).status == 200


@pytest.mark.parametrize(
    "target", ["http://evil.example/x", "https://localhost/x", "HTTP://127.0.0.1:1/x"]
)
async def test_an_absolute_target_is_refused(
    front: Opened, upstream: Upstream, target: str
) -> None:
    """F39: joined to the upstream's URL it would choose another server."""
    heard = await (await front()).ask(get(target))
    assert heard.status == 400
    assert heard.json["code"] == "bad_request"
    assert upstream.asked == []


async def test_no_request_reaches_a_server_that_it_names(front: Opened, upstream: Upstream) -> None:
    """F39: a canary that hears nothing, whatever names it."""
    canary = Upstream()
    await canary.start()
    there = f"localhost:{canary.port}"
    sidecar = await front()
    for raw in (
        get(f"http://{there}/x"),
        get(f"//{there}/x"),
        get(f"/@{there}/x"),
        get("/x", f"Host: {there}"),
        get("/x", f"X-Forwarded-Host: {there}", f"Forwarded: host={there}"),
        get("/x", f"X-Original-URL: http://{there}/x"),
        request("CONNECT", there),
    ):
        await sidecar.ask(raw)
    upstream.plays(answer(b"", f"Location: http://{there}/x", status="302 Found"))
    assert (await sidecar.ask(get("/x"))).status == 302
    assert canary.asked == canary.looks == []
    assert canary.url not in [asked["X-Forwarded-Host"] for asked in upstream.asked]
    await canary.stop()


@pytest.mark.parametrize("named", ["authorization", "Host", "x-forwarded-for", "Mcp-Session-Id"])
async def test_a_connection_header_may_not_name_what_decides(
    front: Opened, upstream: Upstream, named: str
) -> None:
    """F40: stripping it would change what the server decides."""
    heard = await (await front()).ask(get("/x", f"Connection: close, {named}"))
    assert heard.status == 400
    assert upstream.asked == []


async def test_a_loop_ends_at_the_second_hop(front: Opened) -> None:
    """F40, RFC 9110 section 7.6.3: our own name stands in Via."""
    port = unused_port()
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{port}", MCP_PORT=port)
    heard = await sidecar.ask(get("/page"))
    assert heard.status == 508
    assert heard.json["code"] == "loop_detected"
    assert len(heard.all("Via")) == 2


async def test_other_proxies_in_via_are_no_loop(front: Opened, upstream: Upstream) -> None:
    await (await front()).ask(get("/x", "Via: 1.0 fred, 1.1 mcp-sidecar-00000000 (one of us)"))
    before, ours = upstream.asked[0].all("Via")
    assert before == "1.0 fred, 1.1 mcp-sidecar-00000000 (one of us)"
    assert ours.startswith("1.1 mcp-sidecar-")


async def test_while_draining_new_calls_are_told_to_come_back(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 7: the socket stays open and answers `draining`; section 5: in their dialect."""
    sidecar = await front()
    dialects: list[tuple[bytes, int, Callable[[Any], Any]]] = [
        (post("/mcp", tool("x")), 200, lambda said: said["result"]["_meta"]["mcp_proxy/error"]),
        (post("/mcp", rpc("tools/list")), 200, lambda said: said["error"]["data"]),
        (post("/api/call-tool", READ), 503, lambda said: said["error_details"]),
        *(
            (raw, 503, lambda said: said)
            for raw in (
                post("/mcp", rpc("server/discover")),
                post("/mcp", rpc("notifications/initialized", None)),
                post("/messages", rpc("tools/list")),
                post("/api/chat", b"{}"),
                request("DELETE", "/mcp"),
                get("/page"),
                get("/mcp"),
                get("/sse"),
                get("/ws", "Connection: Upgrade", "Upgrade: websocket"),
                get("/api/health"),
            )
        ),
    ]
    for raw, status, details in dialects:
        # on a connection from before, too
        sidecar.sidecar.inbound.draining = False
        async with sidecar.client() as client:
            assert "Connection" not in await client.ask(get("/livez"))
            sidecar.sidecar.inbound.draining = True
            heard = await client.ask(raw)
            assert await client.ended()
        assert (heard.status, heard["Connection"], heard["Retry-After"]) == (status, "close", "1")
        said = details(heard.json)
        assert (said["code"], said["delivered"], said["retryable"]) == ("draining", "no", True)
    assert upstream.asked == []
    for path, status in (("/readyz", 503), ("/livez", 200)):
        heard = await sidecar.ask(get(path))
        assert (heard.status, heard["Connection"]) == (status, "close")


async def test_while_draining_calls_under_way_may_still_be_answered_or_given_up(
    front: Opened, upstream: Upstream
) -> None:
    """A call that asks its client something would else never come to its end."""
    sidecar = await front()
    sidecar.sidecar.inbound.draining = True
    for said in (
        {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}},
        rpc("notifications/cancelled", None, requestId=1),
        rpc("notifications/progress", None, progressToken=1, progress=1),
    ):
        assert (await sidecar.ask(post("/mcp", said))).status == 200
    assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    "raw",
    [get("/mcp"), get("/sse"), get("/ws", "Connection: Upgrade", "Upgrade: websocket")],
)
async def test_a_stream_that_has_not_begun_does_not_hold_the_drain(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """A server may well send its head with the first event; until then it may be asked for again."""

    async def silent(exchange: Exchange) -> None:
        await exchange.left()

    upstream.plays(silent)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client:
        await client.send(raw)
        await upstream.until(lambda: bool(upstream.asked))
        async with bound(1):
            assert await sidecar.sidecar.drain() is True
        heard = await client.hear()
    assert (heard.status, heard["Retry-After"], heard["Connection"]) == (503, "1", "close")
    assert (heard.json["code"], heard.json["delivered"]) == ("draining", "unknown")


@pytest.mark.parametrize(
    ("raw", "again"),
    [(request("DELETE", "/mcp"), True), (post("/messages", tool("salesforce_create")), False)],
)
async def test_what_has_no_deadline_is_broken_off_after_the_grace(
    front: Opened, upstream: Upstream, raw: bytes, *, again: bool
) -> None:
    """What a session's end or a legacy message came to is told as it is: nobody knows."""

    async def silent(exchange: Exchange) -> None:
        await exchange.left()

    upstream.plays(silent)
    sidecar = await front(MCP_SHUTDOWN_GRACE=0)
    async with sidecar.client() as client:
        await client.send(raw)
        await upstream.until(lambda: bool(upstream.asked))
        async with bound(1):
            assert await sidecar.sidecar.drain() is False
        heard = await client.hear()
    assert heard.json["code"] == "draining"
    assert (heard.json["delivered"], heard.json["retryable"]) == ("unknown", again)
    assert ("Retry-After" in heard) is again


async def test_a_refusal_of_a_tool_call_has_the_basic_servers_shape(front: Opened) -> None:
    """DESIGN section 5: the dialect is known by the path alone."""
    heard = await (await front()).ask(post("/api/call-tool", READ, "Origin: http://evil.example"))
    assert heard.status == 403
    assert heard.json["success"] is False
    assert heard.json["error_details"]["code"] == "origin_not_allowed"


# --- what is added


async def test_every_answer_says_how_it_came_about(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 3: X-Request-Id, Cache-Status, Age on hits, Server-Timing, Via."""
    upstream.plays(answer(result(tools=[]), "Via: 1.1 other"))
    sidecar = await front()
    first = await sidecar.ask(post("/mcp", rpc("tools/list")))
    stored = first["Cache-Status"]
    assert re.fullmatch(r'mcp-sidecar; fwd=miss; stored; ttl=300; key="[0-9a-f]{16}"', stored)
    assert first["Server-Timing"].startswith("cache;desc=miss;dur=")
    assert ", upstream;dur=" in first["Server-Timing"]
    assert first.all("Via") == ["1.1 other", f"1.1 {sidecar.sidecar.pseudonym}"]
    assert "Age" not in first
    second = await sidecar.ask(post("/mcp", rpc("tools/list")))
    assert second["Cache-Status"].startswith("mcp-sidecar; hit; ttl=")
    assert second["Server-Timing"].startswith("cache;desc=hit;dur=")
    assert "upstream" not in second["Server-Timing"]
    assert second["Age"] == "0"
    assert second["X-Request-Id"] != first["X-Request-Id"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get("/page"), "mcp-sidecar; fwd=bypass"),
        (request("DELETE", "/page"), "mcp-sidecar; fwd=method"),
        (
            post("/mcp", rpc("tools/list"), "Cache-Control: no-cache"),
            "mcp-sidecar; fwd=request; stored; ttl=300",
        ),
    ],
)
async def test_cache_status_says_why_the_server_was_asked(
    front: Opened, upstream: Upstream, raw: bytes, status: str
) -> None:
    """RFC 9211."""
    upstream.plays(answer(result(tools=[])))
    assert (await (await front()).ask(raw))["Cache-Status"].partition("; key=")[0] == status


async def test_a_shared_answer_says_that_it_was_shared(front: Opened, upstream: Upstream) -> None:
    """RFC 9211, `collapsed`."""
    together = asyncio.Event()

    async def when_both_wait(exchange) -> None:
        await together.wait()
        await exchange.send(answer(result(tools=[])))

    upstream.plays(when_both_wait)
    sidecar = await front()
    asking = [asyncio.ensure_future(sidecar.ask(post("/mcp", rpc("tools/list")))) for _ in "ab"]  # noqa: TID251
    await upstream.until(lambda: len(upstream.asked) == 1)
    metrics = sidecar.sidecar.metrics
    while metrics.in_flight < 2:  # noqa: ASYNC110 - a count has no event
        await asyncio.sleep(0)  # noqa: TID251 - lets the second caller in
    together.set()
    heard = await asyncio.gather(*asking)
    assert sorted("collapsed" in one["Cache-Status"] for one in heard) == [False, True]
    assert len(upstream.asked) == 1


async def test_a_harmless_request_id_is_kept(front: Opened, upstream: Upstream) -> None:
    heard = await (await front()).ask(get("/x", "X-Request-Id: abc-1.2/3"))
    assert heard["X-Request-Id"] == upstream.asked[0]["X-Request-Id"] == "abc-1.2/3"


@pytest.mark.parametrize("claimed", ["x" * 129, "a b", "a;b", "\xe9", '"'])
async def test_another_request_id_is_replaced(
    front: Opened, upstream: Upstream, claimed: str
) -> None:
    """F41: it stands in logs and errors."""
    heard = await (await front()).ask(get("/x", f"X-Request-Id: {claimed}"))
    assert heard["X-Request-Id"] == upstream.asked[0]["X-Request-Id"]
    assert len(heard["X-Request-Id"]) == 16


async def test_an_event_stream_is_held_back_by_nobody(front: Opened, upstream: Upstream) -> None:
    """Protocol.md section 8: X-Accel-Buffering and Cache-Control on every SSE answer."""
    upstream.plays(streamed() + b"0\r\n\r\n")
    heard = await (await front()).ask(get("/mcp", "Accept: text/event-stream"))
    assert heard["X-Accel-Buffering"] == "no"
    assert heard["Cache-Control"] == "no-cache"


async def test_what_the_server_says_of_its_stream_stands(front: Opened, upstream: Upstream) -> None:
    theirs = ("X-Accel-Buffering: yes", "Cache-Control: no-store")
    upstream.plays(streamed("text/event-stream", *theirs) + b"0\r\n\r\n")
    heard = await (await front()).ask(get("/mcp"))
    assert (heard["X-Accel-Buffering"], heard["Cache-Control"]) == ("yes", "no-store")


# --- pages of a browser


async def test_our_errors_can_be_read_by_a_passing_page(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 6: a page on localhost:3000 that used the old server keeps working."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}", MCP_MAX_RETRIES=0)
    heard = await sidecar.ask(post("/api/call-tool", READ, "Origin: http://localhost:3000"))
    assert heard.status == 503
    assert heard["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert heard["Access-Control-Allow-Credentials"] == "true"
    assert heard["Vary"] == "Origin"
    assert "Retry-After" in heard["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in await sidecar.ask(get("/page"))


async def test_own_endpoints_can_be_read_by_a_passing_page(front: Opened) -> None:
    heard = await (await front()).ask(get("/api/health", "Origin: http://localhost:3000"))
    assert heard["Access-Control-Allow-Origin"] == "http://localhost:3000"


PREFLIGHT = (
    "Origin: http://localhost:3000",
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: content-type, mcp-session-id",
)


@pytest.mark.parametrize("path", ["/mcp", "/api/call-tool", "/page"])
async def test_a_preflight_during_an_outage_is_answered(front: Opened, path: str) -> None:
    """Without it the page would never see the structured error of the call itself."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}", MCP_MAX_RETRIES=0)
    heard = await sidecar.ask(request("OPTIONS", path, *PREFLIGHT))
    assert heard.status == 204
    assert heard["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert heard["Access-Control-Allow-Methods"] == "POST"
    assert heard["Access-Control-Allow-Headers"] == "content-type, mcp-session-id"


async def test_a_preflight_for_an_own_endpoint_is_answered_by_us(
    front: Opened, upstream: Upstream
) -> None:
    heard = await (await front()).ask(request("OPTIONS", "/api/cache/clear", *PREFLIGHT[:2]))
    assert heard.status == 204
    assert heard["Allow"] == "POST, OPTIONS"
    assert heard["Access-Control-Allow-Methods"] == "POST"
    assert "Access-Control-Allow-Headers" not in heard
    assert upstream.asked == []


async def test_while_the_server_is_there_it_answers_its_preflights(
    front: Opened, upstream: Upstream
) -> None:
    """Protocol.md section 6: its Access-Control-* pass through, we add none."""
    upstream.plays(answer(b"", "Access-Control-Allow-Origin: http://other", status="200 OK"))
    heard = await (await front()).ask(request("OPTIONS", "/mcp", *PREFLIGHT))
    assert upstream.asked[0].method == "OPTIONS"
    assert heard["Access-Control-Allow-Origin"] == "http://other"
    assert "Access-Control-Allow-Methods" not in heard


async def test_the_preflight_of_a_foreign_page_is_refused(
    front: Opened, upstream: Upstream
) -> None:
    """F37: a refusal is no outage."""
    foreign = ("Origin: http://evil.example", *PREFLIGHT[1:])
    heard = await (await front()).ask(request("OPTIONS", "/mcp", *foreign))
    assert heard.status == 403
    assert "Access-Control-Allow-Origin" not in heard
    assert upstream.asked == []


# --- REST answers gain fields


async def test_a_rest_answer_gains_fields_and_keeps_its_bytes(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 3: spliced in before the closing brace, never re-serialised."""
    body = b'{ "success" : true,"data":"\\u00e9 1.50", "error":null, "timestamp":"t" }\n'
    upstream.plays(answer(body))
    heard = await (await front()).ask(post("/api/call-tool", READ))
    assert heard.body.startswith(body.rpartition(b"}")[0])
    assert heard.body.endswith(b"}\n")
    assert int(heard["Content-Length"]) == len(heard.body)
    assert heard.json["cache_hit"] is False
    assert heard.json["attempts"] == 1
    assert heard.json["request_id"] == heard["X-Request-Id"]
    assert heard.json["execution_time_ms"] >= 0


async def test_a_hit_of_a_rest_answer_says_so(front: Opened, upstream: Upstream, tmp_path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[tools.jira_get_issue]\nread_only = true\n")
    upstream.plays(answer(DONE))
    sidecar = await front(MCP_CONFIG_FILE=rules)
    first, second = [await sidecar.ask(post("/api/call-tool", READ)) for _ in "ab"]
    assert (first.json["cache_hit"], first.json["attempts"]) == (False, 1)
    assert (second.json["cache_hit"], second.json["attempts"]) == (True, 0)
    assert first.json["request_id"] != second.json["request_id"]
    assert len(upstream.asked) == 1


async def test_a_field_of_the_servers_own_is_left_alone(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b'{"success":true,"request_id":"theirs","attempts":9}'))
    heard = await (await front()).ask(post("/api/call-tool", READ))
    assert heard.json["request_id"] == "theirs"
    assert heard.json["attempts"] == 9
    assert "cache_hit" in heard.json


@pytest.mark.parametrize(
    "untouched",
    [
        answer(DONE, "Content-Encoding: gzip"),
        answer(b'{"detail":"Service not found"}', status="404 Not Found"),
        answer(b"<p>hello</p>", kind="text/html"),
        answer(b"[1,2]"),
        answer(b'{"a":1}', kind="application/json; charset=utf-16"),
    ],
)
async def test_other_rest_answers_pass_unchanged(
    front: Opened, upstream: Upstream, untouched: bytes
) -> None:
    upstream.plays(untouched)
    heard = await (await front()).ask(post("/api/call-tool", READ))
    assert heard.body == untouched.partition(b"\r\n\r\n")[2]


async def test_enrichment_can_be_switched_off(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(DONE))
    sidecar = await front(MCP_ENRICH_RESPONSES="false")
    assert (await sidecar.ask(post("/api/call-tool", READ))).body == DONE


async def test_mcp_answers_gain_nothing(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 3: never altered beyond the id of a stored answer."""
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[], "x":1.50}}'
    upstream.plays(answer(body))
    assert (await (await front()).ask(post("/mcp", tool("salesforce_create")))).body == body


# --- stored answers in the caller's words


async def test_a_stored_answer_bears_the_callers_id(front: Opened, upstream: Upstream) -> None:
    """F15: the type of the id is kept, everything else stands as the server spelled it."""
    upstream.plays(answer(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"n":1.50}}'))
    sidecar = await front()
    await sidecar.ask(post("/mcp", rpc("tools/list", 1)))
    for request_id, spelled in ((7, b"7"), ("1", b'"1"'), ("é", '"é"'.encode())):
        heard = await sidecar.ask(post("/mcp", rpc("tools/list", request_id)))
        assert heard.body == b'{"jsonrpc":"2.0","id":%b,"result":{"tools":[],"n":1.50}}' % spelled
    assert len(upstream.asked) == 1


async def test_a_stored_event_stream_comes_as_what_the_caller_accepts(
    front: Opened, upstream: Upstream
) -> None:
    """Event ids belong to one stream, so the answer is told on without them."""
    event = b"event: message\r\nid: 77\r\ndata: " + result(1, tools=[]) + b"\r\n\r\n"
    upstream.plays(answer(event, kind="text/event-stream"))
    sidecar = await front(MCP_CACHE_IGNORE_HEADERS="Accept")
    first = await sidecar.ask(post("/mcp", rpc("tools/list", 1)))
    assert first.body == event
    as_json = await sidecar.ask(post("/mcp", rpc("tools/list", 2), "Accept: application/json"))
    assert as_json["Content-Type"] == "application/json"
    assert as_json.json == {"jsonrpc": "2.0", "id": 2, "result": {"tools": []}}
    as_events = await sidecar.ask(post("/mcp", rpc("tools/list", 3), "Accept: text/event-stream"))
    assert as_events["Content-Type"] == "text/event-stream"
    assert as_events.body == b"event: message\r\ndata: " + result(3, tools=[]) + b"\r\n\r\n"
    assert as_events["X-Accel-Buffering"] == "no"
    assert len(upstream.asked) == 1
