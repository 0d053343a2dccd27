"""Pieces of bytes become lines of text."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.lines import Lines


def test_a_line_ends_where_it_ends_however_it_comes() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == ["a"]
    assert lines.feed(b"c\n\n") == ["bc", ""]
    assert lines.rest() == []
    assert lines.feed(b"d") == []
    assert lines.rest() == ["d"]
    assert lines.rest() == []


def test_what_is_no_utf_8_is_replaced() -> None:
    assert Lines().feed(b"\xff\xc3\xa9\n") == ["\ufffdé"]


def test_a_line_without_end_fills_no_memory() -> None:
    lines = Lines(longest=10)
    for _ in range(5):
        assert lines.feed(b"x" * 8) == []
    assert len(lines._begun) <= 10
    assert lines.feed(b"\nnext\n" + b"y" * 20 + b"\n") == ["x" * 10, "next", "y" * 10]


@given(st.lists(st.binary(max_size=20)))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.rest()
    whole = Lines()
    assert found == whole.feed(b"".join(pieces)) + whole.rest()
