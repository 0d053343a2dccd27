"""Who may not ask: every endpoint, every way in, under a hostile Host, Origin, site or token."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.guesses import TRIES
from mcp_proxy.edge import dashboard
from tests.edge.conftest import Opened
from tests.edge.wire import Front, Upstream, answer, get, post, request, result, rpc

PROBES = ["/livez", "/readyz"]
GUARDED = [
    *("/api/metrics", "/api/config", "/api/cache/clear", "/metrics"),
    *("/api/circuits/reset", "/api/config/reload"),
    *("/api/events", "/api/events/ws"),
]
OURS = [*GUARDED, "/api/health", "/api/events/schema", "/dashboard/", *dashboard.files()]
# what is passed on, by each of the roads: MCP, its stream, legacy SSE and its messages, REST, the rest
PASSED_ON = [
    "/mcp",
    "/mcp/",
    "/sse",
    "/messages?session=1",
    "/api/call-tool",
    "/api/chat",
    "/",
    "/x",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"]
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
HOSTS = [
    *("evil.example", "localhost.evil.example:8000", "127.0.0.1.nip.io", "localhost@evil.example"),
    *(
        "localhost:80:80",
        "localhost/",
        "",
        "[::1].evil.example",
        "localhost,evil.example",
        "2130706433.x",
    ),
    *("localhost evil.example", "evil.example#localhost", "\xe9vil.example", "evil.example."),
]
ORIGINS = [
    *(
        "http://evil.example",
        "null",
        "file://",
        "http://localhost.evil.example",
        "http://a@localhost",
    ),
    *(
        "https://127.0.0.1.nip.io",
        "http://localhost:80:80",
        "javascript://localhost",
        "",
        "localhost",
    ),
    *(
        "http://localhost, http://evil.example",
        "http://[::1].evil.example",
        "chrome-extension://abc",
    ),
]
CALL = rpc("tools/list")
RULES = '[tools."look"]\nread_only = true\n'
LOOK = {"service": "jira", "tool_name": "look", "params": {}}
DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "2026-01-01T00:00:00"}'
TOKEN = "a token of some length"


def asked(method: str, path: str, *fields: str) -> bytes:
    return request(
        method, path, *fields, body=b"{}" if method in {"POST", "PUT", "PATCH"} else None
    )


def test_the_list_of_our_endpoints_is_complete() -> None:
    """Else the tests below would leave out what comes to be."""

    async def listed() -> set[str]:
        from tests.edge.wire import sidecar

        async with sidecar("http://localhost:1") as front:
            return set(front.sidecar.inbound._own.routes)

    assert asyncio.run(listed()) == {*OURS, *PROBES}


@pytest.mark.parametrize("host", HOSTS)
async def test_no_endpoint_answers_to_a_foreign_host(
    front: Opened, upstream: Upstream, host: str
) -> None:
    """F37: DNS rebinding, on each path, with each method."""
    sidecar = await front()
    for path in [*OURS, *PASSED_ON]:
        for method in METHODS:
            heard = await sidecar.ask(asked(method, path, f"Host: {host}"))
            assert heard.status in {400, 421}, (method, path)
            assert "Access-Control-Allow-Origin" not in heard
    for path in ("/api/events/ws", "/mcp", "/x"):
        assert (await sidecar.ask(get(path, f"Host: {host}", *UPGRADE))).status in {400, 421}
    assert upstream.begun == 0


@pytest.mark.parametrize("origin", ORIGINS)
async def test_no_endpoint_answers_to_a_foreign_page(
    front: Opened, upstream: Upstream, origin: str
) -> None:
    """F37, F38: cross-site requests, WebSocket hijack; and the page may not read why."""
    sidecar = await front()
    for path in [*OURS, *PASSED_ON]:
        for method in METHODS:
            heard = await sidecar.ask(asked(method, path, f"Origin: {origin}"))
            assert heard.status == 403, (method, path)
            assert method == "HEAD" or b'"origin_not_allowed"' in heard.body
            assert "Access-Control-Allow-Origin" not in heard
    for path in ("/api/events/ws", "/mcp", "/x"):
        assert (await sidecar.ask(get(path, f"Origin: {origin}", *UPGRADE))).status == 403
    assert upstream.begun == 0


@pytest.mark.parametrize("path", PROBES)
async def test_a_probe_is_refused_to_nobody_and_tells_nothing(front: Opened, path: str) -> None:
    """DESIGN section 6; no page may read it."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    heard = await sidecar.ask(get(path, "Host: evil.example", "Origin: http://evil.example"))
    assert heard.status == 200
    assert set(heard.json) == {"status"}
    assert "Access-Control-Allow-Origin" not in heard
    assert (await sidecar.ask(post(path, b"", "Host: evil.example"))).status == 405


@pytest.mark.parametrize("doubled", ["Host: localhost\r\nHost: evil.example"])
async def test_two_hosts_are_none(front: Opened, upstream: Upstream, doubled: str) -> None:
    """CVE-2026-34525: which of them counts would depend on who reads."""
    assert (await (await front()).ask(get("/x", doubled))).status == 400
    assert upstream.begun == 0


