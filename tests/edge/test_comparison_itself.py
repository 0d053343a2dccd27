"""A comparison that sees nothing would be worth nothing: each change of a message is seen."""

import asyncio

import pytest

from tests.edge.test_comparison import Outcome, Seen, pair, read_body, read_head

BEFORE = (
    b"POST /a%7e? HTTP/1.1\r\nHost: localhost\r\nX-A: \xe9\r\nX-B: 2\r\nX-A: 3\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)
CHANGES = {
    "the method": (b"POST", b"PUT"),
    "the target": (b"%7e", b"~"),
    "a bare question mark": (b"? ", b" "),
    "a byte of a value": (b"\xe9", b"\xc3\xa9"),
    "the case of a name": (b"X-B", b"x-b"),
    "the order": (b"X-A: \xe9\r\nX-B: 2\r\n", b"X-B: 2\r\nX-A: \xe9\r\n"),
    "repeats": (b"X-B: 2\r\nX-A: 3\r\n", b"X-B: 2, 3\r\n"),
    "one header less": (b"X-A: 3\r\n", b""),
    "one header more": (b"X-B: 2", b"X-B: 2\r\nAccept: */*"),
    "the body": (b"hello", b"hell\x00"),
    "the framing": (
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "what is hop-by-hop": (b"X-B: 2", b"X-B: 2\r\nTE: trailers"),
}


async def parsed(raw: bytes) -> Seen:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    seen = await read_head(reader)
    await read_body(reader, seen, to_end=True)
    return seen


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES)
async def test_a_changed_request_is_seen(old: bytes, new: bytes) -> None:
    async with pair() as both:
        ours = f"localhost:{both.recorder.port}\r\nVia: 1.1 {both.front.sidecar.pseudonym}\r\n"
        ours += "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        ours += "X-Forwarded-Host: localhost\r\nX-Request-Id: 1\r\n"
        passed = BEFORE.replace(b"localhost\r\n", ours.encode(), 1)
        assert old in passed
        direct = Outcome([await parsed(BEFORE)], [], stays=True)
        both.same(direct, Outcome([await parsed(passed)], [], stays=True))
        changed = await parsed(passed.replace(old, new, 1))
        with pytest.raises(AssertionError):
            both.same(direct, Outcome([changed], [], stays=True))


SAID = b"HTTP/1.1 200 Fine\r\nX-A: \xe9\r\nX-B: 2\r\nX-A: 3\r\nContent-Length: 5\r\n\r\nhello"
MARKS = b"Date: x\r\nVia: 1.1 x\r\nX-Request-Id: 1\r\nCache-Status: x\r\nServer-Timing: x\r\n"
CHANGED = {name: CHANGES[name] for name in list(CHANGES)[3:]} | {
    "the status": (b"200", b"201"),
    "the reason": (b"Fine", b"OK"),
    "a mark less": (b"Via: 1.1 x\r\n", b""),
    "a mark more": (b"Via", b"Age: 1\r\nVia"),
    "a mark before the server's": (b"X-A: \xe9", b"Age: 1\r\nX-A: \xe9"),
    "a length that is not the server's": (b"Length: 5\r\n\r\nhello", b"Length: 4\r\n\r\nhell"),
}


@pytest.mark.parametrize(("old", "new"), CHANGED.values(), ids=CHANGED)
async def test_a_changed_answer_is_seen(old: bytes, new: bytes) -> None:
    async with pair() as both:
        passed = SAID.replace(b"Content-Length", MARKS + b"Content-Length")
        assert old in passed
        direct = Outcome([], [await parsed(SAID)], stays=True)
        both.same(direct, Outcome([], [await parsed(passed)], stays=True))
        changed = Outcome([], [await parsed(passed.replace(old, new, 1))], stays=True)
        with pytest.raises(AssertionError):
            both.same(direct, changed)


async def test_a_connection_that_does_not_stay_is_seen() -> None:
    async with pair() as both:
        with pytest.raises(AssertionError):
            both.same(Outcome([], [], stays=True), Outcome([], [], stays=False))
        left = [await parsed(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")]
        with pytest.raises(AssertionError):
            both.same(Outcome(left, [], stays=False), Outcome([], [], stays=True))
