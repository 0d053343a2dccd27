"""Direct against sidecar: odd but legal status lines, headers and places of answers."""

from collections.abc import Iterator

import pytest

from tests.edge.test_comparison import ASKS, TO_CLIENT, Compared, Seen, comparing, head, pair, plain
from tests.edge.wire import answer, chunked, get, post, request, rpc

asks = pytest.mark.parametrize("raw", ASKS.values(), ids=ASKS)


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    yield from comparing()


# --- status lines

STATUSES = [
    *(
        "200 OK",
        "200 ",
        "200 ok",
        "200 Wholly  Fine\tIndeed",
        "200 J\xf6rg",
        "200 \xc3\xa4",
        "200 200",
    ),
    *("201 Created", "202 Accepted", "203 Non-Authoritative Information", "206 Partial Content"),
    *("207 Multi-Status", "208 Already Reported", "226 IM Used", "299 Odd", "299 "),
    *("300 Multiple Choices", "301 Gone There", "302 Found", "303 See Other", "305 Use Proxy"),
    *("306 x", "307 Temporary Redirect", "308 Permanent Redirect", "399 ?"),
    *(
        "400 Bad",
        "401 Please Log In",
        "402 Pay",
        "403 No",
        "404 Nope",
        "405 No",
        "406 x",
        "407 Proxy",
    ),
    *(
        "408 Slow",
        "409 x",
        "410 Gone",
        "411 x",
        "412 x",
        "413 x",
        "414 x",
        "415 x",
        "416 x",
        "417 x",
    ),
    *("418 I'm a teapot", "421 x", "422 x", "423 x", "424 x", "425 x", "426 x", "428 x", "429 x"),
    *("431 x", "451 x", "499 Client Closed Request", "500 x", "501 x", "502 x", "503 x", "504 x"),
    *("505 x", "506 x", "507 x", "508 x", "510 x", "511 x", "520 Web server is odd", "599 Timeout"),
    "600 Beyond",
    "999 Denied",
]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status(compared: Compared, status: str) -> None:
    compared(ASKS["POST"], answers=[plain(status=status)])


@pytest.mark.parametrize(
    "status", ["299 Odd", "404 Nope", "418 x", "426 x", "503 x", "599 Timeout"]
)
@asks
def test_a_status_in_each_stack(compared: Compared, raw: bytes, status: str) -> None:
    compared(raw, answers=[plain(status=status)])


# --- bodies that are none


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@asks
def test_an_answer_that_has_no_body(compared: Compared, raw: bytes, status: str) -> None:
    compared(raw, answers=[head(f"HTTP/1.1 {status}", 'ETag: "x"', "Vary: a")])


def test_304_keeps_the_length_of_what_it_stands_for(compared: Compared) -> None:
    bare = head("HTTP/1.1 304 Not Modified", "Content-Length: 500", 'ETag: W/"x"')
    compared(get("/x", 'If-None-Match: W/"x"'), answers=[bare])


def test_204_loses_a_length_that_it_must_not_have(compared: Compared) -> None:
    """RFC 9110 section 8.6."""
    _, through = compared(ASKS["GET"], answers=[head("HTTP/1.1 204 x", "Content-Length: 0")])
    assert through.heard[0].all(b"content-length") == []


