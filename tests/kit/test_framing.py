"""Planted framing errors are found, whatever pieces they come in; what is right is let pass."""

import pytest

from tests.edge.wire import chunk, chunked, get, post, request
from tests.kit.framing import Framing

GOOD = {
    "get": get("/a"),
    "post": post("/api/call-tool", {"a": "b" * 1000}),
    "empty": request("POST", "/x", "Content-Length: 0"),
    "chunked": request("POST", "/x", "Transfer-Encoding: chunked", body=chunked(b"abc", b"d")),
    "two": get("/a") + post("/b", b"{}") + get("/c?d=%20e"),
    "latin-1": get("/a", "X-Name: caf\xe9", "X-Empty:"),
    "options": request("OPTIONS", "*"),
    "large": request("PUT", "/x", body=b"x" * 200_000),
}
BAD = {
    "no Host": (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "0 Host headers"),
    "two Hosts": (get("/", "Host: a", "Host: b"), "2 Host headers"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", "request line"),
    "bare LF among headers": (b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", "header line"),
    "folded": (b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n d\r\n\r\n", "header line b' d'"),
    "space before the colon": (get("/", "Host: a", "B : c"), "header line b'B : c'"),
    "control byte": (get("/", "Host: a", "B: \x00"), "header line"),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "request line"),
    "no path": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "request line"),
    "old version": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "request line"),
    "empty line first": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request line b''"),
    "both lengths": (
        post("/", b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"),
        "both Content-Length and Transfer-Encoding",
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "more than one Content-Length",
    ),
    "no number": (request("POST", "/", "Content-Length: x"), "bad Content-Length"),
    "negative": (request("POST", "/", "Content-Length: -1"), "bad Content-Length"),
    "chunk without size": (
        request("POST", "/", "Transfer-Encoding: chunked", body=b"xyz\r\n"),
        "illegal chunk header",
    ),
    "chunk without end": (
        request("POST", "/", "Transfer-Encoding: chunked", body=chunk(b"abc")[:-2] + b"zz0\r\n"),
        "chunk",
    ),
    "longer than it says": (post("/", b"{}") + b"}" + get("/"), "request 2: request line"),
    "after the last": (get("/", "Connection: close") + get("/"), "request 2: a request after one"),
    "endless head": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, "a head without end"),
}


def read(raw: bytes, size: int) -> Framing:
    framing = Framing()
    for start in range(0, len(raw), size):
        framing.feed(raw[start : start + size])
    return framing


@pytest.mark.parametrize("size", [1, 7, 1 << 16, 1 << 20])
@pytest.mark.parametrize("case", GOOD)
def test_what_is_right_is_let_pass(case: str, size: int) -> None:
    framing = read(GOOD[case], max(size, len(GOOD[case]) // 5000))
    assert framing.violations == []
    assert framing.count == len(framing.requests) == (3 if case == "two" else 1)
    assert not framing.unfinished


@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_found_once(case: str, size: int) -> None:
    raw, text = BAD[case]
    (violation,) = read(raw, size).violations
    assert text in violation


def test_requests_are_kept_as_they_stood() -> None:
    framing = read(get("/a", "X-Name: caf\xe9") + post("/b", b'{"c": 1}'), 10)
    first, second = framing.requests
    assert (first.line, first["X-Name"]) == ("GET /a HTTP/1.1", "caf\xe9")
    assert (second.method, second.target, second.json) == ("POST", "/b", {"c": 1})
    assert second["Content-Type"] == "application/json"


def test_half_a_request_is_no_violation() -> None:
    """The sidecar may leave in the middle of one; but it is seen."""
    for raw in (get("/a")[:-1], post("/a", b"{}")[:-1]):
        framing = read(raw, 1 << 20)
        assert framing.violations == []
        assert framing.unfinished
        assert framing.count == 0


def test_memory_is_bounded() -> None:
    framing = read(request("PUT", "/x", body=b"x" * 200_000), 1 << 16)
    (said,) = framing.requests
    assert len(said.body) == 1 << 16
    assert not said.whole
    framing = read(get("/a") * 1500, 1 << 16)
    assert (framing.count, len(framing.requests)) == (1500, 1000)
