"""What somebody who watches events asks for."""

import pytest

from mcp_proxy.core.errors import BadRequestError
from mcp_proxy.core.watching import Wanted, wanted


def test_nothing_asked_is_everything() -> None:
    assert wanted({}) == Wanted(lowest=10)
    assert wanted({}).has("anything", "debug", None)


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ({"type": "a.b"}, True),
        ({"type": "x.y,a.b"}, True),
        ({"type": "x.y"}, False),
        ({"type": ""}, True),
        ({"tool": "look"}, True),
        ({"tool": "see,look"}, True),
        ({"tool": "see"}, False),
        ({"level": "info"}, True),
        ({"level": "warning"}, False),
        ({"type": "a.b", "tool": "see"}, False),
        ({"last_event_id": "x-1", "replay": "7"}, True),
    ],
)
def test_all_narrowings_must_fit(query: dict[str, str], passes: bool) -> None:
    """DESIGN section 6: filters by type, tool, level."""
    assert wanted(query).has("a.b", "info", "look") is passes


def test_the_past_is_asked_for_by_number() -> None:
    assert wanted({"replay": "100"}).replay == 100


@pytest.mark.parametrize(
    "query",
    [{"level": "loud"}, {"tipe": "a"}, {"replay": "-1"}, {"replay": "1e3"}, {"replay": "9" * 8}],
)
def test_a_typing_mistake_does_not_show_everything(query: dict[str, str]) -> None:
    with pytest.raises(BadRequestError):
        wanted(query)
