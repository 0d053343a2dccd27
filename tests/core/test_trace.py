"""Whose trace a call belongs to: the tables of W3C Trace Context, and MCP SEP-414."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.call import Peer
from mcp_proxy.core.headers import is_sound, request_headers
from mcp_proxy.core.message import Message
from mcp_proxy.core.trace import Trace, own, read_parent, trace_of
from tests.fakes import call, rest_tool, rpc, tool

A, B = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
SPAN, SPAN_B = "00f067aa0ba902b7", "b7ad6b7169203331"
IN_A, IN_B = f"00-{A}-{SPAN}-01", f"00-{B}-{SPAN_B}-00"


def of(*headers: tuple[str, str], **meta: Any) -> Trace | None:
    """Return the trace of an MCP call with these headers and this `_meta`."""
    return trace_of(tool(**({"_meta": meta} if meta else {})), CIMultiDict(headers))


# --- traceparent


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (IN_A, 1),
        (f"00-{A}-{SPAN}-00", 0),
        (f"00-{A}-{SPAN}-03", 3),
        (f"00-{A}-{SPAN}-ff", 3),  # flags that we do not know are not ours to pass on
        (f"01-{A}-{SPAN}-01", 1),
        (f"cc-{A}-{SPAN}-01-what-the-future-brings", 1),
        (f"fe-{A}-{SPAN}-01-", 1),
    ],
)
def test_a_valid_parent_is_read(text: str, flags: int) -> None:
    """W3C Trace Context section 3.2.2; later versions are read as far as we know them."""
    assert read_parent(text) == Trace(A, SPAN, flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        None,
        17,
        {"traceparent": IN_A},
        f"ff-{A}-{SPAN}-01",  # forbidden
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{A}-{'0' * 16}-01",
        f"00-{A.upper()}-{SPAN}-01",
        f"00-{A}-{SPAN}-1",
        f"00-{A[1:]}-{SPAN}-01",
        f"00-{A}0-{SPAN}-01",
        f"00-{A}-{SPAN}-01-more",  # version 00 is exactly that long
        f"00-{A}-{SPAN}-01-",
        f"01-{A}-{SPAN}-01more",
        f"01-{A}-{SPAN}-01-\r\nX-Evil: 1",
        f"00-{A}-{SPAN}-01\n",
        f" 00-{A}-{SPAN}-01",
        f"0x-{A}-{SPAN}-01",
        f"00-{A}-{SPAN}-0١",
    ],
)
def test_what_is_no_parent_is_none(text: object) -> None:
    """W3C Trace Context section 3.2.2: the trace is begun anew."""
    assert read_parent(text) is None


ids = st.tuples(
    st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}"),
    st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}"),
    st.integers(0, 3),
)


@given(ids)
def test_what_we_say_is_what_others_read(said: tuple[str, str, int]) -> None:
    assert read_parent(Trace(*said).parent) == Trace(*said)


@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*"))
def test_whatever_is_read_is_said_soundly(text: str) -> None:
    """Nothing of a caller's text but hexadecimal digits gets into a head or an event."""
    found = read_parent(text)
    if found is not None:
        assert is_sound(found.parent)
        assert len(found.parent) == 55
        assert set(found.trace_id + found.span_id) <= set("0123456789abcdef")


# --- where it is found


def test_most_calls_have_none() -> None:
    assert of() is None
    assert of(("X-Other", IN_A), other=IN_A) is None


@pytest.mark.parametrize("meta", [None, "text", [IN_A], {"traceparent": "nonsense"}])
def test_an_odd_meta_is_none(meta: object) -> None:
    assert trace_of(tool(_meta=meta), CIMultiDict()) is None


def test_the_header_names_a_trace() -> None:
    found = of(("Traceparent", IN_A), ("tracestate", "a=1"), ("tracestate", "b=2"))
    assert found == Trace(A, SPAN, 1, state="a=1,b=2")
    assert found.headers() == {}, "the client's own headers travel"
    assert found.sampled


def test_two_headers_name_none() -> None:
    """W3C's own test suite: a doubled traceparent is not valid."""
    assert of(("traceparent", IN_A), ("traceparent", IN_B)) is None


