"""`mcp-sidecar doctor`: what may go wrong between the sidecar, the server and Redis."""

import asyncio
import sys
from typing import Any

import click

from mcp_proxy.commands.examination import ERROR, OK, WARNING, Finding, examine
from mcp_proxy.commands.options import FAILED, as_json, environment, settings_of, with_settings
from mcp_proxy.commands.output import cell, say_json, some
from mcp_proxy.core.readable import wants_colour
from mcp_proxy.layers.clock import SystemClock

_COLOURS = {OK: "32", WARNING: "33", ERROR: "1;31"}
_WIDEST = 400


@click.command
@with_settings
@as_json
def command(*, as_json: bool, **typed: str | None) -> None:
    """Look for what may go wrong with these settings, this server and this Redis.

    Each finding has a level and, if it is not ok, a remedy. Exit 1 if there is an error. No tool is
    called, and nothing is written.
    """
    settings, warnings = settings_of(typed)
    colour = wants_colour(environment(), terminal=sys.stdout.isatty())
    found = [Finding(WARNING, "settings", one, "see the README's table") for one in warnings]

    async def look() -> None:
        async for finding in examine(settings, SystemClock()):
            found.append(finding)
            if not as_json:
                _tell(finding, colour=colour)

    for finding in [] if as_json else found:
        _tell(finding, colour=colour)
    asyncio.run(look())
    counts: dict[str, Any] = {
        level: sum(finding.level == level for finding in found) for level in (OK, WARNING, ERROR)
    }
    if as_json:
        say_json({"findings": [finding._asdict() for finding in found], "counts": counts})
    else:
        errors, doubts = some(counts[ERROR], "error"), some(counts[WARNING], "warning")
        click.echo(f"{errors}, {doubts}", err=True)
    if counts[ERROR]:
        sys.exit(FAILED)


def _tell(finding: Finding, *, colour: bool) -> None:
    mark = f"{finding.level:7}"
    mark = f"\x1b[{_COLOURS[finding.level]}m{mark}\x1b[0m" if colour else mark
    about, said = cell(finding.about, _WIDEST), cell(finding.said, _WIDEST)
    click.echo(f"{mark}  {about}: {said}", color=colour)
    if finding.remedy:
        click.echo(f"         {cell(finding.remedy, _WIDEST)}")
