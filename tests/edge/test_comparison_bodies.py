"""Direct against sidecar: bodies both ways, and how they are framed."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.edge.test_comparison import (
    ASKS,
    EDGES,
    ENCODED,
    NOISE,
    PATHS,
    ZIPPED,
    Compared,
    comparing,
    plain,
)
from tests.edge.wire import answer, chunk, chunked, get, post, request

FEW = {name: raw for name, raw in ASKS.items() if name not in {"a notification", "DELETE"}}
asks = pytest.mark.parametrize("raw", FEW.values(), ids=FEW)
RPC = b'{ "id":1,"jsonrpc" :"2.0",\r\n"result":{"a":1.0e0,"b":"\\u00e4\\/","a":null}}\n'


def in_chunks(body: bytes, size: int = 50_000) -> bytes:
    return chunked(*(body[at:end] for at, end in pairwise([*range(0, len(body), size), len(body)])))


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    yield from comparing()


# --- bodies of requests


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", EDGES)
def test_a_body_about_the_limits_of_buffers(compared: Compared, size: int, path: str) -> None:
    compared(request("POST", path, body=NOISE[:size]))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", EDGES)
def test_a_chunked_body_about_the_limits_of_buffers(
    compared: Compared, size: int, path: str
) -> None:
    body = in_chunks(NOISE[:size])
    compared(request("POST", path, "Transfer-Encoding: chunked", body=body))


ASKED = {
    "nul": b"\x00",
    "nuls": b"\x00" * 1000,
    "line ends": b"\r\n\r\n\n\r",
    "a request": get("/smuggled"),
    "chunks": chunked(b"a", b"b"),
    "every byte": bytes(range(256)),
    "json": b'{ "a" :1.0e0,\t"b":"\\u00e4\\/" }\n\n',
    "form": b"a=1&a=2&%zz=+",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\x00\xff\r\n--x--\r\n',
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", ASKED.values(), ids=ASKED)
def test_a_body(compared: Compared, body: bytes, path: str) -> None:
    compared(request("POST", path, body=body))


JSON = {
    "spaced": b'{ "jsonrpc" : "2.0",\r\n"id":1 , "method":"tools/call","params":{"name":"x"} }\n',
    "escaped": b'{"jsonrpc":"2.0","id":1,"method":"tools\\/call","params":{"name":"\\u0078"}}',
    "numbers": b'{"jsonrpc":"2.0","id":1.0,"method":"ping","params":{"a":1E400,"b":-0.0}}',
    "an unknown method": b'{"method":"no/such","id":"\xc3\xa4","jsonrpc":"2.0"}',
    "a notification": b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}',
}


@pytest.mark.parametrize("body", JSON.values(), ids=JSON)
def test_a_call_as_it_is_spelled(compared: Compared, body: bytes) -> None:
    compared(post("/mcp", body))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ENCODED)
def test_an_encoded_body(compared: Compared, coding: str, path: str) -> None:
    compared(post(path, ENCODED[coding], f"Content-Encoding: {coding}"))


ASKED_CHUNKED = {
    "empty": b"0\r\n\r\n",
    "zeros": b"000\r\n\r\n",
    "byte by byte": chunked(*(bytes([byte]) for byte in b"hello, byte by byte")),
    "extensions": b'5;a=b;c="d;e"\r\nhello\r\n3;x\r\n!!!\r\n0;last\r\n\r\n',
    "a long extension": b"5;a=" + b"x" * 4000 + b"\r\nhello\r\n0\r\n\r\n",
    "upper case": b"A\r\n0123456789\r\n0\r\n\r\n",
    "lower case": b"a\r\n0123456789\r\n0\r\n\r\n",
    "leading zeros": b"00005\r\nhello\r\n0\r\n\r\n",
    "trailers": chunk(b"hello") + b"0\r\nX-Sum: 1\r\nX-Sum: 2\r\nX-Empty:\r\n\r\n",
    "a trailer that would decide": chunk(b"hello") + b"0\r\nAuthorization: x\r\n\r\n",
    "nuls": chunked(b"\x00" * 10, b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", ASKED_CHUNKED.values(), ids=ASKED_CHUNKED)
def test_a_chunked_body(compared: Compared, body: bytes, path: str) -> None:
    """Trailers and extensions of chunks end with this connection."""
    compared(request("POST", path, "Transfer-Encoding: chunked", body=body))


@pytest.mark.parametrize("coding", ["Chunked", "CHUNKED"])
def test_a_coding_in_any_case(compared: Compared, coding: str) -> None:
    raw = request("POST", "/x", f"Transfer-Encoding: {coding}", body=chunked(b"a", b"b"))
    compared(raw)


CODINGS = ["gzip, chunked", "x-own, chunked", "deflate,gzip , chunked"]


@pytest.mark.parametrize("coding", CODINGS)
def test_a_coding_of_the_transfer_is_not_lost_unseen(compared: Compared, coding: str) -> None:
    """RFC 9112 section 6.1: who cannot take it off refuses (501); what is left is no body.

    Without its name the server would read the coded bytes as if they were the body.
    """
    raw = request("POST", "/x", f"Transfer-Encoding: {coding}", body=chunked(ENCODED["gzip"]))
    through = compared.through(raw)
    assert through.asked == []
    assert through.heard[0].status in {400, 501}


# --- bodies of answers


@pytest.mark.parametrize("of", ["GET", "POST", "a call", "a stream"])
@pytest.mark.parametrize("size", EDGES)
def test_an_answers_body_about_the_limits_of_buffers(
    compared: Compared, size: int, of: str
) -> None:
    compared(ASKS[of], answers=[answer(NOISE[:size], kind="x/y")])


@pytest.mark.parametrize("of", ["GET", "POST", "a call", "a stream"])
@pytest.mark.parametrize("size", EDGES)
def test_an_answers_chunked_body_about_the_limits_of_buffers(
    compared: Compared, size: int, of: str
) -> None:
    said = answer(b"", "Transfer-Encoding: chunked", kind="x/y") + in_chunks(NOISE[:size])
    compared(ASKS[of], answers=[said])


SAID_CHUNKED = {
    "empty": b"0\r\n\r\n",
    "extensions": b'5;a=b;c="d;e"\r\nhello\r\n3;x\r\n!!!\r\n0;last\r\n\r\n',
    "upper case": b"A\r\n0123456789\r\n000\r\n\r\n",
    "byte by byte": chunked(*(bytes([byte]) for byte in NOISE[:300])),
    "trailers": chunk(b"hello") + b"0\r\nX-Sum: 1\r\nX-Sum: 2\r\nX-Empty:\r\n\r\n",
    "a trailer that would decide": chunk(b"hello") + b"0\r\nSet-Cookie: a=b\r\n\r\n",
    "nuls": chunked(b"\x00" * 10, b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("body", SAID_CHUNKED.values(), ids=SAID_CHUNKED)
@asks
def test_an_answers_chunked_body(compared: Compared, raw: bytes, body: bytes) -> None:
    """Trailers and extensions of chunks end with their connection."""
    head_of_it = answer(b"", "Transfer-Encoding: chunked", "Trailer: X-Sum", kind="text/plain")
    compared(raw, answers=[head_of_it + body])


PIECES = b"--x\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--x--\r\n"
SAID = {
    "json": answer(RPC),
    "json of another type": answer(RPC, kind="application/vnd.api+json"),
    "json with a mark": answer(b"\xef\xbb\xbf" + RPC),
    "json in another charset": answer(RPC, kind="application/json; charset=utf-16"),
    "no json": answer(b"<html>\x00\xff"),
    "gzip": answer(ZIPPED, "Content-Encoding: gzip", "Vary: Accept-Encoding"),
    "br": answer(b"\x8b\x02\x80hello\x03", "Content-Encoding: br"),
    "no gzip at all": answer(b"hello", "Content-Encoding: gzip"),
    "two codings": answer(ZIPPED, "Content-Encoding: gzip, br"),
    "identity": answer(RPC, "Content-Encoding: identity"),
    "gzip in chunks": answer(b"", "Transfer-Encoding: chunked", "Content-Encoding: gzip")
    + in_chunks(ZIPPED, 99),
    "events in gzip": answer(ZIPPED, "Content-Encoding: gzip", kind="text/event-stream"),
    "a part": plain("Content-Range: bytes 2-6/9", status="206 Partial Content"),
    "parts": answer(PIECES, status="206 x", kind="multipart/byteranges; boundary=x"),
    "no such part": plain("Content-Range: bytes */9", status="416 Range Not Satisfiable"),
    "a page": answer(b"<p>\x00", "Last-Modified: x", kind="text/html; charset=ISO-8859-1"),
    "line ends": plain(body=b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    "every byte": plain(body=bytes(range(256))),
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
@asks
def test_an_answers_body(compared: Compared, raw: bytes, said: bytes) -> None:
    compared(raw, answers=[said])


EVENTS = {
    "odd line ends": b": c\rdata: a\r\n\rdata:b\n\n\r\nid\nretry: x\n\n",
    "an answer": b"event: message\r\ndata: " + RPC.replace(b"\r\n", b"").strip() + b"\r\n\r\n",
    "no end": b"data: half",
    "no events": b"\x00\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("of", ["GET", "a stream", "an unread call"])
@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
def test_events(compared: Compared, events: bytes, of: str) -> None:
    compared(ASKS[of], answers=[answer(events, kind="text/event-stream")])
