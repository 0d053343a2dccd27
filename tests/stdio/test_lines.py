"""Lines of a child, however its bytes come in, and however many they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.jsonrpc import id_span
from mcp_proxy.stdio.lines import Line, Lines


@given(st.lists(st.binary(max_size=20)), st.integers(0, 200))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], at: int) -> None:
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    expected = [line.strip() for line in data.split(b"\n") if line.strip()]
    split = Lines(1000)
    found = split.feed(data[:at]) + split.feed(data[at:])
    assert found == [Line(line) for line in expected]


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_of_a_line_that_is_too_long_both_ends_stay(piece: int) -> None:
    """So the id of an answer can still be found, and its caller told."""
    data = b'{"jsonrpc":"2.0","id":7,' + b"x" * 5000 + b',"end":1}\n{"next":1}\n'
    split = Lines(2000)
    found = [
        line for at in range(0, len(data), piece) for line in split.feed(data[at : at + piece])
    ]
    assert [line.whole for line in found] == [False, True]
    assert found[0].data.startswith(b'{"jsonrpc":"2.0","id":7,')
    assert found[0].data.endswith(b',"end":1}')
    assert id_span(found[0].data) is not None
    assert found[1].data == b'{"next":1}'


def test_no_more_than_the_limit_is_held() -> None:
    split = Lines(10_000)
    for _ in range(1000):
        split.feed(b"x" * 1000)
        assert sum(map(len, split._pieces)) <= 11_000
