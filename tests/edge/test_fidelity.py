"""What passes is not changed: targets, headers and bodies, both ways.

Most of what is forbidden here is a default of aiohttp (libraries.md section 1); each such test
fails when the default comes back.
"""

import gzip

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Upstream,
    answer,
    chunked,
    get,
    post,
    request,
    result,
    rpc,
    tool,
)

ADDED_UPSTREAM = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"}
ADDED_TO_ANSWERS = {"via", "x-request-id", "cache-status", "server-timing", "date"}
# a zip bomb in small: what inflates it does not get away with the same bytes
ZIPPED = gzip.compress(b"[" + b"0," * 5000 + b"0]")


# --- targets


@pytest.mark.parametrize(
    "target",
    [
        "/a/../b",
        "/a/./b//c/",
        "//double/slash",
        "/%7e~/%41%2f%2F",
        "/%",
        "/%zz",
        "/a%20b+c",
        "/q?a=1&a=2;b=%3d&c",
        "/q?",
        "/q??",
        "/q?x=http://evil.example/%0d%0a",
        "/q?a#b",
        "/q#b?c",
        "/a:b@c",
        "/a\\b|c",
        "/[x]{y}",
        "/",
        "/?",
    ],
)
async def test_a_target_travels_byte_for_byte(
    front: Opened, upstream: Upstream, target: str
) -> None:
    """Inherited default: a URL given as text rewrites /a/../b, %7e, /% and a bare ?."""
    assert (await (await front()).ask(get(target))).status == 200
    assert upstream.asked[0].target == target


@pytest.mark.parametrize("target", ["/mcp", "/mcp/", "/api/call-tool", "/sse", "/x?y=%7E"])
async def test_a_prefix_in_the_upstream_url_is_put_before_each_target(
    front: Opened, upstream: Upstream, target: str
) -> None:
    sidecar = await front(MCP_UPSTREAM_URL=f"{upstream.url}/pre%2ffix/")
    await sidecar.ask(get(target))
    assert upstream.asked[0].target == f"/pre%2ffix{target}"


