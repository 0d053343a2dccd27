"""The bodies of requests: read whole, streamed, or refused."""

import asyncio

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Client,
    Exchange,
    Upstream,
    answer,
    bound,
    chunked,
    get,
    post,
    read_body,
    read_chunk,
    request,
    result,
    rpc,
)

PATHS = pytest.mark.parametrize("path", ["/mcp", "/messages/?s=1", "/api/call-tool", "/upload"])
LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB, three times the buffer limit


# --- too large


@PATHS
async def test_a_body_beyond_the_limit_is_refused_untouched(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """F13: 413, and the server sees no request."""
    sidecar = await front(MCP_MAX_BODY_BYTES=100)
    assert (await sidecar.ask(post(path, b"x" * 100))).status == 200
    heard = await sidecar.ask(post(path, b"x" * 101))
    assert heard.status == 413
    found = heard.json.get("error_details", heard.json)
    assert found["code"] == "body_too_large"
    assert found["retryable"] is False
    assert found["delivered"] == "no"
    assert "MCP_MAX_BODY_BYTES" in found["message"]
    assert "Retry-After" not in heard
    assert upstream.begun == 1


@PATHS
async def test_a_chunked_body_beyond_the_limit_is_refused_untouched(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """F13: also where no length announces it."""
    sidecar = await front(MCP_MAX_BODY_BYTES=100)
    coded = "Transfer-Encoding: chunked"
    assert (await sidecar.ask(request("POST", path, coded, body=chunked(b"x" * 100)))).status == 200
    async with sidecar.client() as client:
        await client.send(request("POST", path, coded, body=chunked(b"x" * 60, end=False)))
        for _ in range(3):
            await sidecar.ask(get("/livez"))
        await client.send(chunked(b"x" * 60))
        assert (await client.hear()).status == 413
    assert upstream.begun == 1


async def test_a_body_that_turns_out_too_large_on_the_way_is_refused(
    front: Opened, upstream: Upstream
) -> None:
    """Beyond the buffer the server has seen some of it, but never a whole request."""
    upstream.reads_bodies = False
    read: list[bytes] = []

    async def until_cut(exchange: Exchange) -> None:
        try:
            while piece := await read_chunk(exchange.reader):
                read.append(piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            read.append(b"cut")
        await upstream.tell()

    upstream.plays(until_cut)
    sidecar = await front(MCP_MAX_BODY_BYTES=200_000, MCP_BUFFER_LIMIT=1000)
    heard = await sidecar.ask(
        request("PUT", "/upload", "Transfer-Encoding: chunked", body=chunked(*[b"x" * 60_000] * 4))
    )
    assert heard.status == 413
    assert heard.json["code"] == "body_too_large"
    await upstream.until(lambda: b"cut" in read)
    assert sum(map(len, read)) < 200_003


async def test_expecting_a_go_ahead_gets_one(front: Opened, upstream: Upstream) -> None:
    """F13: curl waits for it; the expectation is met here and not forwarded."""
    raw = post("/mcp", rpc("ping"), "Expect: 100-continue")
    head, _, body = raw.partition(b"\r\n\r\n")
    async with (await front()).client() as client:
        await client.send(head + b"\r\n\r\n")
        async with bound():
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(body)).status == 200
    assert upstream.asked[0].body == body
    assert "Expect" not in upstream.asked[0]


async def test_a_refused_body_ends_its_connection(front: Opened, upstream: Upstream) -> None:
    """What follows on it would be read as the next request."""
    sidecar = await front(MCP_MAX_BODY_BYTES=10)
    smuggled = get("/smuggled")
    async with sidecar.client() as client:
        heard = await client.ask(post("/upload", smuggled))
        assert heard.status == 413
    assert upstream.asked == []


# --- streamed


@PATHS
async def test_a_large_body_is_streamed_byte_for_byte(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """DESIGN section 7: larger ones are opaque; F12."""
    upstream.plays(answer(b"", status="500 Internal Server Error"))
    heard = await (await front()).ask(post(path, LARGE))
    assert heard.status == 500
    (asked,) = upstream.asked
    assert asked.body == LARGE
    assert int(asked["Content-Length"]) == len(LARGE)
    assert "Transfer-Encoding" not in asked


@PATHS
async def test_a_large_chunked_body_is_streamed_byte_for_byte(
    front: Opened, upstream: Upstream, path: str
) -> None:
    pieces = [LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)]
    await (await front()).ask(
        request("POST", path, "Transfer-Encoding: chunked", body=chunked(*pieces))
    )
    (asked,) = upstream.asked
    assert asked.body == LARGE
    assert "Content-Length" not in asked


async def test_a_streamed_body_flows_while_it_comes(front: Opened, upstream: Upstream) -> None:
    """An upload is not collected first."""
    upstream.reads_bodies = False
    first = asyncio.Event()

    async def reads(exchange: Exchange) -> None:
        if await read_chunk(exchange.reader) == b"one":
            first.set()
        await read_body(exchange.reader, exchange.asked, to_eof=False)
        await exchange.send(answer(exchange.asked.body))

    upstream.plays(reads)
    async with (await front()).client() as client:
        await client.send(request("PUT", "/upload", "Transfer-Encoding: chunked"))
        await client.send(chunked(b"one", end=False))
        async with bound():
            await first.wait()
        await client.send(chunked(b"two"))
        assert (await client.hear()).body == b"two"


@PATHS
async def test_a_short_chunked_body_gets_a_length_where_it_must_be_read(
    front: Opened, upstream: Upstream, path: str
) -> None:
    await (await front()).ask(
        request("POST", path, "Transfer-Encoding: chunked", body=chunked(b"hel", b"lo"))
    )
    (asked,) = upstream.asked
    assert asked.body == b"hello"
    assert ("Content-Length" in asked) is (path != "/upload")


async def test_what_is_read_in_pieces_is_understood_as_a_whole(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front()
    _, _, body = post("/mcp", rpc("tools/list")).partition(b"\r\n\r\n")
    for _ in range(2):
        heard = await sidecar.ask(
            request(
                "POST",
                "/mcp",
                "Content-Type: application/json",
                "Transfer-Encoding: chunked",
                body=chunked(*(body[at : at + 1] for at in range(len(body)))),
            )
        )
    assert "hit" in heard["Cache-Status"]
    assert len(upstream.asked) == 1


# --- cut or broken


async def _says_no_more(client: Client) -> None:
    client.writer.write_eof()
    assert await client.ended()


@PATHS
@pytest.mark.parametrize("length", [100, len(LARGE)])
async def test_a_body_that_is_cut_is_no_request(
    front: Opened, upstream: Upstream, path: str, length: int
) -> None:
    """F27: the client left; what was small is not sent, what streams is not ended."""
    whole: list[bool] = []
    upstream.reads_bodies = False

    async def reads(exchange: Exchange) -> None:
        await read_body(exchange.reader, exchange.asked, to_eof=False)
        whole.append(exchange.asked.whole)
        await upstream.tell()

    upstream.plays(reads)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(request("POST", path, f"Content-Length: {length}") + b"half")
        if length > 100:
            await upstream.until(lambda: len(upstream.asked) == 1)
        await _says_no_more(client)
    if length > 100:
        await upstream.until(lambda: bool(whole))
    assert whole == [False] * len(upstream.asked)
    assert len(upstream.asked) == (length > 100)


@PATHS
async def test_a_body_that_is_no_http_is_a_bad_request(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """F10, the other way."""
    raw = request("POST", path, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\nnonsense\r\n")
    heard = await (await front()).ask(raw)
    assert heard.status == 400
    assert "Traceback" not in heard.body.decode()
    assert upstream.begun == 0


@PATHS
async def test_a_body_that_stops_being_http_is_never_whole(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """aiohttp 3.14.5 tells nobody of an error behind the head: the caller waits, and is let go."""
    upstream.reads_bodies = False

    async def reads(exchange: Exchange) -> None:
        await read_body(exchange.reader, exchange.asked, to_eof=False)
        assert not exchange.asked.whole

    upstream.plays(reads)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(request("POST", path, "Transfer-Encoding: chunked"))
        await client.send(b"3\r\nabc\r\n")
        if path == "/upload":
            await upstream.until(lambda: len(upstream.asked) == 1)
        else:
            # when another connection has its answer, the head and the first chunk were read
            await sidecar.ask(get("/livez"))
        await client.send(b"nonsense\r\n")
    await upstream.until(lambda: not upstream.open)
    assert upstream.begun == (path == "/upload")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding: xchunked",),
        ("Host: a", "Host: b"),
        ("X-Folded: a\r\n b",),
        ("X A: 1",),
        ("X-Nul: a\x00b",),
    ],
)
async def test_framing_that_two_could_read_apart_goes_nowhere(
    front: Opened, upstream: Upstream, headers: tuple[str, ...]
) -> None:
    """Request smuggling (faults.md section 4)."""
    raw = request("POST", "/mcp", *headers) + b"0\r\n\r\n"
    heard = await (await front()).ask(raw + get("/smuggled"))
    assert heard.status == 400
    assert upstream.asked == []
