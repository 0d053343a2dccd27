"""Where a worker stands among the others."""

from mcp_proxy.core.place import Place


def test_the_others_are_all_but_itself() -> None:
    assert Place(1, 3, "n", "/room").others == [0, 2]
    assert Place(0, 1, "n", "/room").others == []


def test_only_the_first_says_what_is_said_once() -> None:
    assert Place(0, 2, "n", "/room").speaks
    assert not Place(1, 2, "n", "/room").speaks
    assert not Place(0, 2, "n", "/room", again=True).speaks
