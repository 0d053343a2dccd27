"""The form in which an answer is kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.headers import is_sound

finite = st.floats(allow_nan=False, allow_infinity=False)
# header bytes that are no UTF-8 come from aiohttp as surrogates
texts = (
    st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")).filter(is_sound)
)
frames = st.builds(
    Frame,
    headers=st.lists(st.tuples(texts, texts), max_size=4).map(CIMultiDict),
    body=st.binary(max_size=100),
    stored=finite,
    terms=st.builds(Terms, finite, finite, finite),
    id_span=st.none() | st.tuples(st.integers(0, 100), st.integers(0, 100)),
)


def packed(head: object, body: bytes = b"{}") -> bytes:
    spelled = head if isinstance(head, bytes) else json.dumps(head).encode()
    return b"".join((pack(FRAME)[:4], len(spelled).to_bytes(4, "big"), spelled, body))


FRAME = Frame(
    CIMultiDict({"Content-Type": "application/json"}),
    b'{"id":1}',
    1.5,
    Terms(300.0, 30.0, 600.0),
    (6, 7),
)


@given(frame=frames)
def test_what_is_packed_is_unpacked_as_it_was(frame: Frame) -> None:
    assert unpack(pack(frame)) == frame


@given(data=st.binary() | st.binary().map(b"mcs2".__add__) | st.binary().map(packed))
def test_garbage_is_a_miss(data: bytes) -> None:
    """F24: Redis may hold anything; whatever it is, a call goes on."""
    assert unpack(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"mcs2",
        b"mcs1" + pack(FRAME)[4:],
        b"\x80\x04\x95" + pack(FRAME),
        packed(b"[[],1,2,null"),
        packed({"headers": []}),
        packed(None),
        packed([[], 1.0, 2.0]),
        packed([[], 1.0, 2.0, 0.0, 0.0, None, None]),
        packed([[["a"]], 1.0, 2.0, 0.0, 0.0, None]),
        packed([[["a", "b", "c"]], 1.0, 2.0, 0.0, 0.0, None]),
        packed([5, 1.0, 2.0, 0.0, 0.0, None]),
        packed([[], "1.0", 2.0, 0.0, 0.0, None]),
        packed([[], None, 2.0, 0.0, 0.0, None]),
        packed([[], 1.0, float("inf"), 0.0, 0.0, None]),
        packed([[], float("nan"), 2.0, 0.0, 0.0, None]),
        packed([[], 1.0, 10**400, 0.0, 0.0, None]),
        packed([[], 1.0, 2.0, 0.0, 0.0, 7]),
        packed([[], 1.0, 2.0, 0.0, 0.0, {}]),
        packed([[], 1.0, 2.0, 0.0, 0.0, [1]]),
        packed([[], 1.0, 2.0, 0.0, 0.0, ["a", "b"]]),
        packed(b"[" * 100_000),
    ],
)
def test_a_frame_of_another_make_is_a_miss(data: bytes) -> None:
    """F24: foreign versions, halves, and heads that are JSON but not ours."""
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