async def hit(front: Opened, upstream: Upstream, tmp_path: Path) -> Front:
    """Return a sidecar that has answered a tool call at once, by the express way."""
    (tmp_path / "rules.toml").write_text(RULES)
    upstream.plays(answer(DONE))
    sidecar = await front(
        MCP_CONFIG_FILE=str(tmp_path / "rules.toml"), MCP_CACHE_IGNORE_HEADERS="Origin"
    )
    async with sidecar.client() as client:
        for _ in range(3):
            await client.ask(post("/api/call-tool", LOOK))
    assert sidecar.sidecar.inbound.express is not None
    assert sidecar.sidecar.inbound.express.answered == 2
    return sidecar


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        *((f"Host: {host}", {400, 421}) for host in HOSTS),
        *((f"Origin: {origin}", {403}) for origin in ORIGINS),
        ("Sec-Fetch-Site: cross-site", {403}),
    ],
)
async def test_a_hit_is_no_way_around_the_checks(
    front: Opened, upstream: Upstream, tmp_path: Path, fields: str, status: set[int]
) -> None:
    """F37: nor is one that is answered in the step in which its bytes come in."""
    sidecar = await hit(front, upstream, tmp_path)
    express = sidecar.sidecar.inbound.express
    assert express is not None
    raw = post("/api/call-tool", LOOK, fields)
    async with sidecar.client() as client:
        for _ in range(3):
            await client.send(raw)
            heard = await client.hear()
            assert heard.status in status
            if "Connection" in heard:
                break
    assert express.answered == 2
    assert len(upstream.asked) == 1


# --- pages of other sites


FORMS = [
    ("text/plain", b'{"tool": "x"}'),
    ("application/x-www-form-urlencoded", b"tool=x"),
    ("multipart/form-data; boundary=b", b"--b--\r\n"),
    ("", b""),
]


@pytest.mark.parametrize(("kind", "body"), FORMS)
@pytest.mark.parametrize(
    "site", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"]
)
async def test_a_form_of_another_site_changes_nothing(
    front: Opened, upstream: Upstream, kind: str, body: bytes, site: str
) -> None:
    """F38: what a browser sends without asking first; to us, and to the server behind."""
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    await sidecar.ask(post("/mcp", CALL))
    fields = [site, *([f"Content-Type: {kind}"] if kind else [])]
    for path in (
        "/api/cache/clear",
        "/api/cache/clear?tool=x",
        "/api/call-tool",
        "/mcp",
        "/messages",
    ):
        heard = await sidecar.ask(request("POST", path, *fields, body=body))
        assert heard.status == 403
    assert "hit" in (await sidecar.ask(post("/mcp", CALL)))["Cache-Status"]
    assert upstream.begun == 1


@pytest.mark.parametrize("mode", ["no-cors", "cors", ""])
async def test_other_sites_cannot_embed_what_is_ours(
    front: Opened, upstream: Upstream, mode: str
) -> None:
    """An image tag could hold event streams open; a link may lead to the dashboard."""
    sidecar = await front()
    fields = ["Sec-Fetch-Site: cross-site", *([f"Sec-Fetch-Mode: {mode}"] if mode else [])]
    for path in OURS:
        assert (await sidecar.ask(get(path, *fields))).status == 403
    assert (await sidecar.ask(get("/logo.png", *fields))).status == 200
    linked = get("/dashboard", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    assert (await sidecar.ask(linked)).status == 200


async def test_no_safe_method_changes_anything(front: Opened, upstream: Upstream) -> None:
    """F38, DESIGN section 6: GET never changes anything."""
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    await sidecar.ask(post("/mcp", CALL))
    before = sidecar.sidecar.admit.snapshot(), sidecar.sidecar.live.watchers
    for path in [*OURS, *PROBES]:
        if path == "/api/events":
            continue
        for method in ("GET", "HEAD", "OPTIONS"):
            await sidecar.ask(request(method, f"{path}?tool=x&older_than=0"))
    assert (sidecar.sidecar.admit.snapshot(), sidecar.sidecar.live.watchers) == before
    assert "hit" in (await sidecar.ask(post("/mcp", CALL)))["Cache-Status"]


# --- tokens


WRONG = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    f"bearer{TOKEN}",
    f"Bearer {TOKEN} ",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN.upper()}",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer " + "x" * 60_000,
    "Bearer \xff\xfe\xed\xa0\x80",
    "Bearer \xc3\xa4",
]


