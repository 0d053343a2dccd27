"""`mcp-sidecar circuit`: the circuits of a running sidecar."""

import click

from mcp_proxy.commands.options import as_json
from mcp_proxy.commands.output import cell, say_json, say_table
from mcp_proxy.commands.running import ask, of_a_sidecar
from mcp_proxy.edge.admin import Admin

_HEAD = ("circuit", "state", "failures in a row", "opened", "next try in")


@click.group
def command() -> None:
    """Show or close the circuits of a running sidecar."""


@command.command
@of_a_sidecar
@as_json
def ls(*, url: str | None, token: str | None, as_json: bool) -> None:
    """Show all circuits, those that are not closed first."""
    circuits = ask(url, token, lambda admin: admin.get("/api/health", 503))["circuits"]
    if as_json:
        say_json(circuits)
        return
    rows = sorted(circuits.items(), key=lambda one: (one[1]["state"] == "closed", one[0]))
    say_table(_HEAD, [[name, *_cells(one)] for name, one in rows])


@command.command
@click.argument("name", required=False)
@of_a_sidecar
@as_json
def reset(*, name: str | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Close the circuit NAME, or all of them.

    The name is that of `circuit ls`; for a tool's circuit the tool is enough. What it guards is
    asked again with the next call, and opens it again if it still fails.
    """

    async def close(admin: Admin) -> list[str]:
        meant = name
        if name is not None:
            known = (await admin.get("/api/health", 503))["circuits"]
            meant = name if name in known or f"tool {name}" not in known else f"tool {name}"
        scope = {"circuit": meant} if meant is not None else None
        closed: list[str] = (await admin.post("/api/circuits/reset", scope))["reset"]
        return closed

    closed = ask(url, token, close)
    if as_json:
        say_json({"reset": closed})
        return
    for one in closed:
        click.echo(f"closed {cell(one, 300)}")
    if not closed:
        click.echo("nothing to close: no such circuit was open", err=True)


def _cells(one: dict[str, object]) -> list[object]:
    left = one["retry_after_s"]
    return [one["state"], one["failures"], one["opened"], "-" if left is None else f"{left} s"]
