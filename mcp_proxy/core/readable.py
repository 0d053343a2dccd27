"""One event as one line for people; the terminal is safe from whatever stands in it.

The same form for the console and for `tail`: an event goes in as the JSON object that the log
writes, a line comes out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

# Told by their words; the colour only helps.
_MARKS = {"debug": "DEBUG", "info": "INFO ", "warning": "WARN ", "error": "ERROR"}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "1;31"}
_BOLD, _DIM = "1", "2"
# Most names of events are shorter; then what follows stands in one column.
_NAME_WIDTH = 22
_VALUE_WIDTH = 120
# What the event is about: the first of these that it has.
_SUBJECTS = ("tool", "circuit", "target", "store", "message")
_TAIL = ("request_id", "trace_id", "span_id")
_PLACE = re.compile(r'File "([^"]*)", line (\d+), in (\S+)')
_BARE = re.compile(r"[^\s\"'=]+")


@dataclass(frozen=True, slots=True)
class Style:
    """How lines look."""

    colour: bool = False
    zone: tzinfo | None = None  # None: that of this machine
    width: int = 500  # characters; a longer line is cut


def wants_colour(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Tell whether to use colours; NO_COLOR wins over FORCE_COLOR, as in Python itself.

    Source: no-color.org, force-color.org: set and not empty.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return terminal and environ.get("TERM") != "dumb"


def harmless(text: str) -> str:
    """Return text that moves no terminal, hides nothing and stays in its line (F41).

    What is not printable is escaped: controls, the marks that turn the direction of writing, line
    separators, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def plain(line: str, style: Style) -> str:
    """Return what is no event as it is, as far as that does no harm."""
    return _cut(harmless(line.rstrip("\r\n").expandtabs(4)), style.width)


def readable(event: Mapping[str, Any], style: Style) -> str:
    """Return an event as one line: when, how grave, what; about what; the rest as key=value."""
    fields = {key: value for key, value in event.items() if value is not None and value != ""}
    fields.pop("id", None)  # of the live stream, for machines
    level, name = str(fields.pop("level", "")), fields.pop("event", "")
    when = _time(fields.pop("timestamp", None), style.zone)
    mark = _MARKS.get(level, f"{_cut(harmless(level.upper()), 8):5}")
    parts = [
        (when, _DIM),
        (mark, _COLOURS.get(level, "")),
        (f"{_cut(harmless(str(name)), 60):{_NAME_WIDTH}}", _BOLD),
    ]
    parts += [(text, "") for text in _foremost(fields)]
    last = [(_pair(key, fields.pop(key)), _DIM) for key in _TAIL if key in fields]
    parts += [(_pair(key, value), "") for key, value in fields.items()]
    return _joined([*parts, *last], style)


def _time(value: object, zone: tzinfo | None) -> str:
    """Return the local time of day."""
    try:
        when = datetime.fromisoformat(value).astimezone(zone) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        when = None
    return when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03}" if when else "--:--:--.---"


def _foremost(fields: dict[str, Any]) -> Iterator[str]:
    """Take what people look for first, in the order in which they do."""
    if subject := next((key for key in _SUBJECTS if key in fields), None):
        yield _subject(subject, fields)
    if "before" in fields and "after" in fields:
        yield f"{_value(fields.pop('before'))} -> {_value(fields.pop('after'))}"
    yield from (_value(fields.pop(key)) for key in ("verdict", "status") if key in fields)
    if type(fields.get("duration_ms")) in (int, float):
        yield _duration(fields.pop("duration_ms"))
    for key in ("attempts", "cache", "code", "reason"):
        if key in fields:
            yield _pair(key, fields.pop(key))
    for file, line, where in _PLACE.findall(str(fields.pop("traceback", "")))[-1:]:
        yield _pair("at", f"{file}:{line}:{where}")


def _subject(key: str, fields: dict[str, Any]) -> str:
    shown = _shown(fields.pop(key))
    if key == "tool" and "service" in fields:
        return f"{_shown(fields.pop('service'))}/{shown}"
    return shown


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.1f}ms"
    return f"{milliseconds / 1000:.2f}s"


def _pair(key: str, value: object) -> str:
    return f"{_cut(harmless(key), 40)}={_value(value)}"


def _value(value: object) -> str:
    """Return a value; in quotes, where one could not tell where it ends."""
    shown = _shown(value)
    if isinstance(value, str) and not _BARE.fullmatch(shown):
        return '"' + shown.replace('"', '\\"') + '"'
    return shown


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + _cut(", ".join(map(_shown, value[:10])), _VALUE_WIDTH) + "]"
    return _cut(harmless(str(value)), _VALUE_WIDTH)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _joined(parts: list[tuple[str, str]], style: Style) -> str:
    """Join the parts, coloured, up to a width that colours do not count in."""
    line, left = [], style.width
    for text, colour in parts:
        shown = _cut(text, left)
        line.append(f"\x1b[{colour}m{shown}\x1b[0m" if style.colour and colour else shown)
        left -= len(shown) + 1
        if left < 1:
            break
    return " ".join(line).rstrip()
