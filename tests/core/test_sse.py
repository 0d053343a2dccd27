"""Server-sent events, read as they pass."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.sse import Event, Splitter, Tail, event, parts

LIMIT = 1000


def split(*pieces: bytes, limit: int = LIMIT) -> list[Event]:
    splitter = Splitter(limit)
    return [found for piece in pieces for found in splitter.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event(b"a")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a \n\n", [Event(b" a ")]),
        (b"data: a\ndata: b\n\n", [Event(b"a\nb")]),
        (b"data\n\n", [Event(b"")]),
        (b"data: a\ndata\n\n", [Event(b"a\n")]),
        (b"data: a:b: c\n\n", [Event(b"a:b: c")]),
        (b"event: x\nid: 7\ndata: a\nretry: 10\n\n", [Event(b"a", b"x", b"7")]),
        (b"id\ndata: a\n\n", [Event(b"a", b"", b"")]),
        (b"id: 1\x002\ndata: a\n\n", [Event(b"a")]),
        (b"id: 5\ndata:\n\n", [Event(b"", b"", b"5")]),
        (b": ping\n\n", [Event(b"")]),
        (b"Data: a\n data: b\nother: c\n\n", [Event(b"")]),
        (b"\n\n\ndata: a\n\n\n\n", [Event(b"a")]),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [Event(b"a"), Event(b"b"), Event(b"c")]),
        (b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Event(b"a"), Event(b"")]),
        (b"data: a\n\ndata: unfinished\n", [Event(b"a")]),
        (b"", []),
    ],
)
def test_a_stream_is_read_as_browsers_read_it(stream: bytes, events: list[Event]) -> None:
    """WHATWG HTML, section 9.2.6, "Interpreting an event stream"."""
    assert split(stream) == events


lines = st.sampled_from(
    [
        b"",
        b"data: a",
        b"data:b",
        b"data",
        b"id: 1",
        b"event: e",
        b": c",
        b"x",
        b"\xef\xbb\xbfdata: z",
    ]
) | st.binary(max_size=30).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.lists(st.tuples(lines, ends).map(b"".join), max_size=12).map(b"".join)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


@given(
    stream=streams,
    places=st.lists(st.integers(0, 400), max_size=10),
    limit=st.sampled_from([4, 9, LIMIT]),
)
def test_any_cutting_of_a_stream_gives_the_same_events(
    stream: bytes, places: list[int], limit: int
) -> None:
    """Protocol section 5; also for events beyond the limit, and in the middle of CRLF and BOM."""
    whole = split(stream, limit=limit)
    assert split(*cut(stream, places), limit=limit) == whole
    assert split(*[bytes([byte]) for byte in stream], limit=limit) == whole


@given(stream=streams)
def test_line_ends_are_all_the_same(stream: bytes) -> None:
    """WHATWG HTML, section 9.2.5: LF, CR or CRLF."""
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert split(stream) == split(plain)
    assert split(plain.replace(b"\n", b"\r\n")) == split(plain)


@pytest.mark.parametrize(
    "giant",
    [
        b"data: " + b"x" * 50,
        b"data: x\n" * 30,
        b"id: " + b"x" * 50 + b"\ndata: a",
        b"data: a\n: " + b"x" * 50,
        b"x" * 39 + b"\ndata: a",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 40, 10_000])
def test_a_giant_event_is_passed_over_and_its_neighbours_are_not(giant: bytes, step: int) -> None:
    """F12: a bounded memory; nothing that is lost may be taken for something else."""
    stream = b"data: before\n\n" + giant + b"\n\ndata: after\n\n"
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    before, lost, after = split(*pieces, limit=38)
    assert (before, after) == (Event(b"before"), Event(b"after"))
    assert (lost.data, lost.id) == (b"", None)


@pytest.mark.parametrize(
    ("limit", "data"),
    [(12, b"12345\n12345"), (11, b""), (10, b"")],
    ids=["just fits", "too much data", "a line too long"],
)
def test_the_limit_holds_for_the_longest_line_and_for_all_the_data(limit: int, data: bytes) -> None:
    """F12: a line end counts as a byte; `data: 12345` has eleven."""
    assert split(b"data: 12345\ndata: 12345\n\n", limit=limit) == [Event(data, lost=not data)]


@pytest.mark.parametrize("cut_at", [0, 8])
def test_a_line_as_long_as_the_limit_is_not_lost(cut_at: int) -> None:
    """F12."""
    line = b"data: 12"
    assert split(line[:cut_at], line[cut_at:], b"\n\n", limit=len(line)) == [Event(b"12")]


def test_a_line_that_was_cut_off_is_not_read_on_as_another_field() -> None:
    """F12: what follows the lost part may look like anything."""
    events = split(
        b"d" + b"x" * 50, b"ata: forged\nid: 1\n", b"i" + b"x" * 50, b"d: 2\n\n", limit=40
    )
    assert events == [Event(b"", id=b"1", lost=True)]


@pytest.mark.parametrize(
    ("pieces", "middle"),
    [
        ([], False),
        ([b"data: a"], True),
        ([b"d"], True),
        ([b"data: a\n"], True),
        ([b"data: a\n\n"], False),
        ([b"data: a\r\n\r"], False),
        ([b"data: a\r\n\r", b"\n"], False),
        ([b"data: a\n\n:"], True),
        ([b"x" * 2000], True),
        ([b"x" * 2000, b"\n\n"], False),
        ([b"\n"], False),
    ],
)
def test_it_is_known_whether_something_may_be_put_in_between(
    pieces: list[bytes], middle: bool
) -> None:
    """F29: keep-alives go between events only."""
    splitter = Splitter(LIMIT)
    for piece in pieces:
        splitter.feed(piece)
    assert splitter.mid_event is middle


@pytest.mark.parametrize(
    "text", ['{"a":1}', '{\n  "a": [\n    1\n  ]\n}', '{\r\n"a":1\r\n}', '{\r"a":"\\n"\r}']
)
def test_an_event_of_ours_carries_a_json_text_on_any_number_of_lines(text: str) -> None:
    """WHATWG HTML, section 9.2.6: a line without `data:` is no data."""
    for found in split(event(text.encode()) * 2):
        assert found.name == b"message"
        assert json.loads(found.data) == json.loads(text)


@pytest.mark.parametrize(
    ("pieces", "between"),
    [
        ([], True),
        ([b"data: x\n\n"], True),
        ([b"data: x\n", b"\n"], True),
        ([b"data: x\r\n\r", b"\n"], True),
        ([b"data: x\r", b"\r"], True),
        ([b"data: x\n\n", b"d"], False),
        ([b"data: x\n"], False),
        ([b"data: x\r\n"], False),
    ],
)
def test_the_last_bytes_tell_whether_an_event_is_open(
    pieces: list[bytes], *, between: bool
) -> None:
    """WHATWG HTML, 9.2: an empty line ends an event, whichever of the three line ends it has."""
    tail = Tail()
    for piece in pieces:
        tail.saw(piece)
    assert tail.between_events is between


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_piece_is_cut_behind_each_event(end: bytes) -> None:
    one, two, half = b"data: 1" + end * 2, b"id: 2" + end * 2, b"data: 3" + end
    assert parts(one + two + half) == [one, two, half]
    assert parts(one + two) == [one, two]
    assert parts(one) == [one]
    assert parts(half) == [half]


@given(piece=st.binary(max_size=60))
def test_cutting_loses_nothing(piece: bytes) -> None:
    assert b"".join(parts(piece)) == piece