def with_token(path: str, said: str, method: str = "") -> bytes:
    way = UPGRADE if path.endswith("/ws") else ()
    changes = path.endswith(("clear", "reset", "reload"))
    method = method or ("POST" if changes else "GET")
    return request(
        method, path, *way, f"Authorization: {said}", body=b"" if method == "POST" else None
    )


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "said", [one for one in WRONG if not one.endswith(" ") or one == "Bearer "]
)
async def test_a_wrong_token_opens_nothing(front: Opened, path: str, said: str) -> None:
    """Of any length and any bytes."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    heard = await sidecar.ask(with_token(path, said))
    assert heard.status == 401
    assert heard["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in str(heard)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_of_a_token_is_told_in_any_case(front: Opened, scheme: str) -> None:
    """RFC 9110 section 11.1."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    assert (await sidecar.ask(with_token("/api/config", f"{scheme} {TOKEN}"))).status == 200


async def test_a_second_authorization_does_not_help(front: Opened) -> None:
    """The first of two counts, whoever added the other."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    both = get("/api/config", "Authorization: Bearer x", f"Authorization: Bearer {TOKEN}")
    assert (await sidecar.ask(both)).status in {400, 401}


async def test_guessing_a_token_takes_for_ever(front: Opened) -> None:
    """After some wrong ones from an address none is looked at for a while, not even the right one."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    right = get("/api/config", f"Authorization: Bearer {TOKEN}")
    assert (await sidecar.ask(right)).status == 200
    async with sidecar.client() as client:
        for number in range(TRIES):
            wrong = get("/api/config", f"Authorization: Bearer {number}")
            assert (await client.ask(wrong)).status == 401
        for path in GUARDED:
            heard = await client.ask(with_token(path, f"Bearer {TOKEN}"))
            assert heard.status == 429
            assert 1 <= int(heard["Retry-After"]) <= 6
    # who shows none, and what no token guards, is not held up
    assert (await sidecar.ask(get("/api/config"))).status == 401
    assert (await sidecar.ask(get("/api/health"))).status in {200, 503}
    assert (await sidecar.ask(get("/page"))).status == 200


async def test_one_address_does_not_lock_another_out(front: Opened) -> None:
    """Behind a proxy that is trusted, clients are told apart."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN, MCP_TRUSTED_PROXIES="127.0.0.1")

    async def shown(client: str, token: str) -> int:
        fields = (f"X-Forwarded-For: {client}", f"Authorization: Bearer {token}")
        return (await sidecar.ask(get("/api/config", *fields))).status

    for number in range(TRIES):
        assert await shown("192.0.2.1", str(number)) == 401
    assert await shown("192.0.2.1", TOKEN) == 429
    assert await shown("192.0.2.2", TOKEN) == 200
    # a network of its own has as many IPv6 addresses as it likes
    for number in range(TRIES):
        assert await shown(f"2001:db8::{number}", str(number)) == 401
    assert await shown("2001:db8::ffff", TOKEN) == 429


async def test_claiming_another_address_does_not_help(front: Opened) -> None:
    """X-Forwarded-For of somebody who is not trusted is not believed."""
    sidecar = await front(MCP_ADMIN_TOKEN=TOKEN)
    statuses: list[Any] = []
    for number in range(TRIES + 1):
        fields = (f"X-Forwarded-For: 192.0.2.{number}", "Authorization: Bearer x")
        statuses.append((await sidecar.ask(get("/api/config", *fields))).status)
    assert statuses == [401] * TRIES + [429]


# --- where requests go


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x", "201 x"])
async def test_no_answer_leads_us_to_another_server(
    front: Opened, upstream: Upstream, status: str
) -> None:
    """F39: addresses come of the settings alone; no redirect is followed, by no method."""
    canary = Upstream()
    await canary.start()
    there = f"http://localhost:{canary.port}/x"
    fields = (f"Location: {there}", f"Content-Location: {there}", f"Refresh: 0; url={there}")
    upstream.plays(answer(b"{}", *fields, f"Alt-Svc: h1=':{canary.port}'", status=status))
    upstream.own = answer(b"{}", f"Location: {there}", status=status)
    sidecar = await front()
    sidecar.sidecar.start()  # its own looks at the server, too
    for path in PASSED_ON:
        for method in ("GET", "POST", "DELETE"):
            heard = await sidecar.ask(asked(method, path))
            assert heard.status == int(status[:3])
            assert heard["Location"] == there
    await upstream.until(lambda: bool(upstream.looks))
    assert canary.begun == 0
    assert canary.looks == []
    await canary.stop()


async def test_a_stream_that_names_another_server_leads_us_nowhere(
    front: Opened, upstream: Upstream
) -> None:
    """F39: the `endpoint` of HTTP+SSE is for the client; what it posts goes where it always goes."""
    canary = Upstream()
    await canary.start()
    there = f"http://localhost:{canary.port}/messages?session=1"
    said = f"event: endpoint\r\ndata: {there}\r\n\r\n".encode()
    upstream.plays(answer(said, kind="text/event-stream"), answer())
    sidecar = await front()
    assert (await sidecar.ask(get("/sse", "Accept: text/event-stream"))).body == said
    await sidecar.ask(post("/messages?session=1", CALL))
    await sidecar.ask(post(f"/messages?endpoint={there}", CALL, f"Referer: {there}"))
    assert len(upstream.asked) == 3
    assert canary.begun == 0
    await canary.stop()
