"""What commands print: JSON for programs, tables for people; both on stdout."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from mcp_proxy.core.readable import harmless

_WIDEST = 60  # characters of a cell; names come from anybody
Row = Sequence[object]


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, indent=indent, default=str))


def say_table(head: Row, rows: Iterable[Row], say: Callable[[str], object] = click.echo) -> None:
    """Print rows under a head, in columns; numbers stand at the right."""
    for line in table(head, rows):
        say(line)


def table(head: Row, rows: Iterable[Row], widest: int = _WIDEST) -> list[str]:
    """Return the lines of a table."""
    rows = list(rows)
    texts = [[cell(one, widest) for one in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    right = [any(isinstance(row[at], int | float) for row in rows) for at in range(len(head))]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in texts
    ]


def cell(value: object, widest: int = _WIDEST) -> str:
    """Return what stands in a cell; nothing in it moves the terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.1f}" if isinstance(value, float) else harmless(str(value))
    return text if len(text) <= widest else text[: widest - 1] + "…"


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def span(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def some(count: int, one: str, many: str = "") -> str:
    """Return "1 tool", "2 tools"."""
    return f"{count} {one if count == 1 else many or one + 's'}"
