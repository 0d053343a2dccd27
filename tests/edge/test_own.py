"""The sidecar's own endpoints."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Front,
    Upstream,
    answer,
    get,
    post,
    request,
    result,
    rpc,
    tool,
    unused_port,
)

OURS = [
    *("/livez", "/readyz", "/api/health", "/api/metrics", "/api/cache/clear", "/metrics"),
    *("/api/events", "/api/events/ws", "/api/events/schema", "/api/config", "/dashboard"),
    *("/api/circuits/reset", "/api/config/reload"),
]
ISSUE = {"service": "jira", "tool_name": "jira_get_issue", "params": {}}
QUERY = {"service": "salesforce", "tool_name": "salesforce_query", "params": {}}
LIST = rpc("tools/list")
TOKEN = "s3cret-\xe4"
BEARER = f"Authorization: Bearer {TOKEN}".encode().decode("latin-1")
CLEAR = "/api/cache/clear"


async def watched(front: Opened, upstream: Upstream, **settings: Any) -> Front:
    """Return a sidecar whose health monitor has looked once."""
    sidecar = await front(**settings)
    sidecar.sidecar.start()
    while sidecar.sidecar.targets[0].monitor.last is None:  # noqa: ASYNC110 - what was seen has no event
        await asyncio.sleep(0)  # noqa: TID251 - lets the probe's answer in
    return sidecar


# --- in general


@pytest.mark.parametrize("path", OURS)
async def test_own_endpoints_shadow_the_servers(
    front: Opened, upstream: Upstream, path: str
) -> None:
    sidecar = await front()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        await sidecar.ask(request(method, f"{path}?x=1"))
    assert upstream.asked == []


@pytest.mark.parametrize(
    "path", ["/livez/", "/api/healthy", "/api/cache", "/API/health", "/metric"]
)
async def test_other_paths_are_the_servers(front: Opened, upstream: Upstream, path: str) -> None:
    await (await front()).ask(get(path))
    assert upstream.asked[0].target == path


@pytest.mark.parametrize(("path", "allow"), [(path, "GET, HEAD, OPTIONS") for path in OURS[:4]])
async def test_a_get_endpoint_takes_get_alone(front: Opened, path: str, allow: str) -> None:
    sidecar = await front()
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        heard = await sidecar.ask(request(method, path))
        assert heard.status == 405
        assert heard["Allow"] == allow
        assert heard["Content-Type"] == "application/problem+json"
        assert heard.json["code"] == "method_not_allowed"
    heard = await sidecar.ask(request("OPTIONS", path))
    assert (heard.status, heard["Allow"]) == (204, allow)


async def test_a_get_changes_nothing(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 6, F38: an image tag of a foreign page asks with GET."""
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    await sidecar.ask(post("/mcp", LIST))
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        heard = await sidecar.ask(request(method, CLEAR))
        assert heard.status == 405
        assert heard["Allow"] == "POST, OPTIONS"
    assert "hit" in (await sidecar.ask(post("/mcp", LIST)))["Cache-Status"]


@pytest.mark.parametrize("path", OURS[:4])
async def test_nobody_keeps_what_we_say_of_ourselves(front: Opened, path: str) -> None:
    """And HEAD tells the same without saying it."""
    sidecar = await front()
    heard = await sidecar.ask(get(path))
    assert heard["Cache-Control"] == "no-store"
    assert heard["Content-Type"] == "application/json"
    head = await sidecar.ask(request("HEAD", path))
    assert (head.status, head.body) == (heard.status, b"")


async def test_the_probes_tell_alive_and_ready(front: Opened) -> None:
    """Liveness never looks at the server."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    live, ready = [await sidecar.ask(get(path)) for path in OURS[:2]]
    assert (live.status, live.json) == (200, {"status": "alive"})
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    sidecar.sidecar.inbound.draining = True
    live, ready = [await sidecar.ask(get(path)) for path in OURS[:2]]
    assert live.status == 200
    assert (ready.status, ready.json) == (503, {"status": "draining"})


# --- health


HEALTH = {
    "status": "healthy",
    "timestamp": "2026-01-01T00:00:00",
    "connections": {"jira": {"connected": True}},
    "available_tools": 7,
}


async def test_health_keeps_the_servers_fields_beside_ours(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 6: our status wins, the old one is `upstream_status`."""
    upstream.own = answer(json.dumps(HEALTH).encode())
    heard = await (await watched(front, upstream)).ask(get("/api/health"))
    assert heard.status == 200
    said = heard.json
    assert said["status"] == said["upstream_status"] == "healthy"
    assert {name: said[name] for name in HEALTH} == HEALTH
    assert said["services"] == HEALTH["connections"]
    assert said["upstream"]["state"] == "present"
    assert said["upstream"]["probe_status"] == 200
    assert said["cache"]["store"] == "memory"
    assert said["cache"]["hits"] == said["cache"]["misses"] == 0
    assert {circuit["state"] for circuit in said["circuits"].values()} == {"closed"}
    assert said["failures"] == {}
    assert said["uptime_seconds"] >= 0
    assert said["version"]


