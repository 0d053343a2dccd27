"""Asking the server: framing that is not trusted, places that are mapped, streams that are counted."""

import asyncio
from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import EMPTY, Call
from mcp_proxy.core.errors import BadRequestError
from mcp_proxy.core.intent import SAFE_HTTP
from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Upstream,
    answer,
    chunk,
    chunked,
    get,
    post,
    request,
    result,
    rpc,
    streamed,
    tool,
)

BODY = result(1, content=[])
SIZE = f"Content-Length: {len(BODY)}"


def raw(*headers: str, body: bytes = BODY, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers]).encode("latin-1") + b"\r\n\r\n" + body


BAD_FRAMING = {
    "longer than its length": raw("Content-Length: 5"),
    "another answer behind": raw(SIZE, body=BODY + raw(SIZE, body=b"x" * len(BODY))),
    "doubled length": raw(SIZE, "Content-Length: 3"),
    "the same length twice": raw(SIZE, SIZE),
    "list of lengths": raw(f"{SIZE}, {len(BODY)}"),
    "negative length": raw("Content-Length: -1"),
    "signed length": raw(f"Content-Length: +{len(BODY)}"),
    "hexadecimal length": raw("Content-Length: 0x10"),
    "length and chunks": raw("Content-Length: 3", "Transfer-Encoding: chunked", body=chunked(BODY)),
    "chunks and length": raw("Transfer-Encoding: chunked", SIZE, body=chunked(BODY)),
    "204 with a body": raw(SIZE, status="204 No Content"),
    "304 with a body": raw(SIZE, status="304 Not Modified"),
    "chunk of no size": raw("Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "chunk of negative size": raw("Transfer-Encoding: chunked", body=b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk longer than its size": raw("Transfer-Encoding: chunked", body=b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk of absurd size": raw("Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\nabc"),
    "endless trailers": raw(
        "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n" + b"X-T: 1\r\n" * 100_000 + b"\r\n"
    ),
    "line feeds alone": raw("Transfer-Encoding: chunked", body=b"3\nabc\n0\n\n"),
    "header beyond 64 KiB": raw("X-Long: " + "x" * 70_000, SIZE),
    "more than 128 fields": raw(*(f"X-{number}: 1" for number in range(140)), SIZE),
    "NUL": raw("X-A: a\x00b", SIZE),
    "carriage return": raw("X-A: a\rX-B: b", SIZE),
    "no colon": raw("X-A", SIZE),
    "space in a name": raw("X A: b", SIZE),
    "no name": raw(": b", SIZE),
    "status of two digits": raw(SIZE, status="99 Odd"),
    "status of four digits": raw(SIZE, status="1000 Odd"),
    "another protocol, unasked": raw("Connection: Upgrade", "Upgrade: x", status="101 X", body=b""),
    "another version": b"HTTP/2 200 OK\r\n\r\n" + BODY,
    "no HTTP": b"<html>\r\n\r\n",
}


@pytest.mark.parametrize("bad", BAD_FRAMING.values(), ids=BAD_FRAMING)
async def test_bad_framing_is_never_passed_on_nor_taken_for_the_next_answer(
    front: Opened, upstream: Upstream, bad: bytes
) -> None:
    """F9, F10, F11: 502 or the answer without its excess; the next request gets its own."""
    upstream.plays(bad, answer(b'{"jsonrpc":"2.0","id":1,"result":{"its": "own"}}'))
    sidecar = await front(MCP_MAX_RETRIES=0)
    async with sidecar.client() as client:
        first = await client.ask(post("/mcp", tool("x")))
        assert first.whole
        assert first.status == 200
        if first.body != BODY:
            found = first.json["result"]["_meta"]["mcp_proxy/error"]
            assert found["code"] == "upstream_broken"
            assert found["delivered"] == "unknown"
        second = await client.ask(post("/mcp", tool("x")))
    assert second.json["result"] == {"its": "own"}


@pytest.mark.parametrize("bad", BAD_FRAMING.values(), ids=BAD_FRAMING)
async def test_bad_framing_of_a_page_is_a_502(
    front: Opened, upstream: Upstream, bad: bytes
) -> None:
    """Also where no body is read before the head goes out: then it is cut."""
    upstream.plays(bad, answer(b"its own"))
    sidecar = await front(MCP_MAX_RETRIES=0)
    first = await sidecar.ask(get("/page"))
    assert first.status == 502 or not first.whole or first.body == BODY
    assert (await sidecar.ask(get("/page"))).body == b"its own"


@pytest.mark.parametrize(
    "good",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + raw(SIZE),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + raw(SIZE),
        raw(SIZE, status="200"),
        raw(SIZE, status="200 Wholly  Fine"),
        raw("Transfer-Encoding: Chunked", body=chunked(BODY)),
        raw(
            "Transfer-Encoding: chunked",
            body=b"%x;x=y\r\n%b\r\n0\r\nX-T: 1\r\n\r\n" % (len(BODY), BODY),
        ),
    ],
)
async def test_odd_but_sound_framing_is_understood(
    front: Opened, upstream: Upstream, good: bytes
) -> None:
    upstream.plays(good)
    heard = await (await front()).ask(post("/mcp", tool("x")))
    assert (heard.status, heard.body) == (200, BODY)
    assert heard["Content-Length"] == str(len(BODY))


async def test_a_lenient_reading_is_emitted_strictly(front: Opened, upstream: Upstream) -> None:
    """Re-emit the framing of answers, never trust it (libraries.md section 1)."""
    upstream.plays(b"HTTP/1.1 200 OK\nX-Folded: a\r\n b\nContent-Length: 2\n\nhi")
    heard = await (await front()).ask(get("/page"))
    assert heard["X-Folded"] == "a b"
    assert heard.body == b"hi"


# --- places


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("http://localhost:{port}/mcp", "http://box:1/mcp"),
        ("http://127.0.0.1:{port}/a?b=%7e#c", "http://box:1/a?b=%7e#c"),
        ("HTTP://LOCALHOST:{port}", "http://box:1/"),
        ("/mcp", "/mcp"),
        ("mcp", "mcp"),
        ("http://localhost:1/mcp", "http://localhost:1/mcp"),
        ("https://login.example/authorize?x=http://localhost:{port}/", None),
        ("https://localhost:{port}/mcp", None),
    ],
)
async def test_a_redirect_to_the_server_leads_to_us(
    front: Opened, upstream: Upstream, said: str, heard: str | None
) -> None:
    """Protocol.md section 6: `/mcp/` gives 307 with an absolute Location built from Host."""
    said = said.format(port=upstream.port)
    upstream.plays(answer(b"", f"Location: {said}", status="307 Temporary Redirect"))
    found = await (await front()).ask(request("POST", "/mcp/", "Host: box:1", body=b"{}"))
    assert found.status == 307
    assert found["Location"] == (said if heard is None else heard)
    assert len(upstream.asked) == 1  # inherited default: redirects are followed


