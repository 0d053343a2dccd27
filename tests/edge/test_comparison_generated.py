"""Direct against sidecar: what hypothesis thinks up."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.edge.test_comparison import Compared, comparing
from tests.edge.wire import answer, chunked, request


def thought_up(number: int) -> settings:
    """Take the same examples in each run: a failure is one for everybody."""
    return settings(max_examples=number, derandomize=True, database=None, deadline=None)


TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
ABOVE = "".join(map(chr, range(0x80, 0x100)))
# nobody's but ours: no name that means something, whatever comes behind the X
NAMES = st.text(TOKEN, max_size=30).map(lambda rest: f"X-{rest}x")
FIELD = st.tuples(NAMES, st.text(VISIBLE + " \t", max_size=60))
FIELD_UTF_8 = st.tuples(NAMES, st.text(max_size=20).filter(str.isprintable).map(str.encode))
FIELD_OBS = st.tuples(NAMES, st.text(VISIBLE + ABOVE + " \t", max_size=60))
CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=8)
BODIES = st.binary(max_size=2000)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE"])
# Where each stack is: plain, full (read and not understood), short, REST.
PATHS = st.sampled_from(["/x", "/mcp", "/mcp/", "/messages/?session_id=1", "/api/call-tool"])
# what RFC 9112 and the C parsers take: no control character, no space
TARGETS = st.text(VISIBLE, max_size=80).map(lambda rest: f"/{rest}")
STATUSES = st.integers(200, 599).filter(lambda status: status not in {204, 205, 304})
PHRASES = st.text(VISIBLE + ABOVE + " \t", max_size=40).map(str.strip)


def named(fields: list[tuple[str, str | bytes]]) -> list[str]:
    """Spell header lines; a name keeps one spelling, for what else happens see the tables."""
    seen: dict[str, str] = {}
    return [
        f"{seen.setdefault(name.lower(), name)}: "
        + (value if isinstance(value, str) else value.decode("latin-1"))
        for name, value in fields
    ]


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    yield from comparing()


@thought_up(60)
@given(target=TARGETS)
@example("/../..//./;a=%2e%2E&%zz??#%")
def test_any_target(compared: Compared, target: str) -> None:
    compared(request("GET", target))


@thought_up(60)
@given(fields=st.lists(FIELD | FIELD_UTF_8, max_size=12))
def test_any_request_headers(compared: Compared, fields: list[tuple[str, str | bytes]]) -> None:
    compared(request("GET", "/x", *named(fields)))


@thought_up(60)
@given(method=METHODS, path=PATHS, body=BODIES)
def test_any_request_body(compared: Compared, method: str, path: str, body: bytes) -> None:
    compared(request(method, path, body=body))


@thought_up(60)
@given(method=METHODS, path=PATHS, pieces=CHUNKS)
def test_any_chunked_request_body(
    compared: Compared, method: str, path: str, pieces: list[bytes]
) -> None:
    compared(request(method, path, "Transfer-Encoding: chunked", body=chunked(*pieces)))


@thought_up(60)
@given(method=METHODS, path=PATHS, status=STATUSES, phrase=PHRASES)
def test_any_status(compared: Compared, method: str, path: str, status: int, phrase: str) -> None:
    compared(
        request(method, path, body=b""), answers=[answer(b"what", status=f"{status} {phrase}")]
    )


@thought_up(60)
@given(path=PATHS, fields=st.lists(FIELD | FIELD_UTF_8 | FIELD_OBS, max_size=12))
def test_any_answer_headers(
    compared: Compared, path: str, fields: list[tuple[str, str | bytes]]
) -> None:
    compared(request("POST", path, body=b"{}"), answers=[answer(b"ok", *named(fields))])


@thought_up(60)
@given(method=METHODS, path=PATHS, body=BODIES)
def test_any_answer_body(compared: Compared, method: str, path: str, body: bytes) -> None:
    compared(request(method, path, body=b""), answers=[answer(body, kind="x/y")])


@thought_up(60)
@given(method=METHODS, path=PATHS, pieces=CHUNKS)
def test_any_chunked_answer_body(
    compared: Compared, method: str, path: str, pieces: list[bytes]
) -> None:
    compared(
        request(method, path, body=b""),
        answers=[answer(b"", "Transfer-Encoding: chunked") + chunked(*pieces)],
    )


@thought_up(40)
@given(fields=st.lists(FIELD, max_size=8), kept=st.booleans())
def test_any_two_spellings_of_a_name(
    compared: Compared, fields: list[tuple[str, str]], *, kept: bool
) -> None:
    """A name is the same name however it is spelled; and however often, it is said as it was."""
    twice = [(name.swapcase(), value) for name, value in fields]
    lines = [f"{name}: {value}" for name, value in (fields + twice if kept else twice)]
    compared(request("GET", "/x"), answers=[answer(b"ok", *lines)])