async def test_a_server_that_calls_itself_ill_is_degraded(
    front: Opened, upstream: Upstream
) -> None:
    upstream.own = answer(json.dumps({**HEALTH, "status": "sick"}).encode())
    heard = await (await watched(front, upstream)).ask(get("/api/health"))
    assert (heard.status, heard.json["status"]) == (200, "degraded")
    assert heard.json["upstream_status"] == "sick"


async def test_a_server_without_a_health_page_is_alive(front: Opened, upstream: Upstream) -> None:
    """Any status below 500."""
    heard = await (await watched(front, upstream)).ask(get("/api/health"))
    assert (heard.status, heard.json["status"]) == (200, "healthy")
    assert heard.json["upstream"]["probe_status"] == 404


async def test_a_failing_server_is_degraded(front: Opened, upstream: Upstream) -> None:
    upstream.own = answer(status="500 Oh No")
    heard = await (await watched(front, upstream)).ask(get("/api/health"))
    assert (heard.status, heard.json["status"]) == (200, "degraded")
    assert heard.json["upstream"]["failed_probes"] == 1


async def test_a_server_that_is_away_is_unhealthy(front: Opened, upstream: Upstream) -> None:
    """503 only if it cannot be reached."""
    url = f"http://localhost:{unused_port()}"
    heard = await (await watched(front, upstream, MCP_UPSTREAM_URL=url)).ask(get("/api/health"))
    assert (heard.status, heard.json["status"]) == (503, "unhealthy")
    assert heard.json["upstream"]["state"] == "lost"
    assert heard.json["upstream"]["probe_error"] == "upstream_unreachable"


@pytest.mark.parametrize(
    "page",
    [b"", b"<html>", b"[1]", b'"ok"', b'{"status": ' + b"[" * 400 + b"]" * 400 + b"}", b"\xff"],
)
async def test_a_health_page_that_says_nothing_breaks_nothing(
    front: Opened, upstream: Upstream, page: bytes
) -> None:
    """F17: depth, too."""
    upstream.own = answer(page)
    heard = await (await watched(front, upstream)).ask(get("/api/health"))
    assert (heard.status, heard.json["status"]) == (200, "healthy")


async def test_health_shows_no_password_of_the_upstream_url(
    front: Opened, upstream: Upstream
) -> None:
    """F42."""
    url = upstream.url.replace("//", "//me:canary@")
    sidecar = await watched(front, upstream, MCP_UPSTREAM_URL=url)
    for path in OURS[2:4]:
        assert b"canary" not in (await sidecar.ask(get(path))).body
    assert "canary" not in str(sidecar.told())


# --- metrics


