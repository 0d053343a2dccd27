"""One event is one line for people, whatever stands in it."""

from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.readable import Style, harmless, plain, readable, wants_colour

UTC_STYLE = Style(zone=UTC)
CALL: dict[str, Any] = {
    "timestamp": "2026-11-26T01:26:13.123456+00:00",
    "level": "warning",
    "event": "tool.call.completed",
    "request_id": "ab-1",
    "service": "jira",
    "tool": "look",
    "dialect": "rest",
    "verdict": "tool_failed",
    "status": 200,
    "code": None,
    "cache": "miss",
    "attempts": 2,
    "duration_ms": 12.345,
}


def told(**fields: Any) -> str:
    """Return what a line says beside time, level and name."""
    event = {"timestamp": CALL["timestamp"], "level": "info", "event": "a", **fields}
    line = readable(event, UTC_STYLE)
    assert line.startswith("01:26:13.123 INFO  a")
    return line[len("01:26:13.123 INFO  ") + 22 :].strip()


def test_a_call_begins_with_what_people_look_for() -> None:
    assert readable(CALL, UTC_STYLE) == (
        "01:26:13.123 WARN  tool.call.completed    jira/look tool_failed 200 12.3ms "
        "attempts=2 cache=miss dialect=rest request_id=ab-1"
    )


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"circuit": "tool look", "before": "closed", "after": "open"},
            "tool look closed -> open",
        ),
        (
            {
                "target": "h:9000",
                "before": "healthy",
                "after": "unhealthy",
                "reason": "status 503",
            },
            'h:9000 healthy -> unhealthy reason="status 503"',
        ),
        ({"tool": "x", "duration_ms": 1500}, "x 1.50s"),
        ({"tool": "x", "duration_ms": "soon"}, "x duration_ms=soon"),
        ({"tool": "x", "duration_ms": True}, "x duration_ms=true"),
        ({"before": "only"}, "before=only"),
        ({"service": "alone", "code": "", "n": None}, "service=alone"),
        ({"urls": ["http://a", "http://b"]}, "urls=[http://a, http://b]"),
        ({"a b": 'say "x"', "flag": False}, 'a b="say \\"x\\"" flag=false'),
        ({"n": {"x": 1}}, "n={'x': 1}"),
        ({"empty": "a=b", "one": "a'b"}, 'empty="a=b" one="a\'b"'),
        ({"trace_id": "t", "z": 1, "request_id": "r"}, "z=1 request_id=r trace_id=t"),
        (
            {"exception": "ValueError", "traceback": '  File "/a/b.py", line 3, in f\n    x()\n'},
            "at=/a/b.py:3:f exception=ValueError",
        ),
        ({"traceback": "nothing of that kind"}, ""),
    ],
)
def test_fields_are_told(fields: dict[str, Any], line: str) -> None:
    assert told(**fields) == line


@pytest.mark.parametrize("when", [None, 5, "", "soon", "2026-13-01", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_is_none_is_told_as_such(when: object) -> None:
    assert readable({"timestamp": when, "event": "a"}, UTC_STYLE).startswith("--:--:--.---")


def test_the_time_is_that_of_the_machine_unless_told_otherwise() -> None:
    assert ":26:13.123" in readable(CALL, Style())


@pytest.mark.parametrize(
    ("level", "mark"),
    [
        ("debug", "DEBUG"),
        ("info", "INFO "),
        ("warning", "WARN "),
        ("error", "ERROR"),
        ("odd\x1b", "ODD\\x1b"),
        ("", "     "),
    ],
)
def test_the_level_is_told_by_its_word(level: str, mark: str) -> None:
    line = readable({"timestamp": CALL["timestamp"], "level": level, "event": "a"}, UTC_STYLE)
    assert line == f"01:26:13.123 {mark} a"


def test_colours_change_nothing_of_the_text() -> None:
    line = readable(CALL, Style(colour=True, zone=UTC))
    assert "\x1b[33mWARN \x1b[0m" in line
    for code in ("0", "1", "2", "33"):
        line = line.replace(f"\x1b[{code}m", "")
    assert line == readable(CALL, UTC_STYLE)


def test_a_line_has_an_end() -> None:
    long = {**CALL, **{f"x{number}": "y" * 1000 for number in range(20)}}
    for colour in (False, True):
        line = readable(long, Style(colour=colour, zone=UTC, width=100))
        for code in ("0", "1", "2", "33"):
            line = line.replace(f"\x1b[{code}m", "")
        assert len(line) <= 100
    assert told(x="y" * 1000) == "x=" + "y" * 119 + "…"


HOSTILE = st.text(max_size=40) | st.sampled_from(
    ["\x1b[31m", "\x9b31m", "\r\n", "\u2028", "\u202eevil", "\x00", "\u200b", "\ud800"]
)


@given(HOSTILE)
def test_what_is_made_harmless_moves_no_terminal(text: str) -> None:
    """F41: escapes, line ends, turned directions, invisible marks."""
    shown = harmless(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(st.dictionaries(HOSTILE, HOSTILE | st.integers() | st.lists(HOSTILE) | st.none()))
def test_no_field_moves_a_terminal(fields: dict[str, Any]) -> None:
    """F41."""
    line = readable({**fields, "event": "a"}, Style(zone=UTC, width=200))
    assert line.isprintable()
    assert len(line) <= 200


def test_what_is_no_event_is_shown_as_it_is() -> None:
    assert plain("\tTraceback:  x\r\n", UTC_STYLE) == "    Traceback:  x"
    assert plain("\x1b[2Jgone\n", UTC_STYLE) == "\\x1b[2Jgone"
    assert plain("x" * 30, Style(width=10)) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("environ", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_for_terminals(
    environ: dict[str, str], *, terminal: bool, wanted: bool
) -> None:
    assert wants_colour(environ, terminal=terminal) is wanted
