"""Direct against sidecar: odd but legal targets, methods and headers of requests."""

from collections.abc import Iterator

import pytest

from mcp_proxy.edge.pool import FIELD_LIMIT
from tests.edge.test_comparison import Compared, comparing, pair
from tests.edge.wire import get, post, request, tool


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    yield from comparing()


# --- request targets


TARGETS = [
    *("/", "/?", "/??", "/?#", "/#", "/#a?b", "//", "///", "/.", "/..", "/./", "/../"),
    *("/a/..", "/a/.", "/a/../b", "/a/../../b", "/a/./b", "/a//b", "/a///b//", "/.hidden", "/..a"),
    *(
        "/%",
        "/%z",
        "/%zz",
        "/%2",
        "/%25",
        "/%2525",
        "/%2e%2E/b",
        "/%2f%2F",
        "/%5c",
        "/%00",
        "/%0d%0a",
    ),
    *("/%7e~%7E", "/%41%61", "/%e4%B8%ad", "/%FF%fe", "/%u1234", "/%20+%2b"),
    *("/a;", "/a;b", "/a;b=c;d", "/a;/b;?;", "/;", "/;a/../b", "/a,b", "/a=b", "/a&b", "/a$b"),
    *("/a?", "/a??", "/a?b?c", "/a?b/../c", "/a?b//c", "/a?#", "/a#", "/a#b", "/a#b#c", "/a?b#c?d"),
    *("/a?b=c&b=d&b", "/a?=", "/a?&", "/a?&&=", "/a?b=%26&c=%3D", "/a?b;c", "/a?b[]=1&b[x]=2"),
    *("/a?u=http://evil.example/", "/a?u=//evil", "/http://evil.example/", "/a:80", "/a@b", "/:"),
    *("/!$&'()*+,;=:@-._~", '/"', "/<a>", "/a|b", "/a\\b", "/\\\\b", "/^", "/`", "/{a}", "/[::1]"),
    *("/a?{b}", '/a?"', "/a?\\", "/a?^`|", "/*", "/a*", "/*?", "/~user", "/-", "/_", "/'", "/@"),
    *("/mcp?", "/mcp/", "/mcp//", "/mcp/../mcp", "/%6dcp", "/MCP", "/mcp;a", "/mcp?a#b", "//mcp"),
    *(
        "/sse?a",
        "/messages",
        "/messages/",
        "/api//call-tool",
        "/api/call-tool/",
        "/api/./call-tool",
    ),
    *("/livez/", "/LIVEZ", "//livez", "/livez;", "/%6civez", "/api/health/", "/dashboard/x"),
    *("/favicon.ico", "/.well-known/oauth-protected-resource/mcp", "/index.html%20"),
    pytest.param("/" + "p" * 8190, id="8 KiB"),
    pytest.param("/" + "p/" * 30_000, id="60 KB of segments"),
    pytest.param("/q?" + "a=b&" * 15_000, id="60 KB of query"),
    pytest.param("/" + "%7E" * 20_000, id="60 KB of percent"),
    pytest.param("/" + "p" * (FIELD_LIMIT - 100), id="64 KiB"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target(compared: Compared, target: str) -> None:
    compared(get(target))


@pytest.mark.parametrize("target", ["/mcp", "/mcp/?a=%7e#", "/mcp?", "/mcp??b"])
def test_a_target_of_a_call(compared: Compared, target: str) -> None:
    compared(post(target, tool("x")))


# --- methods


METHODS = [
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "PROPFIND"),
    *("PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "REPORT", "MKACTIVITY"),
    *("CHECKOUT", "MERGE", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "M-SEARCH", "LINK", "UNLINK"),
    *("BIND", "REBIND", "UNBIND", "ACL", "MKCALENDAR", "SOURCE", "QUERY"),
]


@pytest.mark.parametrize("path", ["/x", "/mcp"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method(compared: Compared, method: str, path: str) -> None:
    compared(request(method, path))


@pytest.mark.parametrize("method", ["FROBNICATE", "get", "!#$%&'*+-.^_`|~9"])
async def test_a_method_that_the_parser_does_not_know_is_refused(method: str) -> None:
    """A limit (docs/wire.md): llhttp has a closed list of methods."""
    async with pair() as both:
        seen = await both.through(request(method, "/x"))
    assert seen.asked == []
    assert seen.heard[0].line.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", []), ("OPTIONS", []), ("POST", [b"0"]), ("DELETE", [b"0"]), ("PROPFIND", [b"0"])],
)
def test_a_request_without_length_says_none_or_nothing(
    compared: Compared, method: str, length: list[bytes]
) -> None:
    """A limit (docs/wire.md): aiohttp's client adds `Content-Length: 0`, which says the same."""
    _, through = compared(request(method, "/x"))
    assert through.asked[0].all(b"content-length") == length


@pytest.mark.parametrize("path", ["/x", "/mcp"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "TRACE"])
def test_a_method_with_a_body(compared: Compared, method: str, path: str) -> None:
    compared(request(method, path, body=b"some"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_with_an_empty_body(compared: Compared, method: str) -> None:
    compared(request(method, "/x", body=b""))


# --- headers


HEADERS: dict[str, tuple[str, ...]] = {
    "repeated": ("X-A: 1", "X-B: 2", "X-A: 3", "X-A: 1"),
    "repeated, apart": ("X-A: 1", *(f"X-{number}: {number}" for number in range(50)), "X-A: 2"),
    "many": tuple(f"X-{number}: {number}" for number in range(100)),
    "empty": ("X-A:", "X-B: ", "X-C: \t ", "Accept:", "X-A:"),
    "spaces around": ("X-A:1", "X-B:  \t1\t ", "X-C: a  b\tc"),
    "odd names": ("!: 1", "#$%&'*+: 2", "-.^_`|~: 3", "0: 4", "X_Under: 5", "x.dot: 6"),
    "names in any case": ("mcp-session-id: 1", "dNT: 1", "MCP-protocol-Version: 1", "x-A: 1"),
    "utf-8": ("X-A: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",),
    "utf-8 in one and two spellings": ("X-A: \xc3\xa9", "X-B: 1", "X-B: 2"),
    "quoted": ('X-A: "a, b\\"c"', 'If-Match: "x", W/"y"', "X-B: (comment (nested))"),
    "several cookies": ("Cookie: a=1", "Cookie: b=2; c=3", "cookie2: $Version=1"),
    "a cookie that is none": ('Cookie: a b; =c; "d"=1;;',),
    "auto": ("Accept: x/y", "Accept-Encoding: br;q=0", "User-Agent: curl/8", "Accept: z/z"),
    "conditions": ('If-None-Match: "x", W/"y"', "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
    "any": ("If-None-Match: *", "If-Match: *", "If-Unmodified-Since: garbage"),
    "ranges": ("Range: bytes=0-1,5-,-3", 'If-Range: "x"'),
    "an odd range": ("Range: items=1-", "Range: bytes=9-0"),
    "cache control": ("Cache-Control: no-cache, max-age=0", "Pragma: no-cache", "Age: 3"),
    "via": ("Via: 1.0 fred, 1.1 p.example:80 (Apache/1.1)", "Via: 2 other"),
    "max-forwards": ("Max-Forwards: 0",),
    "authorization": ('Authorization: Digest a="b", c=d', "X-Api-Key: k"),
    "two authorizations": ("Authorization: a", "Authorization: b"),
    "trace": (
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate: a=b",
    ),
    "priority": ("Priority: u=1, i", "Sec-Fetch-Mode: cors", "Save-Data: on", "DNT: 1"),
    "a preflight": (
        "Origin: http://localhost:3000",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: x-a,content-type",
    ),
    "ours, spoofed": (
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Forwarded-Host: evil",
    ),
    "other forwarding": ("X-Forwarded-Port: 1", "X-Forwarded-Prefix: /a", "X-Real-IP: 6.6.6.6"),
    "a request id": ("X-Request-Id: abc-1",),
    "hop by hop": (
        "Keep-Alive: timeout=5",
        "TE: trailers, deflate",
        "Proxy-Connection: keep-alive",
    ),
    "named in Connection": (
        "Connection: X-Mine, keep-alive, x-not-there",
        "X-Mine: 1",
        "X-Other: 2",
    ),
    "an upgrade": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
    "an upgrade unnamed": ("Upgrade: h2c",),
    "a trailer announced": ("Trailer: X-Sum",),
    "an answer's": ("Set-Cookie: a=b", "Server: me", "Location: /x", "ETag: x", "Vary: *"),
    "hop by hop in HTTP/2": ("HTTP2-Settings: AAMA",),
    "a date": ("Date: Thu, 01 Jan 1970 00:00:00 GMT",),
    "a name of 8 KiB": ("X-" + "n" * 8192 + ": 1",),
    "a value of 60 KB": ("X-A: " + "v" * 60_000,),
    "a Host with a port": ("Host: localhost:8000",),
    "a Host that is an address": ("Host: [::1]:1",),
    "a Host at the end": ("X-A: 1", "X-B: 2", "Host: localhost"),
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_headers(compared: Compared, headers: tuple[str, ...]) -> None:
    compared(get("/x", *headers))


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_headers_of_a_call(compared: Compared, headers: tuple[str, ...]) -> None:
    compared(post("/mcp", tool("x"), *headers))


IN_CHUNKS = ("Transfer-Encoding: chunked",)


def in_chunks(*headers: str) -> bytes:
    """Return a request whose body is passed on as it comes."""
    return request("PUT", "/x", *headers, *IN_CHUNKS, body=b"4\r\nsome\r\n0\r\n\r\n")


@pytest.mark.parametrize("said", ["J\xf6rg", "\x80\xfe", "\xc3\xa9"])
def test_bytes_above_ascii(compared: Compared, said: str) -> None:
    compared(get("/x", f"X-A: {said}"))
    compared(post("/mcp", tool("x"), f"X-A: {said}"))


@pytest.mark.parametrize(
    ("said", "came"),
    [
        ("J\xf6rg", "J\u00f6rg".encode()),
        ("\x80\xfe", "\u0080\u00fe".encode()),
        ("\xc3\xa9", b"\xc3\xa9"),
    ],
)
async def test_bytes_above_ascii_are_said_as_utf_8_before_a_stream(said: str, came: bytes) -> None:
    """A limit (docs/wire.md): aiohttp's client would drop what is no UTF-8; none is lost."""
    async with pair() as both:
        seen = await both.through(in_chunks(f"X-A: {said}"))
    assert seen.asked[0].all(b"x-a") == [came]


SPELLINGS = ("X-A: 1", "x-a: 2", "X-a: 3")


async def test_each_spelling_of_one_name_is_kept() -> None:
    async with pair() as both:
        seen = await both.through(get("/x", *SPELLINGS))
    assert [field for field in seen.asked[0].fields if field[0].lower() == b"x-a"] == [
        (b"X-A", b"1"),
        (b"x-a", b"2"),
        (b"X-a", b"3"),
    ]


async def test_of_several_spellings_of_one_name_the_first_is_used_before_a_stream() -> None:
    """A limit (docs/wire.md): aiohttp's client would keep the last value only."""
    async with pair() as both:
        seen = await both.through(in_chunks(*SPELLINGS))
    assert [field for field in seen.asked[0].fields if field[0].lower() == b"x-a"] == [
        (b"X-A", b"1"),
        (b"X-A", b"2"),
        (b"X-A", b"3"),
    ]


@pytest.mark.parametrize(
    "name", ["aCCEPT", "USER-AGENT", "ETag", "DNT", "Sec-WebSocket-Key", "TRACEPARENT"]
)
def test_a_name_keeps_its_spelling(compared: Compared, name: str) -> None:
    _, through = compared(get("/x", f"{name}: 1"))
    assert name.encode() in [known for known, _ in through.asked[0].fields]


def test_headers_of_a_preflight(compared: Compared) -> None:
    compared(request("OPTIONS", "/x", *HEADERS["a preflight"]))