async def test_metrics_count_calls(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    for _ in range(2):
        await sidecar.ask(post("/mcp", LIST))
    said = (await sidecar.ask(get("/api/metrics"))).json
    assert said["total"]["requests"] == 2
    assert said["total"]["cache"]["hits"] == 1
    assert said["tools"][0]["tool"] == "tools/list"
    assert said["open_streams"] == said["sessions"] == 0
    assert said["answered_at_once"] == 1
    assert said["concurrency"]["in_flight"] == 0
    assert said["cache"]["entries"] == 1
    assert said["circuits"]


async def test_an_invalidation_is_counted_and_told(front: Opened, upstream: Upstream) -> None:
    """Issue 4: per tool, in both places; DESIGN section 6: cache.invalidated."""
    upstream.plays(answer(result(1, tools=[])), answer(result(1, content=[])))
    sidecar = await front(MCP_LOG_LEVEL="debug")
    await sidecar.ask(post("/mcp", LIST))
    await sidecar.ask(post("/mcp", tool("save")))
    await sidecar.ask(post("/mcp", tool("save")))
    metrics = (await sidecar.ask(get("/api/metrics"))).json
    rows = {row["tool"]: row["cache"] for row in metrics["tools"]}
    assert (rows["save"]["invalidations"], rows["tools/list"]["entries"]) == (2, 0)
    assert metrics["cache"]["invalidations"] == 2
    health = (await sidecar.ask(get("/api/health"))).json["cache"]
    assert {row["tool"]: row["invalidations"] for row in health["tools"]} == {
        "tools/list": 0,
        "save": 2,
    }
    told = [event for event in sidecar.told() if event["event"] == "cache.invalidated"]
    assert [(one["level"], one["tool"], one["reason"], one["entries"]) for one in told] == [
        ("info", "save", "write", 1),
        ("debug", "save", "write", 0),
    ]


async def test_metrics_can_be_switched_off(front: Opened) -> None:
    """DESIGN section 7: then the endpoint is 404."""
    heard = await (await front(MCP_ENABLE_METRICS="false")).ask(get("/api/metrics"))
    assert (heard.status, heard.json["code"]) == (404, "not_found")


async def test_what_is_off_is_shown_as_off(front: Opened) -> None:
    sidecar = await front(MCP_ENABLE_CACHING="false", MCP_ENABLE_CIRCUIT_BREAKER="false")
    assert (await sidecar.ask(get("/api/health"))).json["cache"] == {"store": "off"}
    said = (await sidecar.ask(get("/api/metrics"))).json
    assert (said["cache"], said["circuits"]) == (None, {})
    assert (await sidecar.ask(post(CLEAR, b""))).json == {"cleared": "all", "entries": 0}


# --- metrics, as Prometheus reads them

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/metrics", [], PROMETHEUS),
        ("/metrics", ["*/*"], PROMETHEUS),
        ("/metrics", ["image/png"], PROMETHEUS),
        ("/metrics", ["application/json"], PROMETHEUS),
        ("/metrics", ["application/openmetrics-text"], OPENMETRICS),
        ("/metrics", ["application/openmetrics-text;q=0.5,text/plain"], PROMETHEUS),
        ("/metrics", ["text/plain;q=0.5", "application/openmetrics-text"], OPENMETRICS),
        ("/api/metrics", ["text/plain"], PROMETHEUS),
        ("/api/metrics", ["application/openmetrics-text;version=1.0.0"], OPENMETRICS),
        ("/api/metrics", [], "application/json"),
        ("/api/metrics", ["*/*"], "application/json"),
        ("/api/metrics", ["image/png"], "application/json"),
        ("/api/metrics", ["application/json, text/plain, */*"], "application/json"),
    ],
)
async def test_metrics_come_in_the_form_that_is_asked_for(
    front: Opened, upstream: Upstream, path: str, accept: list[str], kind: str
) -> None:
    """DESIGN section 6; and HEAD tells the same without saying it."""
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    await sidecar.ask(post("/mcp", LIST))
    asked = [f"Accept: {one}" for one in accept]
    heard = await sidecar.ask(get(path, *asked))
    assert (heard.status, heard["Content-Type"]) == (200, kind)
    assert heard["Cache-Control"] == "no-store"
    if kind == "application/json":
        assert heard.json["total"]["requests"] == 1
    else:
        counted = b'mcp_sidecar_calls_total{service="",tool="tools/list",verdict="ok"} 1.0\n'
        assert counted in heard.body
        assert heard.body.endswith(b"# EOF\n") == (kind == OPENMETRICS)
    head = await sidecar.ask(request("HEAD", path, *asked))
    assert (head.status, head["Content-Type"], head.body) == (200, kind, b"")
    assert int(head["Content-Length"]) > 0
    assert len(upstream.asked) == 1


