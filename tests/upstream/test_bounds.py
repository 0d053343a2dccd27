"""Each table of what is known of the server, filled with ten times what it may hold (F46)."""

from typing import Any

import pytest

from mcp_proxy.core.session import Session
from mcp_proxy.upstream import catalogue, homes, sessions
from mcp_proxy.upstream.catalogue import Catalogue
from mcp_proxy.upstream.homes import Homes
from mcp_proxy.upstream.sessions import Sessions
from tests.fakes import FakeClock


def test_ten_times_as_many_sessions() -> None:
    """The least recently used go first."""
    table = Sessions(FakeClock().now)
    for number in range(10 * sessions._LIMIT):
        table.keep(Session(f"s{number}", "ann", b"{}", f"s{number}"))
        assert len(table) <= sessions._LIMIT
    assert table.find(f"s{number}") is not None
    assert table.find("s0") is None


@pytest.mark.parametrize("large", ["id", "initialize"])
def test_ten_times_the_bytes_of_sessions(large: str) -> None:
    """Also where it is the server's ids that are large."""
    table = Sessions(FakeClock().now)
    for number in range(10 * sessions._BYTES // 16_384):
        name = f"s{number}".ljust(16_384 if large == "id" else 8)
        body = b" " * (16_384 if large == "initialize" else 2)
        table.keep(Session(name, "ann", body, name))
        assert table.bytes <= sessions._BYTES
    assert len(table) <= sessions._BYTES // 16_384
    for known in list(table._known):
        table.forget(known)
    assert table.bytes == 0


def test_sessions_go_in_time() -> None:
    clock = FakeClock()
    table = Sessions(clock.now)
    table.keep(Session("s", "ann", b"{}", "s"))
    clock._now += sessions._IDLE + 1
    assert table.find("s") is None
    assert len(table) == 0


def test_ten_times_as_many_homes() -> None:
    table = Homes()
    for number in range(10 * homes._LIMIT):
        table.keep(f"s{number}", "http://a")
    assert len(table) == homes._LIMIT
    table.keep("x" * (10 * homes._LONGEST), "http://a")
    assert table.of("x" * (10 * homes._LONGEST)) is None


def listed(*names: str) -> dict[str, Any]:
    return {"tools": [{"name": name, "annotations": {"readOnlyHint": True}} for name in names]}


def test_lists_of_ten_times_as_many_callers() -> None:
    table = Catalogue()
    for number in range(10 * catalogue._CALLERS_LIMIT):
        table.learn(f"c{number}", listed("look"))
    assert len(table._lists) == catalogue._CALLERS_LIMIT


def test_a_list_of_ten_times_as_many_tools_page_by_page() -> None:
    table = Catalogue()
    for page in range(20):
        names = [f"t{page}.{number}" for number in range(1000)]
        table.learn("ann", listed(*names), first_page=not page)
    assert table.size == catalogue._TOOLS_LIMIT


def test_a_name_ten_times_too_long_is_not_learnt() -> None:
    table = Catalogue()
    long = "x" * (10 * catalogue._NAME_LIMIT)
    table.learn("ann", listed(long, "look"))
    assert table.of("ann", long) is None
    assert table.of("ann", "look") is not None
