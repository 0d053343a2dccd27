"""Direct against sidecar: connections, what comes before an answer, what is refused."""

import asyncio
from collections.abc import Iterator

import pytest

from mcp_proxy.edge.pool import FIELD_LIMIT
from tests.edge.test_comparison import (
    ASKS,
    KIB,
    MIB,
    NOISE,
    OK,
    PATHS,
    ZIPPED,
    Compared,
    comparing,
    head,
    pair,
    plain,
)
from tests.edge.wire import (
    Exchange,
    Upstream,
    answer,
    bound,
    chunk,
    chunked,
    get,
    post,
    read_chunk,
    request,
    rpc,
    sidecar,
    tool,
)

CHUNKED = chunk(b"hello") + b"3;a=b\r\n!!!\r\n0\r\nX-Sum: 1\r\n\r\n"
FEW = {name: raw for name, raw in ASKS.items() if name not in {"a notification", "DELETE"}}
asks = pytest.mark.parametrize("raw", FEW.values(), ids=FEW)


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    yield from comparing()


# --- connections


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue"])
def test_an_expectation(compared: Compared, expectation: str, path: str) -> None:
    """It is met here: one 100 comes, from the next hop, as it would from the server."""
    for raw in (
        request("POST", path, f"Expect: {expectation}", body=b"hello"),
        request(
            "POST",
            path,
            f"Expect: {expectation}",
            "Transfer-Encoding: chunked",
            body=CHUNKED,
        ),
        request("PUT", path, f"Expect: {expectation}", body=NOISE[: 2 * MIB]),
    ):
        direct, through = compared(raw)
        assert direct.heard[0].interim == through.heard[0].interim == [b"HTTP/1.1 100 Continue"]