async def test_a_redirect_for_a_client_without_host_is_a_path(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(b"", f"Location: {upstream.url}/mcp", status="307 X"))
    heard = await (await front()).ask(b"GET /mcp/ HTTP/1.0\r\n\r\n")
    assert heard["Location"] == "/mcp"


@pytest.mark.parametrize("said", ["{url}/app/mcp", "/app/mcp"])
async def test_a_redirect_under_a_prefix_loses_it(
    front: Opened, upstream: Upstream, said: str
) -> None:
    upstream.plays(answer(b"", "Location: " + said.format(url=upstream.url), status="307 X"))
    sidecar = await front(MCP_UPSTREAM_URL=f"{upstream.url}/app")
    heard = await sidecar.ask(get("/mcp/", "Host: box:1"))
    assert heard["Location"] == "http://box:1/mcp"


# --- what is streamed, and what is read whole


async def test_a_download_larger_than_the_buffer_flows(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 7: larger ones are streamed; F12."""
    large = bytes(range(256)) * 4096 * 8
    upstream.plays(answer(large))
    heard = await (await front()).ask(get("/download"))
    assert heard.body == large
    assert int(heard["Content-Length"]) == len(large)


@pytest.mark.parametrize("chunks", [False, True])
async def test_an_answer_larger_than_the_buffer_is_passed_and_not_kept(
    front: Opened, upstream: Upstream, *, chunks: bool
) -> None:
    large = result(1, tools=["x" * 5000])
    upstream.plays(
        answer(b"", "Transfer-Encoding: chunked") + chunked(large[:100], large[100:])
        if chunks
        else answer(large)
    )
    sidecar = await front(MCP_BUFFER_LIMIT=1000)
    for _ in range(2):
        heard = await sidecar.ask(post("/mcp", rpc("tools/list")))
        assert heard.body == large
        assert heard["Cache-Status"] == "mcp-sidecar; fwd=miss"
    assert len(upstream.asked) == 2


async def test_a_chunked_page_is_passed_piece_by_piece(front: Opened, upstream: Upstream) -> None:
    more = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await exchange.send(streamed("text/plain"), chunk(b"one"))
        await more.wait()
        await exchange.send(chunked(b"two"))

    upstream.plays(waits)
    async with (await front()).client() as client:
        await client.send(get("/page"))
        await client.head()
        assert await client.chunk() == b"one"
        more.set()
        assert await client.chunk() == b"two"
        assert await client.chunk() == b""


async def test_streams_beyond_their_number_are_refused(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 2, MCP_STREAMS_LIMIT: 503, and a place is free when one has ended."""

    async def listens(exchange: Exchange) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(listens)
    sidecar = await front(MCP_STREAMS_LIMIT=2)
    async with sidecar.client() as first, sidecar.client() as second:
        for client in (first, second):
            await client.send(get("/mcp", "Accept: text/event-stream"))
            assert (await client.head()).status == 200
        assert sidecar.sidecar.pools.open_streams == 2
        refused = await sidecar.ask(get("/mcp"))
        assert refused.status == 503
        assert refused.json["code"] == "overloaded"
        assert refused["Retry-After"] == "1"
        upstream.plays(answer(result(1, content=[])))
        assert (await sidecar.ask(post("/mcp", tool("x")))).status == 200
        upstream.plays(listens)
    streams = {on for on, asked in zip(upstream.on, upstream.asked, strict=True) if not asked.body}
    await upstream.until(lambda: not upstream.open & streams)
    async with sidecar.client() as third:
        await third.send(get("/mcp"))
        assert (await third.head()).status == 200


async def test_an_answer_of_a_read_feeds_the_catalogue(front: Opened, upstream: Upstream) -> None:
    """What a server says of its own tools in passing makes them reads (DESIGN section 4)."""
    listed = result(1, tools=[{"name": "look", "annotations": {"readOnlyHint": True}}])
    upstream.plays(answer(), answer(listed), answer(BODY))
    sidecar = await front()
    await sidecar.ask(get("/"))
    # the sidecar's own look at a server that has just come up unlearns what it knew
    await upstream.until(lambda: len(upstream.looks) == 2)
    await sidecar.ask(post("/mcp", rpc("tools/list")))
    for _ in range(2):
        heard = await sidecar.ask(post("/mcp", tool("look")))
    assert "hit" in heard["Cache-Status"]
    assert len(upstream.asked) == 3


async def test_a_pattern_makes_an_error_text_a_failure(
    front: Opened, upstream: Upstream, tmp_path: Any
) -> None:
    """DESIGN section 7, [failures]: then a read is tried again."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[tools.jira_get_issue]\nread_only = true\n[failures]\npatterns = ["not connected"]\n'
    )
    down = answer(b'{"success": false, "error": "service not connected"}')
    upstream.plays(down, answer(b'{"success": true, "data": "x"}'))
    read = {"service": "jira", "tool_name": "jira_get_issue", "params": {}}
    heard = await (await front(MCP_CONFIG_FILE=rules)).ask(post("/api/call-tool", read))
    assert heard.json["data"] == "x"
    assert heard.json["attempts"] == 2


async def test_a_list_that_two_could_read_apart_teaches_nothing(
    front: Opened, upstream: Upstream
) -> None:
    """F16: it passes unchanged, is not kept, and makes no tool a read."""
    look = b'{"name": "look", "annotations": {"readOnlyHint": true}}'
    doubled = b'{"jsonrpc": "2.0", "id": 1, "id": 1, "result": {"tools": [%b]}}' % look
    upstream.plays(answer(), answer(doubled), answer(BODY))
    sidecar = await front()
    await sidecar.ask(get("/"))
    await upstream.until(lambda: len(upstream.looks) == 2)
    heard = await sidecar.ask(post("/mcp", rpc("tools/list")))
    assert heard.body == doubled
    assert "stored" not in heard["Cache-Status"]
    for _ in range(2):
        assert "hit" not in (await sidecar.ask(post("/mcp", tool("look"))))["Cache-Status"]


# --- by itself


async def test_what_cannot_be_written_as_http_is_not_sent(
    front: Opened, upstream: Upstream
) -> None:
    """Our own parser refuses it first; this is the second lock."""
    headers = CIMultiDict({"Host": "localhost", "X-A": "a\r\nX-Injected: b"})
    call = Call("GET", "/x", headers, EMPTY, SAFE_HTTP, "request-1")
    with pytest.raises(BadRequestError):
        await (await front()).sidecar.targets[0].outbound(call)
    assert upstream.asked == []


async def test_timeouts_are_remembered_in_bounded_number(front: Opened) -> None:
    """F46: they come from rules, and rules may be many."""
    outbound = (await front()).sidecar.targets[0].outbound
    for silence in range(1, 500):
        assert outbound._timeout(float(silence)).sock_read == silence
    assert len(outbound._timeouts) <= 100