async def test_a_path_that_names_the_mcp_endpoint_is_no_prefix(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 7."""
    sidecar = await front(MCP_UPSTREAM_URL=f"{upstream.url}/mcp")
    await sidecar.ask(get("/mcp"))
    assert upstream.asked[0].target == "/mcp"


@pytest.mark.parametrize("raw", [request("OPTIONS", "*"), request("CONNECT", "/x")])
async def test_what_is_no_request_for_a_path_goes_nowhere(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """RFC 9112 section 3.2: asterisk and authority forms are for the next hop alone."""
    assert 400 <= (await (await front()).ask(raw)).status < 500
    assert upstream.asked == []


# --- headers of requests


async def test_a_request_gets_no_headers_but_ours(front: Opened, upstream: Upstream) -> None:
    """Inherited default: User-Agent, Accept, Accept-Encoding, Content-Type are invented."""
    sidecar = await front()
    await sidecar.ask(get("/x"))
    (asked,) = upstream.asked
    assert {name.lower() for name, _ in asked.headers} == ADDED_UPSTREAM | {"host"}
    assert asked["Host"] == f"localhost:{upstream.port}"
    assert asked["X-Forwarded-For"] == "127.0.0.1"
    assert asked["X-Forwarded-Proto"] == "http"
    assert asked["X-Forwarded-Host"] == "localhost"
    assert asked["Via"] == f"1.1 {sidecar.sidecar.pseudonym}"


async def test_a_body_gets_no_content_type(front: Opened, upstream: Upstream) -> None:
    await (await front()).ask(request("POST", "/x", body=b"hello"))
    names = {name.lower() for name, _ in upstream.asked[0].headers}
    assert names == ADDED_UPSTREAM | {"host", "content-length"}


async def test_headers_keep_order_spelling_and_repetition(
    front: Opened, upstream: Upstream
) -> None:
    """Inherited default: of two spellings of one name, the client keeps the last."""
    sent = [
        ("X-B", "2"),
        ("x-a", "1"),
        ("ACCEPT", "application/json, text/event-stream"),
        ("X-a", "again"),
        ("Cookie", "a=1; b=2"),
        ("x-a", ""),
        ("Mcp-Session-Id", "\tspaced  out "),
        ("Authorization", "Bearer " + "t" * 5000),
        ("Cookie", "c=3"),
        ("X-Utf8", "grün".encode().decode("latin-1")),
        ("Last-Event-ID", "7"),
        ("MCP-Protocol-Version", "2025-11-25"),
    ]
    await (await front()).ask(get("/x", *(f"{name}: {value}" for name, value in sent)))
    passed = [
        (name.lower(), value)
        for name, value in upstream.asked[0].headers
        if name.lower() not in ADDED_UPSTREAM | {"host"}
    ]
    assert passed == [(name.lower(), value.strip(" \t")) for name, value in sent]


async def test_what_speaks_of_one_connection_stays_on_it(front: Opened, upstream: Upstream) -> None:
    """F40, RFC 9110 section 7.6.1: hop-by-hop headers and what Connection names."""
    await (await front()).ask(
        request(
            "POST",
            "/x",
            "Connection: keep-alive, X-Mine, te",
            "X-Mine: 1",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Trailer: X-Sum",
            "Proxy-Authorization: Basic eDp5",
            "Proxy-Connection: keep-alive",
            "Expect: 100-continue",
            "Transfer-Encoding: chunked",
            body=chunked(b"hel", b"lo"),
        )
    )
    (asked,) = upstream.asked
    names = {name.lower() for name, _ in asked.headers}
    assert names == ADDED_UPSTREAM | {"host", "transfer-encoding"}
    assert asked.body == b"hello"


async def test_what_a_client_says_of_forwarding_is_not_believed(
    front: Opened, upstream: Upstream
) -> None:
    """F35, F39: these are ours to set."""
    await (await front()).ask(
        get(
            "/x",
            "Host: box:1",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "Forwarded: for=6.6.6.6;host=evil.example",
        )
    )
    (asked,) = upstream.asked
    assert asked["X-Forwarded-For"] == "127.0.0.1"
    assert asked["X-Forwarded-Proto"] == "http"
    assert asked["X-Forwarded-Host"] == "box:1"
    assert "Forwarded" not in asked


async def test_long_headers_pass_both_ways(front: Opened, upstream: Upstream) -> None:
    """Inherited default: 8190 bytes a field; DESIGN section 7: up to 64 KiB pass."""
    long = "t" * 60_000
    upstream.plays(answer(b"", f"X-Long: {long}"))
    heard = await (await front()).ask(get("/x", f"Authorization: {long}"))
    assert upstream.asked[0]["Authorization"] == heard["X-Long"] == long


async def test_a_long_target_passes(front: Opened, upstream: Upstream) -> None:
    target = "/x?" + "q" * 60_000
    assert (await (await front()).ask(get(target))).status == 200
    assert upstream.asked[0].target == target


async def test_cookies_are_remembered_for_nobody(front: Opened, upstream: Upstream) -> None:
    """Inherited default: with a host name upstream, the jar gives A's cookie to B (F34)."""
    upstream.plays(answer(b"", "Set-Cookie: session=of-a; Path=/"))
    sidecar = await front()
    await sidecar.ask(get("/login"))
    await sidecar.ask(get("/mine", "Cookie: session=of-b"))
    await sidecar.ask(get("/other"))
    assert upstream.asked[1].all("Cookie") == ["session=of-b"]
    assert upstream.asked[2].all("Cookie") == []


async def test_credentials_of_the_upstream_url_are_used_where_there_are_none(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 7."""
    url = upstream.url.replace("//", "//user:pass@")
    sidecar = await front(MCP_UPSTREAM_URL=url)
    await sidecar.ask(get("/x"))
    await sidecar.ask(get("/x", "Authorization: Bearer theirs"))
    assert [asked["Authorization"] for asked in upstream.asked] == [
        "Basic dXNlcjpwYXNz",
        "Bearer theirs",
    ]
    assert {asked["Host"] for asked in upstream.asked} == {f"localhost:{upstream.port}"}


# --- headers of answers


async def test_an_answer_keeps_its_headers(front: Opened, upstream: Upstream) -> None:
    """Two Set-Cookie stay two; Server stays the upstream's (protocol.md section 8)."""
    theirs = [
        ("Set-Cookie", "a=1; Path=/"),
        ("X-B", "2"),
        ("Server", "uvicorn"),
        ("set-cookie", "b=2"),
        ("WWW-Authenticate", 'Bearer resource_metadata="http://other.example/x"'),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("X-B", "3"),
        ("Mcp-Session-Id", "s1"),
        ("Content-Type", "Text/Plain;charset=Latin-1"),
        ("Content-Length", "5"),
    ]
    lines = [f"{name}: {value}" for name, value in theirs]
    upstream.plays(answer(b"hello", *lines, kind="", status="401 Please Log In"))
    heard = await (await front()).ask(get("/x"))
    assert heard.line == "HTTP/1.1 401 Please Log In"
    passed = [
        (name.lower(), value)
        for name, value in heard.headers
        if name.lower() not in ADDED_TO_ANSWERS - {"date"}
    ]
    assert passed == [(name.lower(), value) for name, value in theirs]


@pytest.mark.parametrize("raw", [get("/x"), post("/mcp", tool("t")), request("DELETE", "/x")])
async def test_an_answer_gets_no_headers_but_ours(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """Inherited default: Server and Content-Type are invented; a Date must be (RFC 9110, 6.6.1)."""
    upstream.plays(answer(b"hello", kind=""))
    heard = await (await front()).ask(raw)
    names = {name.lower() for name, _ in heard.headers}
    assert names == ADDED_TO_ANSWERS | {"content-length"}
    assert heard.body == b"hello"


async def test_a_streamed_answer_gets_no_headers_but_ours(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(b"", "Transfer-Encoding: chunked", kind="") + chunked(b"hello"))
    heard = await (await front()).ask(get("/x"))
    names = {name.lower() for name, _ in heard.headers}
    assert names == ADDED_TO_ANSWERS | {"transfer-encoding"}


async def test_the_servers_connection_is_not_the_clients(front: Opened, upstream: Upstream) -> None:
    """F40, the other way."""
    hops = ("Connection: close, X-Theirs", "X-Theirs: 1", "Keep-Alive: timeout=5", "Upgrade: h2c")
    upstream.plays(answer(b"hello", *hops, "Proxy-Authenticate: Basic"))
    async with (await front()).client() as client:
        for _ in range(2):
            heard = await client.ask(get("/x"))
            names = {name.lower() for name, _ in heard.headers}
            assert names == ADDED_TO_ANSWERS | {"content-length", "content-type"}


# --- bodies


@pytest.mark.parametrize("path", ["/mcp", "/api/call-tool", "/upload"])
async def test_an_encoded_request_is_not_inflated(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """Inherited default: 48 KB became 50 MB, still labelled gzip (F44)."""
    await (await front()).ask(post(path, ZIPPED, "Content-Encoding: gzip"))
    (asked,) = upstream.asked
    assert asked.body == ZIPPED
    assert asked["Content-Encoding"] == "gzip"
    assert int(asked["Content-Length"]) == len(ZIPPED)


@pytest.mark.parametrize("path", ["/mcp", "/api/call-tool", "/page"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_an_encoded_answer_is_not_inflated(
    front: Opened, upstream: Upstream, path: str, encoding: str
) -> None:
    """Inherited default; what is no gzip at all passes, too."""
    upstream.plays(answer(ZIPPED, f"Content-Encoding: {encoding}"))
    heard = await (await front()).ask(post(path, rpc("tools/list")))
    assert heard.body == ZIPPED
    assert heard["Content-Encoding"] == encoding
    assert int(heard["Content-Length"]) == len(ZIPPED)


async def test_an_encoded_event_stream_is_not_inflated(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(ZIPPED, "Content-Encoding: gzip", kind="text/event-stream"))
    assert (await (await front()).ask(get("/mcp"))).body == ZIPPED


async def test_head_tells_the_length_and_sends_no_body(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", "Content-Length: 5000000", "ETag: x"))
    async with (await front()).client() as client:
        for _ in range(2):
            heard = await client.ask(request("HEAD", "/file"))
            assert heard["Content-Length"] == "5000000"
            assert heard["ETag"] == "x"
    assert upstream.asked[1].method == "HEAD"


async def test_head_of_a_chunked_page_has_no_body_either(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", "Transfer-Encoding: chunked"))
    async with (await front()).client() as client:
        for _ in range(2):
            assert (await client.ask(request("HEAD", "/file"))).status == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_body_stays_without(
    front: Opened, upstream: Upstream, status: str
) -> None:
    raw = f'HTTP/1.1 {status}\r\nETag: "x"\r\n\r\n'.encode()
    upstream.plays(raw)
    async with (await front()).client() as client:
        for _ in range(2):
            heard = await client.ask(get("/file"))
            assert heard["ETag"] == '"x"'
            assert "Content-Length" not in heard
            assert "Content-Type" not in heard


async def test_202_to_a_notification_passes(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", status="202 Accepted", kind=""))
    heard = await (await front()).ask(post("/mcp", rpc("notifications/initialized", None)))
    assert (heard.status, heard.body, heard["Content-Length"]) == (202, b"", "0")


async def test_ranges_pass(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"llo", "Content-Range: bytes 2-4/5", status="206 Partial Content"))
    heard = await (await front()).ask(get("/file", "Range: bytes=2-", 'If-Range: "x"'))
    assert upstream.asked[0]["Range"] == "bytes=2-"
    assert upstream.asked[0]["If-Range"] == '"x"'
    assert heard.status == 206
    assert heard["Content-Range"] == "bytes 2-4/5"
    assert heard.body == b"llo"


async def test_a_chunked_answer_passes_piece_by_piece(front: Opened, upstream: Upstream) -> None:
    """And with neither a length nor a second encoding."""

    async def in_pieces(exchange: Exchange) -> None:
        await exchange.send(answer(b"", "Transfer-Encoding: chunked", "Trailer: X-Sum"))
        for piece in (b"a", b"b" * 70_000, b"\x00\xff"):
            await exchange.send(chunked(piece, end=False))
        await exchange.send(b"0\r\nX-Sum: 1\r\n\r\n")

    upstream.plays(in_pieces)
    heard = await (await front()).ask(get("/download"))
    assert heard.body == b"a" + b"b" * 70_000 + b"\x00\xff"
    assert heard.whole
    assert "Content-Length" not in heard


async def test_an_answer_that_ends_with_its_connection_passes(
    front: Opened, upstream: Upstream
) -> None:
    async def until_closed(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello")
        exchange.close()

    upstream.plays(until_closed)
    heard = await (await front()).ask(get("/old"))
    assert (heard.body, heard.whole) == (b"hello", True)


async def test_an_old_client_gets_an_answer_without_chunks(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(b"", "Transfer-Encoding: chunked") + chunked(b"hel", b"lo"))
    heard = await (await front()).ask(b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert heard.body == b"hello"
    assert "Transfer-Encoding" not in heard


async def test_a_body_of_a_get_passes(front: Opened, upstream: Upstream) -> None:
    await (await front()).ask(request("GET", "/search", body=b'{"q": 1}'))
    assert upstream.asked[0].body == b'{"q": 1}'


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_an_empty_body_stays_empty(front: Opened, upstream: Upstream, method: str) -> None:
    sidecar = await front()
    await sidecar.ask(request(method, "/x", body=b""))
    await sidecar.ask(request(method, "/x"))
    assert [asked.body for asked in upstream.asked] == [b"", b""]
    assert upstream.asked[0]["Content-Length"] == "0"
    assert all("Transfer-Encoding" not in asked for asked in upstream.asked)


async def test_an_upgrade_that_is_no_websocket_passes_as_a_request(
    front: Opened, upstream: Upstream
) -> None:
    """Java's HttpClient offers h2c with every first request, POST bodies included."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    upstream.plays(answer(result(1, tools=[])))
    async with (await front()).client() as client:
        for _ in range(2):
            heard = await client.ask(post("/mcp", rpc("ping"), *offer))
            assert heard.status == 200
    for asked in upstream.asked:
        assert asked.body == post("/mcp", rpc("ping")).partition(b"\r\n\r\n")[2]
        assert "Upgrade" not in asked
        assert "HTTP2-Settings" not in asked


# --- what is not understood


_HELD = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"'
OPAQUE = {
    "broken": b'{"jsonrpc":"2.0","id":1,"method":"tools/call"',
    "batch": b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","method":"x"}]',
    "scalar": b" 42 ",
    "null": b"null",
    "empty": b"",
    "depth": b"[" * 10_000 + b"]" * 10_000,
    "deep-params": _HELD + b',"params":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "doubled-keys": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}',
    "other-case": _HELD + b',"Method":"tools/call"}',
    "no-utf8": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":"\xff"}}',
    "utf16": '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    "nul": _HELD + b',"params":{"a":"\\u0000"}}',
    "nan": _HELD + b',"params":{"a":NaN}}',
    "huge": _HELD + b',"params":{"a":123456789012345678901}}',
    "response": b'{"jsonrpc":"2.0","id":9,"result":{}}',
    "form": b"a=1&b=2",
}


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=1", "/api/call-tool"])
@pytest.mark.parametrize("body", OPAQUE.values(), ids=OPAQUE)
async def test_what_is_not_understood_gets_the_servers_answer(
    front: Opened, upstream: Upstream, path: str, body: bytes
) -> None:
    """F16, F17, F18: byte for byte, once, and the proxy invents no 400."""
    refusal = answer(b'{"its": "own words"}', status="400 Bad Request")
    upstream.plays(refusal)
    sidecar = await front()
    for _ in range(2):
        heard = await sidecar.ask(post(path, body))
        assert heard.status == 400
        assert heard.body == b'{"its": "own words"}'
        assert "hit" not in heard["Cache-Status"]
    assert [asked.body for asked in upstream.asked] == [body, body]


@pytest.mark.parametrize("body", OPAQUE.values(), ids=OPAQUE)
async def test_what_is_not_understood_is_never_repeated(
    front: Opened, upstream: Upstream, body: bytes
) -> None:
    upstream.plays(answer(b"", status="500 Internal Server Error"))
    assert (await (await front()).ask(post("/mcp", body))).status == 500
    assert len(upstream.asked) == 1


async def test_an_answer_to_somebody_else_is_an_error(front: Opened, upstream: Upstream) -> None:
    """F15: and its connection is not used again."""
    upstream.plays(answer(b'{"jsonrpc":"2.0","id":2,"result":{"secret":1}}'), answer(b"{}"))
    sidecar = await front()
    heard = await sidecar.ask(post("/mcp", tool("save")))
    assert heard.json["id"] == 1
    assert "id of another request" in heard.json["result"]["content"][0]["text"]
    assert b"secret" not in heard.body
    await sidecar.ask(get("/x"))
    assert len(set(upstream.on)) == 2


async def test_what_is_no_json_rpc_passes_unchanged(front: Opened, upstream: Upstream) -> None:
    """F14: not JSON, not JSON-RPC, the wrong type: counted, not cached, never judged a read."""
    sidecar = await front(MCP_MAX_RETRIES=0)
    for body in (b"<html>", b"[]", b'{"jsonrpc":"2.0","id":null,"error":{}}', b""):
        upstream.plays(answer(body))
        heard = await sidecar.ask(post("/mcp", rpc("tools/list")))
        assert (heard.status, heard.body) == (200, body)
        assert "stored" not in heard["Cache-Status"]
