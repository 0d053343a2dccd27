"""`mcp-sidecar tail`: show events for people, from a file, a pipe or the live stream."""

import asyncio
import json
import os
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

from mcp_proxy.core.addresses import own_url
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.readable import Style, plain, readable, wants_colour
from mcp_proxy.core.sieve import LOST, Sieve, moment
from mcp_proxy.edge.files import File, Pipe
from mcp_proxy.edge.follow import Live

_LIVE = ("http://", "https://")
_PAST = 10  # lines of the past, as tail(1) has it
# More than any sidecar keeps.
_ALL = 1_000_000
_GLOB = frozenset("*?[/")
STDIN = 0


class Source(Protocol):
    """Where lines come from."""

    def past(self, last: int | None) -> Iterator[str]:
        """Return the last lines that are there already, or all."""
        ...

    def coming(self) -> AsyncIterator[str]:
        """Return what comes from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see, and how."""

    sieve: Sieve = field(default_factory=Sieve)
    lines: int | None = None  # of the past
    follow: bool = True
    as_json: bool = False
    style: Style = field(default_factory=Style)

    @property
    def past(self) -> int | None:
        """Return how many lines of the past to show; None is all that there are."""
        if self.lines is not None:
            return self.lines
        return None if self.sieve.since or not self.follow else _PAST

    @property
    def query(self) -> dict[str, str]:
        """Return what the sidecar itself can leave out; it knows no patterns."""
        query = {"replay": str(_ALL if self.past is None else self.past)}
        if self.sieve.level != "debug":
            query["level"] = self.sieve.level
        for name, patterns in (("type", self.sieve.types), ("tool", self.sieve.tools)):
            if patterns and not any(_GLOB & set(pattern) for pattern in patterns):
                query[name] = ",".join(patterns)
        return query


def asked(
    typed: Mapping[str, Any], now: datetime, environ: Mapping[str, str], *, terminal: bool
) -> Asked:
    """Read what was typed; raises ValueError with what is expected."""
    try:
        since = moment(typed["since"], now) if typed["since"] else None
    except ValueError as error:
        raise ValueError(f"--since: expected {error}") from None
    sieve = Sieve(
        typed["level"] or "debug",
        _listed(typed["types"]),
        _listed(typed["tools"]),
        typed["text"] or "",
        since,
    )
    style = Style(wants_colour(environ, terminal=terminal))
    return Asked(sieve, typed["lines"], not typed["no_follow"], typed["output"] == "json", style)


def _listed(patterns: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (patterns or "").split(",") if part.strip())


def found(name: str | None, environ: Mapping[str, str], stdin: int = STDIN) -> str:
    """Return which source is meant; without a name a pipe, else the sidecar of this machine."""
    if name is not None:
        return name
    return "-" if is_fed(stdin) else own_url(environ)


def is_fed(descriptor: int) -> bool:
    """Tell whether somebody pipes lines in; /dev/null, as of cron or `docker exec`, is nobody."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def opened(
    name: str, asked: Asked, token: str | None, clock: Clock, tell: Callable[[str], None]
) -> Source:
    """Open a source; raises ValueError with what to do when it cannot be."""
    if name.startswith(_LIVE):
        if not asked.follow:
            raise ValueError("--no-follow is for files; a live stream has no end")
        return Live(name, asked.query, token, clock, tell)
    if name == "-":
        if asked.lines is not None:
            raise ValueError("-n is for files and live streams; a pipe has no past")
        return Pipe(STDIN)
    path = Path(name)
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return File(path, clock, follow=asked.follow)
        return Pipe(os.open(path, os.O_RDONLY))
    except OSError as error:
        hint = "; for a live stream say http://" + name if ":" in name else ""
        raise ValueError(f"cannot read {name} ({error.strerror}){hint}") from None


class Screen:
    """Turn the lines that are wanted into what is shown."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def __call__(self, line: str) -> str | None:
        """Return what to show for a line, or None."""
        asked = self._asked
        event = event_in(line)
        if event is None:
            # whoever wants JSON reads it with a program, which would stumble
            wanted = not asked.as_json and bool(line.strip()) and asked.sieve.passes_text(line)
            return plain(line, asked.style) if wanted else None
        if not asked.sieve.passes(event, line):
            return None
        if event.get("event") == LOST:
            event.setdefault("level", "warning")
        return json.dumps(event) if asked.as_json else readable(event, asked.style)


def event_in(line: str) -> dict[str, Any] | None:
    """Return the JSON object in a line, also behind a prefix, as `docker compose logs` sets one."""
    begin = line.find("{")
    if begin < 0:
        return None
    try:
        value = json.loads(line[begin:])
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if begin == 0 or "event" in value else None


async def tail(
    source: Source, asked: Asked, write: Callable[[str], None], output: int | None = None
) -> None:
    """Show the past, then what comes; returns when a source has an end.

    It is cancelled when whoever reads the pipe `output` leaves: nothing may come for hours that
    would tell us so (GNU tail looks for this, too).
    """
    if output is not None and stat.S_ISFIFO(os.fstat(output).st_mode):
        leave = cast("asyncio.Task[None]", asyncio.current_task()).cancel
        asyncio.get_running_loop().add_reader(output, leave)
    screen = Screen(asked)
    for text in _past(source, asked, screen):
        write(text)
    async with aclosing(cast("AsyncGenerator[str, None]", source.coming())) as coming:
        async for line in coming:
            shown = screen(line)
            if shown is not None:
                write(shown)


def _past(source: Source, asked: Asked, screen: Screen) -> Iterable[str]:
    """Return the last lines that are shown; all are looked at where some are left out."""
    everything = asked.sieve != Sieve() or asked.as_json
    lines = source.past(None if everything else asked.past)
    shown = (text for line in lines if (text := screen(line)) is not None)
    return shown if asked.past is None else deque(shown, asked.past)
