"""How a request is addressed onward: Host, X-Forwarded-*, and URLs that speak of the server."""

import json

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import Upstream, answer, get, post, rpc

WELL_KNOWN = "/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    ("setting", "host"),
    [("client", "localhost:1234"), ("mcp.example.com:8443", "mcp.example.com:8443")],
)
async def test_the_server_sees_the_host_that_the_settings_say(
    front: Opened, upstream: Upstream, setting: str, host: str
) -> None:
    sidecar = await front(MCP_UPSTREAM_HOST_HEADER=setting)
    await sidecar.ask(get("/x", "Host: localhost:1234"))
    assert upstream.asked[0].all("Host") == [host]
    assert upstream.asked[0]["X-Forwarded-Host"] == "localhost:1234"


async def test_our_own_looks_bear_the_name_too(front: Opened, upstream: Upstream) -> None:
    """A server that checks Host must find them right."""
    sidecar = await front(MCP_UPSTREAM_HOST_HEADER="mcp.example.com")
    sidecar.sidecar.start()
    await upstream.until(lambda: bool(upstream.looks))
    assert upstream.looks[0]["Host"] == "mcp.example.com"


async def test_a_location_of_that_name_is_mapped_back(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", "Location: http://mcp.example.com/next", status="302 Found"))
    heard = await (await front(MCP_UPSTREAM_HOST_HEADER="mcp.example.com")).ask(get("/x"))
    assert heard["Location"] == "http://localhost/next"


CLAIMS = (
    "X-Forwarded-For: 203.0.113.9, 198.51.100.2",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: mcp.example.com",
)


async def test_claims_of_a_stranger_are_replaced(front: Opened, upstream: Upstream) -> None:
    """F40."""
    await (await front()).ask(get("/x", *CLAIMS))
    asked = upstream.asked[0]
    assert asked.all("X-Forwarded-For") == ["127.0.0.1"]
    assert asked.all("X-Forwarded-Proto") == ["http"]
    assert asked.all("X-Forwarded-Host") == ["localhost"]


async def test_claims_of_a_trusted_proxy_are_passed_on(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", f"Location: {upstream.url}/next", status="302 Found"))
    sidecar = await front(MCP_TRUSTED_PROXIES="127.0.0.0/8,198.51.100.2")
    heard = await sidecar.ask(get("/x", *CLAIMS, "Origin: https://mcp.example.com"))
    asked = upstream.asked[0]
    assert asked.all("X-Forwarded-For") == ["203.0.113.9, 198.51.100.2, 127.0.0.1"]
    assert asked.all("X-Forwarded-Proto") == ["https"]
    assert asked.all("X-Forwarded-Host") == ["mcp.example.com"]
    assert heard["Location"] == "https://mcp.example.com/next"


async def test_an_origin_that_only_a_stranger_calls_ours_is_refused(
    front: Opened, upstream: Upstream
) -> None:
    heard = await (await front()).ask(get("/x", *CLAIMS, "Origin: https://mcp.example.com"))
    assert heard.status == 403
    assert upstream.asked == []


# --- OAuth (protocol notes, section 6)


def challenge(origin: str) -> str:
    return f'WWW-Authenticate: Bearer resource_metadata="{origin}{WELL_KNOWN}"'


async def test_a_challenge_and_its_metadata_pass_as_they_are(
    front: Opened, upstream: Upstream
) -> None:
    document = json.dumps({"resource": f"{upstream.url}/mcp"}).encode()
    upstream.plays(
        answer(b"no", challenge(upstream.url), status="401 Unauthorized"), answer(document)
    )
    sidecar = await front()
    refused = await sidecar.ask(post("/mcp", rpc("tools/list")))
    assert (refused.status, refused.body) == (401, b"no")
    assert refused["WWW-Authenticate"] == challenge(upstream.url).partition(": ")[2]
    assert (await sidecar.ask(get(WELL_KNOWN))).body == document


async def test_a_public_url_takes_the_place_of_the_servers(
    front: Opened, upstream: Upstream
) -> None:
    document = json.dumps({"resource": f"{upstream.url}/mcp", "scopes_supported": []}).encode()
    upstream.plays(
        answer(b"no", challenge(upstream.url), status="401 Unauthorized"),
        answer(document, 'ETag: "a"'),
        answer(document),
    )
    sidecar = await front(MCP_PUBLIC_URL="https://mcp.example.com/")
    refused = await sidecar.ask(post("/mcp", rpc("tools/list")))
    assert refused["WWW-Authenticate"] == challenge("https://mcp.example.com").partition(": ")[2]
    heard = await sidecar.ask(get(WELL_KNOWN))
    assert heard.json == {"resource": "https://mcp.example.com/mcp", "scopes_supported": []}
    assert "ETag" not in heard
    assert (await sidecar.ask(get("/elsewhere"))).body == document
