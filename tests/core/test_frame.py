"""The form in which an answer is kept."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.headers import is_sound

moments = st.floats(-1e12, 1e12)
# header bytes that are no UTF-8 come from aiohttp as surrogates
texts = (
    st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")).filter(is_sound)
)
names = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=9)
spans = st.tuples(st.integers(0, 99), st.integers(1, 100)).filter(lambda span: span[0] < span[1])
frames = st.builds(
    Frame,
    headers=st.lists(st.tuples(names, texts), max_size=4).map(CIMultiDict),
    body=st.binary(min_size=100, max_size=120),
    stored=moments,
    terms=st.builds(Terms, moments, moments, moments),
    id_span=st.none() | spans,
    lines=st.just(""),
)


def packed(
    *numbers: float, span: tuple[int, int] = (-1, -1), lines: bytes = b"", says: int | None = None
) -> bytes:
    """Spell a frame by hand: times, where the id stands, header lines, and how long they claim to be."""
    length = len(lines) if says is None else says
    return struct.pack(">4sddddiiI", MAGIC, *numbers, *span, length) + lines + b"{}"


FRAME = Frame(
    CIMultiDict({"Content-Type": "application/json"}),
    b'{"id":1}',
    1.5,
    Terms(300.0, 30.0, 600.0),
    (6, 7),
)
MAGIC = pack(FRAME)[:4]
SOON = (1.0, 2.0, 0.0, 0.0)


@given(frame=frames)
def test_what_is_packed_is_unpacked_as_it_was(frame: Frame) -> None:
    found = unpack(pack(frame))
    assert found is not None
    assert found._replace(lines="") == frame
    spelled = "".join(f"{name}: {value}\r\n" for name, value in frame.headers.items())
    assert found.lines == spelled


@given(data=st.binary() | st.binary(max_size=43).map(MAGIC.__add__))
def test_garbage_is_a_miss(data: bytes) -> None:
    """F24: Redis may hold anything; whatever it is, a call goes on."""
    assert unpack(data) is None


@given(data=st.binary(min_size=44, max_size=200))
def test_garbage_behind_the_right_start_breaks_nothing(data: bytes) -> None:
    """F24: it is read as a frame or not, and never raises."""
    unpack(MAGIC + data)


def test_a_frame_spelled_by_hand_is_one() -> None:
    """Or the refusals below would prove nothing."""
    frame = unpack(packed(*SOON, span=(0, 1), lines=b"A: b\r\n"))
    assert frame == Frame(CIMultiDict(A="b"), b"{}", 1.0, Terms(2.0, 0.0, 0.0), (0, 1), "A: b\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        b"mcs2" + pack(FRAME)[4:],
        b"\x80\x04\x95" + pack(FRAME),
        packed(float("nan"), 2.0, 0.0, 0.0),
        packed(1.0, float("inf"), 0.0, 0.0),
        packed(1.0, float("inf"), float("-inf"), 0.0),
        packed(1.0, 2.0, float("nan"), 0.0),
        packed(*SOON, span=(1, 1)),
        packed(*SOON, span=(1, 0)),
        packed(*SOON, span=(0, 3)),
        packed(*SOON, says=3),
        packed(*SOON, says=2**32 - 1),
        packed(*SOON, lines=b"no colon\r\n"),
        packed(*SOON, lines=b": no name\r\n"),
        packed(*SOON, lines=b"A: b\nInjected: c\r\n"),
        packed(*SOON, lines=b"A: b\x00\r\n"),
        packed(*SOON, lines=b"content-length: 7\r\n"),
        packed(*SOON, lines=b"Transfer-Encoding: chunked\r\n"),
        packed(*SOON, lines=b"A: b\r\n\r\n"),
    ],
)
def test_a_frame_of_another_make_is_a_miss(data: bytes) -> None:
    """F24: foreign versions, halves, and numbers and lines that are not ours."""
    assert unpack(data) is None


@pytest.mark.parametrize("cut", range(len(pack(FRAME)) - len(FRAME.body)))
def test_a_frame_with_half_a_head_is_a_miss(cut: int) -> None:
    """F24."""
    assert unpack(pack(FRAME)[:cut]) is None


@given(token=st.binary(min_size=1, max_size=5))
def test_only_the_id_gives_way_to_the_callers(token: bytes) -> None:
    """F15; DESIGN section 3: MCP answers are never altered beyond the JSON-RPC id."""
    assert FRAME.body_for(token) == b'{"id":' + token + b"}"


def test_an_answer_without_an_id_is_the_same_for_all() -> None:
    frame = Frame(CIMultiDict(), b'{"success":true}', 0.0, Terms(1.0))
    assert frame.body_for(b"7") == frame.body


@pytest.mark.parametrize(("now", "age"), [(1.5, 0.0), (4.0, 2.5), (-3600.0, 0.0)])
def test_an_age_is_never_negative(now: float, age: float) -> None:
    """F49: clocks jump; RFC 9111 section 5.1 wants a non-negative number."""
    assert FRAME.age(now) == age
