"""`mcp-sidecar check`: whether the settings can be used, and whether the server is there."""

import asyncio
import sys
from typing import Any

import click

from mcp_proxy.cautions import cautions
from mcp_proxy.commands.looking import Found, looking
from mcp_proxy.commands.options import FAILED, as_json, settings_of, with_settings
from mcp_proxy.commands.output import cell, say_json, some


@click.command
@with_settings
@click.option("--probe", is_flag=True, help="Look at the server, too: it must be there.")
@as_json
def command(*, probe: bool, as_json: bool, **typed: str | None) -> None:
    """Check the settings without serving.

    Exit 0 if they can be used, else 2. With --probe, 1 if a server is not there or not alive: its
    health page answers below 500. It is asked for its era of MCP and its tools, and calls none.
    """
    settings, warnings = settings_of(typed)
    warnings += cautions(settings)
    found = asyncio.run(_found(settings)) if probe else []
    if as_json:
        servers = {"servers": [one.shown() for one in found]} if probe else {}
        command = settings.upstream.arguments[:1]
        run = {"command": command[0]} if command else {}  # its arguments may be secrets
        say_json({"tool_rules": len(settings.tools), "warnings": warnings, **run, **servers})
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"settings are usable: {some(len(settings.tools), 'tool rule')}")
        if command := settings.upstream.arguments:
            rest = some(len(command) - 1, "argument")
            click.echo(f"the server is a command: {cell(command[0])} with {rest}")
        for one in found:
            click.echo(_line(one))
    if not all(one.works for one in found):
        sys.exit(FAILED)


async def _found(settings: Any) -> list[Found]:
    async with looking(settings) as lookers:
        return [await one.found(settings.upstream.health_path) for one in lookers]


def _line(one: Found) -> str:
    name = cell(one.name)
    if one.status is None:
        return f"{name}: not reachable ({one.why})"
    health = f"{name}: reachable, health {one.status}"
    if not one.eras:
        return f"{health}, no MCP without credentials"
    if one.tools is None:
        return f"{health}, MCP {', '.join(map(cell, one.eras))}, tools not listed to us"
    return f"{health}, MCP {', '.join(map(cell, one.eras))}, {some(len(one.tools), 'tool')}"