async def test_prometheus_is_told_how_everything_stands(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await watched(front, upstream)
    for _ in range(2):
        await sidecar.ask(post("/mcp", LIST))
    told = (await sidecar.ask(get("/metrics"))).body.decode().splitlines()
    target = sidecar.sidecar.targets[0].name
    listed = 'service="",tool="tools/list"'
    for line in [
        f'mcp_sidecar_target_up{{target="{target}"}} 1.0',
        f'mcp_sidecar_target_healthy{{target="{target}"}} 1.0',
        f'mcp_sidecar_circuit_state{{circuit="target {target}",state="closed"}} 1.0',
        f'mcp_sidecar_cache_results_total{{result="hit",{listed}}} 1.0',
        f'mcp_sidecar_cache_results_total{{result="miss",{listed}}} 1.0',
        f"mcp_sidecar_call_duration_seconds_count{{{listed}}} 2.0",
        f"mcp_sidecar_attempts_total{{{listed}}} 1.0",
        'mcp_sidecar_calls_shed_total{reason="queue_full"} 0.0',
        "mcp_sidecar_cache_entries 1.0",
        "mcp_sidecar_answered_at_once_total 1.0",
        "mcp_sidecar_calls_in_flight 0.0",
    ]:
        assert line in told


async def test_prometheus_sees_calls_at_their_target(front: Opened, upstream: Upstream) -> None:
    """With one target, and with several."""
    may_end = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await may_end.wait()
        await exchange.send(answer(result(1, content=[])))

    upstream.plays(slow)
    other = f"http://127.0.0.1:{unused_port()}"
    for urls in (upstream.url, f"{upstream.url},{other}"):
        begun = upstream.begun
        sidecar = await front(MCP_UPSTREAM_URL=urls)
        async with sidecar.client() as client:
            await client.send(post("/mcp", tool("look")))
            await upstream.until(lambda: upstream.begun > begun)  # noqa: B023 - awaited here
            told = (await sidecar.ask(get("/metrics"))).body.decode()
            name = sidecar.sidecar.targets[0].name
            assert f'mcp_sidecar_target_calls{{target="{name}"}} 1.0\n' in told
            may_end.set()
            assert (await client.hear()).status == 200
        may_end.clear()


async def test_metrics_of_several_sidecars_are_their_own(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(result(1, tools=[])))
    first, second = await front(), await front(MCP_ENABLE_CACHING="false")
    await first.ask(post("/mcp", LIST))
    told = [(await one.ask(get("/metrics"))).body for one in (first, second)]
    assert [b'tool="tools/list"' in one for one in told] == [True, False]
    assert [b"mcp_sidecar_cache_entries" in one for one in told] == [True, False]


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
async def test_prometheus_gets_nothing_when_metrics_are_off(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """DESIGN section 7; the server's own page is not shown in its place."""
    sidecar = await front(MCP_ENABLE_METRICS="false")
    heard = await sidecar.ask(get(path, "Accept: text/plain"))
    assert (heard.status, heard.json["code"]) == (404, "not_found")
    assert upstream.asked == []


# --- clearing the cache


@pytest.fixture
async def filled(front: Opened, upstream: Upstream, tmp_path: Path) -> Front:
    """Return a sidecar that knows two tools' answers and a list."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[tools."*"]\nread_only = true\n')
    upstream.plays(answer(b'{"success": true}'), answer(b'{"success": true}'), answer(result(1)))
    sidecar = await front(MCP_CONFIG_FILE=rules)
    for _ in "ab":
        await sidecar.ask(post("/api/call-tool", ISSUE))
        await sidecar.ask(post("/api/call-tool", QUERY))
        await sidecar.ask(post("/mcp", LIST))
    assert len(upstream.asked) == 3
    return sidecar


async def known(sidecar: Front) -> str:
    """Return which of the three are still known; what is not is asked for anew, and fails."""
    asked = {"i": post("/api/call-tool", ISSUE), "q": post("/api/call-tool", QUERY)}
    asked["l"] = post("/mcp", LIST)
    return "".join(
        [name for name, raw in asked.items() if "; hit" in (await sidecar.ask(raw))["Cache-Status"]]
    )


@pytest.mark.parametrize(
    ("target", "body", "left"),
    [
        (CLEAR, b"", ""),
        (CLEAR, b" \n", ""),
        (CLEAR, b"{}", ""),
        (f"{CLEAR}?service=jira", b"", "ql"),
        (CLEAR, b'{"service": "jira"}', "ql"),
        (CLEAR, b'{"tool": "salesforce_query"}', "il"),
        (f"{CLEAR}?service=jira", b'{"tool": "jira_get_issue"}', "ql"),
        (f"{CLEAR}?service=jira&tool=salesforce_query", b"", "iql"),
        (f"{CLEAR}?tool=other", b'{"tool": "jira_get_issue"}', "ql"),
    ],
)
async def test_a_clear_forgets_what_it_names(
    filled: Front, target: str, body: bytes, left: str
) -> None:
    heard = await filled.ask(post(target, body))
    assert heard.status == 200
    assert heard.json["entries"] == 3 - len(left)
    assert await known(filled) == left


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (f"{CLEAR}?tol=jira_get_issue", b""),
        (f"{CLEAR}?tool=", b""),
        (f"{CLEAR}?tool=jira_get_issue&tool=salesforce_query", b""),
        (CLEAR, b'{"tool": 5}'),
        (CLEAR, b'{"tool": null}'),
        (CLEAR, b'{"tool": "x", "all": true}'),
        (CLEAR, b"[]"),
        (CLEAR, b'"all"'),
        (CLEAR, b"tool=jira_get_issue"),
        (CLEAR, b"{"),
        (CLEAR, b'{"tool": "' + b"x" * 20_000 + b'"}'),
        (CLEAR, b" " * 20_000 + b'{"tool": "jira_get_issue"}'),
    ],
)
async def test_a_clear_that_is_not_understood_clears_nothing(
    filled: Front, target: str, body: bytes
) -> None:
    """A typing mistake must not clear everything."""
    heard = await filled.ask(post(target, body))
    assert heard.status == 400
    assert heard["Content-Type"] == "application/problem+json"
    assert heard.json["code"] == "bad_request"
    assert len(heard.body) < 500
    assert await known(filled) == "iql"


async def test_a_narrowing_that_comes_in_pieces_is_read_whole(filled: Front) -> None:
    raw = post(CLEAR, {"tool": "jira_get_issue"})
    async with filled.client() as client:
        await client.send(raw[:-10])
        await filled.ask(get("/livez"))
        await client.send(raw[-10:])
        heard = await client.hear()
    assert (heard.status, heard.json["entries"]) == (200, 1)
    assert await known(filled) == "ql"


async def test_one_answer_is_cleared_by_the_key_that_its_status_shows(filled: Front) -> None:
    heard = await filled.ask(post("/mcp", rpc("tools/list")))
    key = heard["Cache-Status"].partition('key="')[2][:16]
    cleared = await filled.ask(post(CLEAR, {"key": key}))
    assert cleared.json == {"cleared": {"key": key}, "entries": 1}
    assert await known(filled) == "iq"


@pytest.mark.parametrize(("older_than", "entries"), [(3600, 0), ("3600", 0), (0, 3), ("0.0", 3)])
async def test_answers_of_some_age_are_cleared(
    filled: Front, older_than: float | str, entries: int
) -> None:
    cleared = await filled.ask(post(CLEAR, {"older_than": older_than}))
    assert cleared.json["entries"] == entries


@pytest.mark.parametrize(
    "asked",
    [
        {"older_than": -1},
        {"older_than": "old"},
        {"older_than": True},
        {"older_than": None},
        {"older_than": 1e300},
        {"older_than": 1, "tool": "x"},
        {"key": "a", "tool": "x"},
        {"key": ""},
    ],
)
async def test_a_narrowing_that_cannot_be_meant_clears_nothing(
    filled: Front, asked: dict[str, object]
) -> None:
    before = await known(filled)
    heard = await filled.ask(post(CLEAR, asked))
    assert heard.status == 400
    assert await known(filled) == before


async def test_a_clear_is_told(filled: Front) -> None:
    await filled.ask(post(f"{CLEAR}?service=jira", b""))
    await filled.ask(post(CLEAR, b""))
    told = [event for event in filled.told() if event["event"] == "cache.cleared"]
    assert [(event["scope"], event["entries"]) for event in told] == [
        ("service=jira", 1),
        ("all", 2),
    ]


# --- the admin token


@pytest.mark.parametrize(
    "raw",
    [
        get("/api/metrics"),
        get("/api/metrics", "Accept: text/plain"),
        get("/metrics"),
        post(CLEAR, b""),
    ],
)
async def test_the_token_guards_what_changes_or_reveals(front: Opened, raw: bytes) -> None:
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    wrong = ["", "Authorization: Bearer x", BEARER + "x", BEARER.replace("Bearer", "Basic")]
    for header in wrong:
        asked = raw.replace(b"Host:", header.encode("latin-1") + b"\r\nHost:") if header else raw
        heard = await sidecar.ask(asked)
        assert heard.status == 401
        assert heard["WWW-Authenticate"] == 'Bearer realm="mcp-sidecar"'
        assert TOKEN.encode() not in heard.body
    asked = raw.replace(b"Host:", BEARER.encode("latin-1") + b"\r\nHost:")
    assert (await sidecar.ask(asked)).status == 200


async def test_a_refused_clear_clears_nothing(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    await sidecar.ask(post("/mcp", LIST))
    assert (await sidecar.ask(post(CLEAR, b""))).status == 401
    assert "hit" in (await sidecar.ask(post("/mcp", LIST)))["Cache-Status"]


async def test_what_does_not_reveal_stays_open(front: Opened, upstream: Upstream) -> None:
    """Probes and health; and the token is asked of nobody who asks the server."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    for path in (*OURS[:3], "/page"):
        assert (await sidecar.ask(get(path))).status in {200, 503}
    assert len(upstream.asked) == 1


# --- circuits


RESET = "/api/circuits/reset"
BROKEN = answer(b"{}", status="500 Internal Server Error")


async def opened(front: Opened, upstream: Upstream, **settings: Any) -> Front:
    """Return a sidecar with an open circuit for each of two tools."""
    upstream.plays(BROKEN)
    sidecar = await front(MCP_CB_FAILURE_THRESHOLD=1, MCP_MAX_RETRIES=0, **settings)
    for name in ("a", "b"):
        await sidecar.ask(post("/mcp", tool(name)))
    assert [await state_of(sidecar, name) for name in ("a", "b")] == ["open", "open"]
    return sidecar


async def state_of(front: Front, name: str) -> Any:
    return (await front.sidecar.operations.health())[1]["circuits"][f"tool {name}"]["state"]


async def test_a_reset_closes_all_circuits(front: Opened, upstream: Upstream) -> None:
    sidecar = await opened(front, upstream)
    heard = await sidecar.ask(request("POST", RESET))
    assert (heard.status, heard.json) == (200, {"reset": ["tool a", "tool b"]})
    assert [await state_of(sidecar, name) for name in ("a", "b")] == ["closed", "closed"]
    begun = upstream.begun
    await sidecar.ask(post("/mcp", tool("a")))
    assert upstream.begun == begun + 1
    changes = [one for one in sidecar.told() if one["event"] == "circuit.state_changed"]
    assert [one["circuit"] for one in changes if one["after"] == "closed"] == ["tool a", "tool b"]


@pytest.mark.parametrize(
    "asked", [post(RESET, {"circuit": "tool a"}), request("POST", f"{RESET}?circuit=tool%20a")]
)
async def test_a_reset_may_name_a_circuit(front: Opened, upstream: Upstream, asked: bytes) -> None:
    sidecar = await opened(front, upstream)
    assert (await sidecar.ask(asked)).json == {"reset": ["tool a"]}
    assert [await state_of(sidecar, name) for name in ("a", "b")] == ["closed", "open"]
    assert (await sidecar.ask(asked)).json == {"reset": []}


async def test_a_reset_of_no_circuit_is_404(front: Opened, upstream: Upstream) -> None:
    sidecar = await opened(front, upstream)
    heard = await sidecar.ask(post(RESET, {"circuit": "tool c"}))
    assert (heard.status, heard.json["code"]) == (404, "not_found")
    assert [await state_of(sidecar, name) for name in ("a", "b")] == ["open", "open"]


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"circuit": 1}', b'{"circuit": ""}', b'{"tool": "a"}']
)
async def test_a_reset_that_is_not_understood_closes_nothing(
    front: Opened, upstream: Upstream, body: bytes
) -> None:
    """A typing mistake must not close everything."""
    sidecar = await opened(front, upstream)
    heard = await sidecar.ask(post(RESET, body))
    assert (heard.status, heard.json["code"]) == (400, "bad_request")
    assert await state_of(sidecar, "a") == "open"


async def test_a_reset_is_guarded(front: Opened, upstream: Upstream) -> None:
    sidecar = await opened(front, upstream, MCP_ADMIN_TOKEN="s3cret")
    assert (await sidecar.ask(request("POST", RESET))).status == 401
    evil = request("POST", RESET, "Origin: https://evil.example", "Authorization: Bearer s3cret")
    assert (await sidecar.ask(evil)).status == 403
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        heard = await sidecar.ask(request(method, RESET, "Authorization: Bearer s3cret"))
        assert (heard.status, heard["Allow"]) == (405, "POST, OPTIONS")
    assert await state_of(sidecar, "a") == "open"
    heard = await sidecar.ask(request("POST", RESET, "Authorization: Bearer s3cret"))
    assert heard.status == 200
    assert await state_of(sidecar, "a") == "closed"


async def test_without_circuits_there_is_none_to_close(front: Opened) -> None:
    sidecar = await front(MCP_ENABLE_CIRCUIT_BREAKER="false")
    assert (await sidecar.ask(request("POST", RESET))).json == {"reset": []}
    assert (await sidecar.ask(post(RESET, {"circuit": "tool a"}))).status == 404
