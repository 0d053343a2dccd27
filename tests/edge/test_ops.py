"""A port for operators (MCP_OPS_PORT): what moves there, what stays, and that it is guarded as well."""

import pytest

from mcp_proxy.edge import dashboard
from tests.edge.conftest import Opened
from tests.edge.wire import Front, Upstream, answer, get, post, request, unused_port

MOVED = [
    *("/livez", "/readyz", "/metrics", "/api/events", "/api/events/ws", "/api/events/schema"),
    *("/api/config", "/dashboard/", *dashboard.files()),
]
STAYING = ["/api/health", "/api/metrics", "/api/cache/clear"]
TOKEN = "a token of some length"


async def two_ports(front: Opened, **settings: str) -> Front:
    return await front(MCP_OPS_PORT=unused_port(), **settings)


@pytest.mark.parametrize("path", MOVED)
async def test_what_moves_is_the_servers_on_the_main_port(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """DESIGN section 6: all but the first two and the cache clear."""
    upstream.plays(answer(b"theirs", kind="text/plain"))
    sidecar = await two_ports(front)
    heard = await sidecar.ask(get(path))
    assert heard.body == b"theirs"
    assert upstream.asked[0].target == path
    # of the server's pages, nobody is refused less
    assert (await sidecar.ask(get(path, "Host: evil.example"))).status == 421


@pytest.mark.parametrize("path", STAYING)
async def test_what_stays_is_found_on_both(front: Opened, upstream: Upstream, path: str) -> None:
    sidecar = await two_ports(front)
    method = "POST" if path.endswith("clear") else "GET"
    for port in (sidecar.port, sidecar.ops_port):
        heard = await sidecar.ask(request(method, path), port)
        assert heard["Content-Type"] == "application/json"
        assert (await sidecar.ask(request("DELETE", path), port)).status == 405
    assert upstream.begun == 0


@pytest.mark.parametrize("path", MOVED)
async def test_what_moves_is_ours_on_the_other_port(
    front: Opened, upstream: Upstream, path: str
) -> None:
    sidecar = await two_ports(front)
    heard = await sidecar.ask(request("HEAD", path), sidecar.ops_port)
    assert heard.status in {200, 308, 400}  # 400: no WebSocket was asked for
    assert upstream.begun == 0


@pytest.mark.parametrize("path", ["/", "/mcp", "/api/call-tool", "/x", "/sse"])
async def test_no_request_of_the_other_port_reaches_the_server(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """It may be open to others than the main one."""
    sidecar = await two_ports(front)
    for raw in (get(path), post(path, b"{}"), get(f"http://localhost:{upstream.port}{path}")):
        assert (await sidecar.ask(raw, sidecar.ops_port)).status in {400, 404}
    assert upstream.begun == 0


async def test_the_other_port_is_guarded_as_the_main_one(front: Opened) -> None:
    """The same rules of Host, Origin and token."""
    sidecar = await two_ports(front, MCP_ADMIN_TOKEN=TOKEN)
    port = sidecar.ops_port
    for path in [*MOVED, *STAYING]:
        probe = path in {"/livez", "/readyz"}
        heard = await sidecar.ask(get(path, "Host: evil.example"), port)
        assert heard.status == (200 if probe else 421)
        heard = await sidecar.ask(get(path, "Origin: http://evil.example"), port)
        assert heard.status == (200 if probe else 403)
    for path in ("/api/config", "/metrics", "/api/metrics", "/api/events"):
        assert (await sidecar.ask(get(path), port)).status == 401
    passing = get("/api/config", f"Authorization: Bearer {TOKEN}")
    assert (await sidecar.ask(passing, port)).status == 200
    assert (await sidecar.ask(post("/api/cache/clear", b""), port)).status == 401


async def test_it_tells_that_the_sidecar_drains(front: Opened) -> None:
    sidecar = await two_ports(front)
    assert (await sidecar.ask(get("/readyz"), sidecar.ops_port)).status == 200
    sidecar.sidecar.inbound.draining = True
    assert (await sidecar.ask(get("/readyz"), sidecar.ops_port)).status == 503
    heard = await sidecar.ask(get("/metrics"), sidecar.ops_port)
    assert (heard.status, heard.json["code"]) == (503, "draining")


async def test_without_the_setting_there_is_one_port(front: Opened) -> None:
    sidecar = await front()
    assert sidecar.ops_port == sidecar.port
    assert (await sidecar.ask(get("/livez"))).status == 200
