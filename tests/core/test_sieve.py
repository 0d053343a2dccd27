"""Which events somebody wants to see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_proxy.core.sieve import LOST, Sieve, moment

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALL: dict[str, Any] = {
    "timestamp": "2026-01-01T12:00:00.5+00:00",
    "level": "info",
    "event": "tool.call.completed",
    "service": "jira",
    "tool": "look_up",
}


@pytest.mark.parametrize(
    ("sieve", "passes"),
    [
        (Sieve(), True),
        (Sieve(level="info"), True),
        (Sieve(level="warning"), False),
        (Sieve(types=("tool.*",)), True),
        (Sieve(types=("circuit.*", "tool.call.completed")), True),
        (Sieve(types=("TOOL.*",)), False),
        (Sieve(tools=("look*",)), True),
        (Sieve(tools=("jira/*",)), True),
        (Sieve(tools=("other/*", "find*")), False),
        (Sieve(text="LOOK_"), True),
        (Sieve(text="nowhere"), False),
        (Sieve(since=NOON), True),
        (Sieve(since=NOON + timedelta(seconds=1)), False),
        (Sieve(types=("tool.*",), tools=("find",)), False),
    ],
)
def test_every_filter_must_let_an_event_pass(sieve: Sieve, *, passes: bool) -> None:
    assert sieve.passes(CALL, str(CALL)) is passes


def test_what_has_no_tool_is_not_of_any_tool() -> None:
    assert not Sieve(tools=("*",)).passes({"event": "proxy.started"}, "")
    assert Sieve(tools=("*",)).passes({"tool": "x"}, "")


def test_an_unknown_level_is_not_hidden() -> None:
    """Another version may know more of them."""
    assert Sieve(level="error").passes({"event": "a", "level": "fatal"}, "")


@pytest.mark.parametrize("when", [None, "soon", 5])
def test_an_event_without_a_time_is_not_recent(when: object) -> None:
    assert not Sieve(since=NOON).passes({"event": "a", "timestamp": when}, "")


def test_nobody_filters_away_that_events_are_missing() -> None:
    strict = Sieve("error", ("x",), ("y",), "z", NOON)
    assert strict.passes({"event": LOST, "lost": 3}, "")


def test_a_line_that_is_no_event_passes_unless_more_is_asked_of_it() -> None:
    assert Sieve().passes_text("Traceback")
    assert Sieve(text="trace").passes_text("Traceback")
    assert not Sieve(text="x").passes_text("Traceback")
    for strict in (Sieve("info"), Sieve(types=("*",)), Sieve(tools=("*",)), Sieve(since=NOON)):
        assert not strict.passes_text("Traceback")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("10m", NOON - timedelta(minutes=10)),
        (" 2h ", NOON - timedelta(hours=2)),
        ("1d", NOON - timedelta(days=1)),
        ("2026-01-01T10:00:00Z", NOON - timedelta(hours=2)),
        ("2026-01-01T10:00:00+01:00", NOON - timedelta(hours=3)),
    ],
)
def test_since_is_so_long_ago_or_a_time(text: str, found: datetime) -> None:
    assert moment(text, NOON) == found


def test_a_time_without_a_zone_is_that_of_this_machine() -> None:
    here = datetime(2026, 1, 1, 10).astimezone()
    assert moment("2026-01-01T10:00:00", NOON) == here


@pytest.mark.parametrize("text", ["", "soon", "10", "m", "-5m", "1.5h", "2026-99-01"])
def test_since_must_be_a_time(text: str) -> None:
    with pytest.raises(ValueError, match="10m"):
        moment(text, NOON)