def test_the_message_names_a_trace_that_becomes_headers() -> None:
    """SEP-414: the body is never edited, so the server's HTTP layer is told in headers."""
    found = of(traceparent=IN_A, tracestate="a=1", baggage="user=7")
    assert found is not None
    assert found.headers() == {"traceparent": IN_A, "tracestate": "a=1", "baggage": "user=7"}
    assert found.lines() == f"traceparent: {IN_A}\r\ntracestate: a=1\r\nbaggage: user=7\r\n"
    assert found.other is None


def test_a_header_that_says_the_same_is_passed_on() -> None:
    found = of(("traceparent", IN_A), ("tracestate", "a=1"), traceparent=f"00-{A}-{SPAN}-00")
    assert found == Trace(A, SPAN, 0, state="a=1")


def test_the_message_goes_before_the_header() -> None:
    """Protocol section 9: the other one is a link."""
    found = of(("traceparent", IN_B), ("tracestate", "b=2"), traceparent=IN_A)
    assert found == Trace(A, SPAN, 1, other=Trace(B, SPAN_B, 0, state="b=2"))
    assert found.headers() == {}, "both pass as they came"
    assert not found.lines()


def test_a_header_that_is_no_parent_stays_what_it_is() -> None:
    found = of(("traceparent", "nonsense"), traceparent=IN_A)
    assert found is not None
    assert found.headers() == {}


def test_only_mcp_messages_have_a_meta() -> None:
    for message in (rest_tool(_meta={"traceparent": IN_A}), Message()):
        assert trace_of(message, CIMultiDict()) is None
        assert trace_of(message, CIMultiDict({"traceparent": IN_A})) == Trace(A, SPAN, 1)


@pytest.mark.parametrize("text", ["a=1\r\nX-Evil: 1", "a=\x00", "a=é", "", "a" * 8193, 5, None])
def test_only_what_can_be_a_header_becomes_one(text: object) -> None:
    found = of(traceparent=IN_A, tracestate=text, baggage=text)
    assert found is not None
    assert found.headers() == {"traceparent": IN_A}
    assert found.lines() == f"traceparent: {IN_A}\r\n"


# --- what the server hears


def sent(trace: Trace | None, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    going = request_headers(
        CIMultiDict(headers), via="1.1 us", peer=Peer(), request_id="7", trace=trace
    )
    names = {"traceparent", "tracestate", "baggage"}
    return [(name.lower(), value) for name, value in going.items() if name.lower() in names]


def test_the_clients_headers_pass_as_they_came() -> None:
    headers = [("traceparent", IN_B), ("tracestate", "b=2"), ("baggage", "x=1"), ("baggage", "y=2")]
    assert sent(None, *headers) == headers
    assert sent(of(*headers), *headers) == headers
    assert sent(of(*headers, traceparent=IN_A), *headers) == headers


def test_what_the_message_alone_says_is_added() -> None:
    stray = [("tracestate", "of=nothing"), ("baggage", "x=1")]
    found = of(*stray, traceparent=IN_A, baggage="y=2")
    assert sent(found, *stray) == [("baggage", "x=1"), ("traceparent", IN_A)]
    assert sent(of(traceparent=IN_A, tracestate="a=1")) == [
        ("traceparent", IN_A),
        ("tracestate", "a=1"),
    ]


def test_a_span_of_ours_takes_the_place_of_its_parent() -> None:
    headers = [("Traceparent", IN_A), ("tracestate", "a=1"), ("baggage", "x=1")]
    ours = own(A, SPAN_B, 1, of(*headers))
    assert sent(ours, *headers) == [
        ("baggage", "x=1"),
        ("traceparent", f"00-{A}-{SPAN_B}-01"),
        ("tracestate", "a=1"),
    ]
    assert sent(own(B, SPAN_B, 1, None), ("tracestate", "of=nothing")) == [("traceparent", f"00-{B}-{SPAN_B}-01")]  # fmt: skip
    in_message = of(traceparent=IN_A, baggage="user=7")
    assert sent(own(A, SPAN_B, 0, in_message)) == [
        ("traceparent", f"00-{A}-{SPAN_B}-00"),
        ("baggage", "user=7"),
    ]


# --- events


def test_an_event_says_whose_it_is() -> None:
    """DESIGN section 6: `request_id`, `trace_id`."""
    asked = call(message=rpc())
    assert asked.ids == {"request_id": "request-1"}
    traced = asked._replace(trace=Trace(A, SPAN))
    assert list(traced.ids.items()) == [("request_id", "request-1"), ("trace_id", A)]