@pytest.mark.parametrize(
    "said",
    [
        head("HTTP/1.1 205 Reset Content", "Content-Length: 0"),
        head("HTTP/1.1 205 Reset Content", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
)
@asks
def test_205(compared: Compared, raw: bytes, said: bytes) -> None:
    compared(raw, answers=[said])


@asks
def test_an_empty_body(compared: Compared, raw: bytes) -> None:
    compared(raw, answers=[plain(body=b"")])


HEADS = {
    "a length": head("HTTP/1.1 200 OK", "Content-Length: 5000000", "Content-Type: x/y"),
    "a length of 0": head("HTTP/1.1 200 OK", "Content-Length: 0"),
    "no length": head("HTTP/1.1 200 OK", 'ETag: "x"'),
    "chunks": head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"),
    "404": head("HTTP/1.1 404 Nope", "Content-Length: 9"),
    "304": head("HTTP/1.1 304 Not Modified", "Content-Length: 9"),
    "a coding": head("HTTP/1.1 200 OK", "Content-Encoding: gzip", "Content-Length: 99"),
    "a type of events": head("HTTP/1.1 200 OK", "Content-Type: text/event-stream"),
    "json": head("HTTP/1.1 200 OK", "Content-Type: application/json", "Content-Length: 7"),
    "range": head("HTTP/1.1 206 x", "Content-Range: bytes 0-4/9", "Content-Length: 5"),
}


@pytest.mark.parametrize("path", ["/x", "/mcp", "/sse", "/api/call-tool"])
@pytest.mark.parametrize("said", HEADS.values(), ids=HEADS)
def test_head(compared: Compared, said: bytes, path: str) -> None:
    direct, through = compared(request("HEAD", path), answers=[said])
    assert direct.stays
    assert through.stays


# --- headers

HEADERS: dict[str, tuple[str, ...]] = {
    "repeated": ("X-A: 1", "X-B: 2", "X-A: 3", "X-A: 1"),
    "many": tuple(f"X-{number}: {number}" for number in range(100)),
    "empty": ("X-A:", "X-B: ", "X-C: \t ", "Vary:", "X-A:"),
    "spaces around": ("X-A:1", "X-B:  \t1\t ", "X-C: a  b\tc"),
    "odd names": ("!: 1", "#$%&'*+: 2", "-.^_`|~: 3", "0: 4", "X_Under: 5", "x.dot: 6"),
    "names in any case": ("mCP-session-ID: 1", "x-a: 1", "X-B: 1"),
    "two spellings": ("X-A: 1", "x-a: 2", "X-a: 3"),
    "two spellings of Set-Cookie": ("Set-Cookie: a=1", "set-cookie: b=2", "SET-COOKIE: c=3"),
    "latin-1": ('Content-Disposition: attachment; filename="J\xf6rg"', "X-A: \xe9"),
    "utf-8": ("X-A: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",),
    "bytes that are no text": ("X-A: \x80\xfe\xff\xc3",),
    "cookies": (
        "Set-Cookie: a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Set-Cookie: a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Set-Cookie: b=\x22x,y\x22; Domain=.example; Secure; SameSite=None",
        "Set-Cookie: =; ;",
    ),
    "challenges": (
        'WWW-Authenticate: Basic realm="a, b"',
        "WWW-Authenticate: Negotiate",
        "WWW-Authenticate:",
    ),
    "validators": ('ETag: W/"x"', "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Vary: *"),
    "cache control": (
        "Cache-Control: private",
        "Cache-Control: max-age=0",
        "Expires: 0",
        "Pragma: x",
    ),
    "an age": ("Age: 12",),
    "a date": ("Date: Thu, 01 Jan 1970 00:00:00 GMT",),
    "a date that is none": ("Date: yesterday",),
    "what we say, too": ("Via: 1.0 p, 1.1 q", "Server-Timing: db;dur=1", "Cache-Status: c; hit"),
    "a request id": ("X-Request-Id: theirs",),
    "server": ("Server: Apache/2.4 (Unix)", "X-Powered-By: PHP/4"),
    "cors": (
        "Access-Control-Allow-Origin: http://localhost:3000",
        "Access-Control-Allow-Methods: GET,POST",
        "Access-Control-Expose-Headers: *",
        "Access-Control-Max-Age: 600",
    ),
    "security": (
        "Strict-Transport-Security: max-age=1",
        "Content-Security-Policy: default-src 'self'; x",
    ),
    "alternatives": ('Alt-Svc: h3=":443"', "Link: </x>; rel=preload", 'Link: </y>; rel="next"'),
    "places that stay": (
        "Content-Location: /a/../b",
        "Refresh: 1; url=/x",
        "Link: <http://localhost/>",
    ),
    "hop by hop": ("Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Upgrade: h2c", "TE: x"),
    "named in Connection": ("Connection: X-Mine, keep-alive", "X-Mine: 1", "X-Other: 2"),
    "types": ("Content-Type: Text/Plain;charset=Latin-1",),
    "two types": ("Content-Type: a/b", "Content-Type: c/d"),
    "a type that is none": ("Content-Type: ;;;",),
    "an empty type": ("Content-Type:",),
    "languages": ("Content-Language: de, en", "Accept-Ranges: none", "Allow:", "Allow: GET"),
    "a retry": ("Retry-After: 7", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"),
    "buffering": ("X-Accel-Buffering: yes", "X-Accel-Expires: 0"),
    "a length with zeros": ("Content-Length: 0005",),
    "a digest": ("Content-Digest: sha-256=:x:", "Content-MD5: x==", "Digest: x"),
    "a value of 60 KB": ("X-A: " + "v" * 60_000,),
    "a name of 8 KiB": ("X-" + "n" * 8192 + ": 1",),
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("of", ["GET", "a call", "a stream"])
def test_headers(compared: Compared, of: str, headers: tuple[str, ...]) -> None:
    compared(ASKS[of], answers=[answer(b"hello", *headers, kind="")])


@pytest.mark.parametrize("name", ["ETag", "etag", "VARY", "set-cookie", "Www-Authenticate", "x-a"])
def test_a_name_keeps_its_spelling(compared: Compared, name: str) -> None:
    _, through = compared(ASKS["GET"], answers=[plain(f"{name}: 1")])
    assert name.encode() in [known for known, _ in through.heard[0].fields]


def test_ours_come_last_and_once(compared: Compared) -> None:
    """Behind the server's own, whose order they do not break; only the length follows them."""
    _, through = compared(ASKS["GET"], answers=[plain("Via: 1.0 p", "X-Z: 1")])
    names = [name.lower() for name, _ in through.heard[0].fields]
    assert set(names[-5:-1]) == TO_CLIENT
    assert names[-1] == b"content-length"


# --- places

PLACES = [
    ("/a/../b?c#d", None),
    ("b", None),
    ("?b", None),
    ("", None),
    ("#b", None),
    ("//localhost:{port}/a", None),
    ("http://localhost:{port}/a/../%7e?b=%7E&c#d", "http://box:1/a/../%7e?b=%7E&c#d"),
    ("http://127.0.0.1:{port}/", "http://box:1/"),
    ("http://localhost:{port}", "http://box:1/"),
    ("http://localhost:{port}?a", "http://box:1/?a"),
    ("https://localhost:{port}/a", None),
    ("http://localhost:1/a", None),
    ("http://foreign.example/a?u=http://localhost:{port}/", None),
    ("custom:scheme", None),
    ("http://localhost:{port}.evil.example/", None),
    ("http://user@localhost:{port}/", None),
]


@pytest.mark.parametrize(("said", "heard"), PLACES)
@pytest.mark.parametrize("status", ["201 Created", "302 Found", "307 Temporary Redirect"])
def test_a_place(compared: Compared, status: str, said: str, heard: str | None) -> None:
    """Protocol.md section 6: of the server's own origin it leads to us, else it stays."""
    said = said.format(port=compared.port)
    compared(
        request("POST", "/x", "Host: box:1", body=b"{}"),
        answers=[plain(f"Location: {said}", status=status)],
        location=heard or "",
    )


def test_two_places(compared: Compared) -> None:
    compared(ASKS["GET"], answers=[plain("Location: /a", "X-A: 1", "Location: /b", status="300 x")])


# --- stored answers

STORED: dict[str, tuple[str, ...]] = {
    "odd": ("X-A: 1", "x-b: J\xf6rg", "X-A: 2", "X-C:", "x-a: 3", "!: 4"),
    "chunks": ("X-Z: 1", "Transfer-Encoding: chunked", "X-A: 2"),
    "a date": ("X-A: 1", "Date: Thu, 01 Jan 1970 00:00:00 GMT"),
}


@pytest.mark.parametrize("headers", STORED.values(), ids=STORED)
async def test_a_stored_answer_is_told_as_it_came(headers: tuple[str, ...]) -> None:
    """Its length, its age and our marks are told anew; all else, in order, is the server's."""
    document = b'{ "id":1,"jsonrpc" :"2.0",\r\n"result":{"tools":[],"a":1.0e0}}\n'
    chunks = any("chunked" in line for line in headers)
    whole = answer(b"" if chunks else document, *headers)
    whole += chunked(document[:9], document[9:]) if chunks else b""
    raw = post("/mcp", rpc("tools/list"))
    async with pair() as both:
        direct, _ = await both.compare(raw, answers=[whole])
        hit = await both.through(raw)
    assert hit.asked == []
    (sent,), (came,) = direct.heard, hit.heard
    assert came.line == sent.line
    theirs = sent.but({b"content-length"})
    fields = came.but({b"content-length"})
    assert fields[: len(theirs)] == theirs
    assert {name.lower() for name, _ in fields[len(theirs) :]} - {b"date"} == TO_CLIENT | {b"age"}
    assert came.body == document
    assert came.all(b"content-length") == [b"%d" % len(document)]


DOCUMENT = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'


async def told_again(*headers: str, status: str = "200 OK") -> tuple[Seen, Seen]:
    """Return an answer as it came first, and as it came from the store."""
    raw = post("/mcp", rpc("tools/list"))
    async with pair() as both:
        said = [answer(DOCUMENT, *headers, status=status)]
        _, through = await both.compare(raw, answers=said)
        hit = await both.through(raw)
    assert hit.asked == []
    return through.heard[0], hit.heard[0]


async def test_a_stored_answer_has_the_usual_phrase() -> None:
    """Clients ignore it (RFC 9112 section 4), so it is not stored."""
    first, second = await told_again(status="200 Fine")
    assert first.line == b"HTTP/1.1 200 Fine"
    assert second.line == b"HTTP/1.1 200 OK"


async def test_a_stored_answer_keeps_who_passed_it_on() -> None:
    """RFC 9110 section 7.6.3: Via names each hop of the way, and storing it took none away."""
    first, second = await told_again("Via: 1.0 p")
    assert second.all(b"via") == first.all(b"via")


async def test_a_stored_answer_is_as_old_as_it_was() -> None:
    """RFC 9111 section 4.2.3: the age that it came with is part of its age."""
    first, second = await told_again("Age: 100")
    assert first.all(b"age") == [b"100"]
    (age,) = second.all(b"age")
    assert int(age) >= 100
