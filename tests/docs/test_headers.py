"""The page of headers names those that are met, and no other."""

import re

from tests.docs.pages import text
from tests.edge.conftest import Opened, front, upstream
from tests.edge.wire import Fields, Upstream, answer, get, post, result, rpc, streamed

__all__ = ["front", "upstream"]

# Of every HTTP message; the page of what changes on the wire has them.
OF_HTTP = {"host", "content-length", "content-type", "cache-control", "date", "transfer-encoding"}


def listed(title: str) -> set[str]:
    """Return the headers in the table below a title of the page."""
    (part,) = re.findall(
        rf"^## {title}\n(.*?)(?=^## |\Z)", text("docs/headers.md"), re.MULTILINE | re.DOTALL
    )
    return {name.lower() for name in re.findall(r"^\| `([\w-]+)` \|", part, re.MULTILINE)}


def names(headers: Fields) -> set[str]:
    return {name.lower() for name, _ in headers} - OF_HTTP - {"connection"}


async def test_answers_have_the_headers_of_the_page(front: Opened, upstream: Upstream) -> None:
    """A miss, a hit, one call too many, and a stream."""
    sidecar = await front(MCP_RATE_LIMIT_CLIENT="2/minute", MCP_MAX_RETRIES=0)
    upstream.plays(answer(result(tools=[])))
    kept = post("/mcp", rpc("tools/list"), "Authorization: Bearer a")
    miss, hit, refused = [names((await sidecar.ask(kept)).headers) for _ in range(3)]
    upstream.plays(streamed())
    async with sidecar.client() as client:
        await client.send(get("/mcp", "Accept: text/event-stream"))
        stream = names((await client.head()).headers)
    always = {"x-request-id", "via", "cache-status", "server-timing"}
    limits = {"ratelimit", "ratelimit-policy"}
    assert miss == always | limits
    assert hit == miss | {"age"}
    assert refused == miss | {"retry-after"}
    assert "x-accel-buffering" in stream
    assert listed("On answers") == miss | hit | refused | stream


async def test_the_server_gets_the_headers_of_the_page(front: Opened, upstream: Upstream) -> None:
    await (await front()).ask(get("/x"))
    assert names(upstream.asked[0].headers) == listed("On requests to the server")
