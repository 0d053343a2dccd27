"""`mcp-sidecar reload`: let a running sidecar read its settings anew."""

import sys
from typing import Any

import click

from mcp_proxy.commands.options import WRONG_SETTINGS, as_json
from mcp_proxy.commands.output import cell, say_json
from mcp_proxy.commands.running import ask, of_a_sidecar
from mcp_proxy.edge.admin import Admin, RefusedError


@click.command
@of_a_sidecar
@as_json
def command(*, url: str | None, token: str | None, as_json: bool) -> None:
    """Let a running sidecar read its settings anew, as SIGHUP does.

    Says what took effect and what needs a restart. Exit 2 if a setting cannot be used: then nothing
    has changed, and every fault is named.
    """

    async def reload(admin: Admin) -> dict[str, Any]:
        try:
            return await admin.post("/api/config/reload")
        except RefusedError as refused:
            if "faults" not in refused.said:
                raise
            return dict(refused.said)

    said = ask(url, token, reload)
    if as_json:
        say_json(said)
    else:
        _tell(said)
    if "faults" in said:
        sys.exit(WRONG_SETTINGS)


def _tell(said: dict[str, Any]) -> None:
    for key in said.get("changed", []):
        click.echo(f"changed: {cell(key)}")
    for key in said.get("restart", []):
        click.echo(f"needs a restart: {cell(key)}")
    for fault in said.get("faults", []):
        click.echo(f"  {cell(fault, 500)}", err=True)
    if "faults" in said:
        click.echo("nothing has changed: these settings cannot be used", err=True)
    elif not said["changed"] and not said["restart"]:
        click.echo("nothing has changed", err=True)