OLD = {
    "bare": b"GET /x HTTP/1.0\r\n\r\n",
    "with Host": b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "kept": b"GET /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    "kept, in another case": b"GET /x HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n",
    "closed": b"GET /x HTTP/1.0\r\nConnection: close\r\n\r\n",
    "HEAD": b"HEAD /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST": b"POST /x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    "POST, kept": b"POST /mcp HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("raw", OLD.values(), ids=OLD)
def test_an_old_client(compared: Compared, raw: bytes) -> None:
    compared(raw)


@pytest.mark.parametrize("connection", ["close", "Close", "close, X-A", "x-a,close", "keep-alive"])
@pytest.mark.parametrize("path", PATHS)
def test_a_client_says_whether_it_stays(compared: Compared, path: str, connection: str) -> None:
    compared(request("POST", path, f"Connection: {connection}", "X-A: 1", body=b"hello"))


def test_an_empty_line_before_a_request(compared: Compared) -> None:
    """RFC 9112 section 2.2: a server should ignore it."""
    through = compared.through(b"\r\n" + get("/x"))
    assert through.heard[0].line == b"HTTP/1.1 200 OK"
    assert through.stays


async def test_an_answer_may_come_before_the_end_of_the_request() -> None:
    """As a refusal of an upload does: the client hears it while it still sends."""
    upstream = Upstream()
    upstream.reads_bodies = False
    await upstream.start()

    async def early(exchange: Exchange) -> None:
        assert await read_chunk(exchange.reader) == b"some"
        await exchange.send(answer(b"too much", status="413 x"))
        assert await read_chunk(exchange.reader) == b"more"
        assert await read_chunk(exchange.reader) == b""

    upstream.plays(early)
    try:
        async with sidecar(upstream.url) as front, front.client() as client:
            await client.send(request("POST", "/x", "Transfer-Encoding: chunked") + chunk(b"some"))
            heard = await client.hear()
            assert (heard.status, heard.body) == (413, b"too much")
            await client.send(chunked(b"more"))
            upstream.plays(answer(b"next"))
            assert (await client.ask(get("/y"))).body == b"next"
    finally:
        await upstream.stop()


async def test_a_client_that_ends_its_half_has_left() -> None:
    """aiohttp tells no end of a half from the end of all; direct, most servers answer."""
    async with pair() as both, bound():
        both.recorder.answers = [OK]
        reader, writer = await asyncio.open_connection("127.0.0.1", both.front.port)
        writer.write(request("POST", "/x", body=b"hello"))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


# --- before the answer, and after it

INTERIM = {
    "100": head("HTTP/1.1 100 Continue"),
    "102": head("HTTP/1.1 102 Processing"),
    "103": head("HTTP/1.1 103 Early Hints", "Link: </x>; rel=preload"),
    "two of 103": head("HTTP/1.1 103 x", "Link: </x>") + head("HTTP/1.1 103 y", "Link: </y>"),
    "199": head("HTTP/1.1 199 Odd"),
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
@asks
def test_what_comes_before_the_answer_is_dropped(
    compared: Compared, raw: bytes, interim: bytes
) -> None:
    """A known limit (docs/wire.md): aiohttp shows none, though RFC 9110 section 15.2 wants them."""
    direct, through = compared(raw, answers=[interim + plain()])
    assert direct.heard[0].interim != []
    assert through.heard[0].interim == []


ENDING = {
    "old": head("HTTP/1.0 200 OK", "Content-Type: text/plain") + b"hello",
    "old, empty": head("HTTP/1.0 200 OK"),
    "old, with a length": head("HTTP/1.0 200 OK", "Content-Length: 5") + b"hello",
    "old, large": head("HTTP/1.0 200 OK") + NOISE[: 2 * MIB],
    "no length": head("HTTP/1.1 200 OK", "X-A: 1") + NOISE[:99],
    "no length, said": head("HTTP/1.1 200 OK", "Connection: close") + b"hello",
    "a length": head("HTTP/1.1 404 OK", "Connection: close", "Content-Length: 5") + b"hello",
    "chunks": head("HTTP/1.1 200 OK", "Connection: close", "Transfer-Encoding: chunked")
    + chunked(b"a", b"b"),
    "events": head("HTTP/1.1 200 OK", "Content-Type: text/event-stream")
    # without an id a call would hear of the loss (docs/errors.md)
    + b"id: 1\ndata: a\n\n",
    "204": head("HTTP/1.1 204 No Content", "Connection: close"),
}


@pytest.mark.parametrize("said", ENDING.values(), ids=ENDING)
@asks
def test_a_connection_that_ends_with_the_answer(
    compared: Compared, raw: bytes, said: bytes
) -> None:
    """It is the server's; that of the client stays."""
    direct, through = compared(raw, answers=[said], closes=True)
    assert not direct.stays
    assert through.stays


def test_an_old_server_that_stays(compared: Compared) -> None:
    said = head("HTTP/1.0 200 OK", "Connection: keep-alive", "Content-Length: 5") + b"hello"
    compared(ASKS["GET"], answers=[said])


KEEPS = b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize("said", [ENDING["old"], ENDING["no length"]])
def test_an_old_client_hears_the_end_of_an_old_answer(compared: Compared, said: bytes) -> None:
    _, through = compared(KEEPS, answers=[said], closes=True)
    assert not through.stays


@pytest.mark.parametrize("keeps", [b"", b"Connection: keep-alive\r\n"])
def test_an_old_client_gets_no_chunks(compared: Compared, keeps: bytes) -> None:
    said = answer(b"", "Transfer-Encoding: chunked", kind="text/plain") + CHUNKED
    raw = b"GET /x HTTP/1.0\r\n" + keeps + b"\r\n"
    through = compared.through(raw, answers=[said])
    assert through.heard[0].body == b"hello!!!"
    assert through.heard[0].all(b"transfer-encoding") == []
    assert not through.stays


# --- many in a row

PIPELINES = {
    "gets": [get(f"/{number}") for number in range(20)],
    "posts": [post("/mcp", tool("x", number)) for number in range(20)],
    "mixed": [
        *(get("/a"), request("HEAD", "/b"), request("POST", "/c", body=b"hello")),
        request("PUT", "/d", "Transfer-Encoding: chunked", body=chunked(b"a", b"b")),
        *(post("/mcp", rpc("ping")), request("DELETE", "/e"), request("OPTIONS", "/f")),
    ],
    "large": [
        request("POST", "/x", body=NOISE[:MIB]),
        get("/y"),
        request("POST", "/z", body=NOISE[:MIB]),
    ],
    "bodies that look like requests": [request("POST", "/x", body=get("/y")) for _ in range(3)],
    "the last one leaves": [get("/a"), get("/b", "Connection: close")],
    "old": [b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" for _ in range(3)],
}


@pytest.mark.parametrize("raws", PIPELINES.values(), ids=PIPELINES)
def test_requests_in_a_row(compared: Compared, raws: list[bytes]) -> None:
    """All are sent at once; each answer is that of its own request, in order."""
    answers = [
        OK.replace(b"\r\n\r\nok", b"\r\nX-Number: %d\r\n\r\nok" % number)
        if not raw.startswith(b"HEAD")
        else b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: 2\r\n\r\n" % number
        for number, raw in enumerate(raws)
    ]
    compared(*raws, answers=answers)


ROWS = {
    "answers without body": [
        *(plain(), head("HTTP/1.1 204 x"), head("HTTP/1.1 304 x"), plain(body=b"")),
        *(plain(status="404 x"), answer(b"", "Transfer-Encoding: chunked") + CHUNKED),
    ],
    "interim ones between": [INTERIM["103"] + plain(), plain(), INTERIM["100"] + plain()],
    "large ones between": [plain(body=NOISE[: 2 * MIB]), plain(), plain(body=NOISE[:MIB])],
}


@pytest.mark.parametrize("answers", ROWS.values(), ids=ROWS)
def test_answers_in_a_row(compared: Compared, answers: list[bytes]) -> None:
    """To requests that were sent at once."""
    compared(*[get(f"/{number}") for number in range(len(answers))], answers=answers)


# --- what the C parser does not take: no HTTP, strictly, though many a server takes it

REFUSED = {
    "a target in latin-1": get("/\xe4"),
    "a target in utf-8": get("/\xc3\xa4"),
    "a query in utf-8": get("/?\xc3\xa4"),
    "a control character in a target": get("/\x01"),
    "a space in a target": get("/a b"),
    "a length in a trailer": request(
        "POST", "/x", "Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 9\r\n\r\n"
    ),
    "line ends without return": get("/x").replace(b"\r\n", b"\n"),
    "a space behind a name": get("/x", "X-A : 1"),
    "HTTP/1.2": b"GET /x HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a target of 65 KiB": get("/" + "p" * (FIELD_LIMIT + KIB)),
    "a value of 65 KiB": get("/x", "X-A: " + "v" * (FIELD_LIMIT + KIB)),
    "129 headers": get("/x", *(f"X-{number}: 1" for number in range(129))),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_is_no_http_goes_nowhere(compared: Compared, raw: bytes) -> None:
    through = compared.through(raw)
    assert through.heard[0].status == 400
    assert through.asked == []
    assert not through.stays


# --- what the C parser does not take, and what would be read wrongly

NOT_PASSED_ON = {
    "129 headers": plain(*(f"X-{number}: 1" for number in range(129))),
    "a value of 65 KiB": plain("X-A: " + "v" * (65 * KIB)),
    "one length twice": plain("Content-Length: 5", "Content-Length: 5"),
    "a coding of the transfer": head("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked")
    + chunked(ZIPPED),
    "another one": head("HTTP/1.1 200 OK", "Transfer-Encoding: x-own, chunked") + chunked(b"hello"),
    "identity": head("HTTP/1.1 200 OK", "Transfer-Encoding: identity", "Content-Length: 0"),
}


@pytest.mark.parametrize("said", NOT_PASSED_ON.values(), ids=NOT_PASSED_ON)
def test_what_cannot_be_passed_on_whole_is_a_502(compared: Compared, said: bytes) -> None:
    """A coding of the transfer is nothing that we asked for (no TE goes up), nor can take off."""
    through = compared.through(ASKS["POST"], answers=[said])
    assert through.heard[0].status == 502
    assert through.stays
