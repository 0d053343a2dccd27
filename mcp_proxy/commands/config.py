"""`mcp-sidecar config`: the settings in force, and what a file may say."""

from typing import Any

import click

from mcp_proxy.commands.options import as_json, settings_of, with_settings
from mcp_proxy.commands.output import say_json, say_table
from mcp_proxy.effective import effective, file_schema


@click.group
def command() -> None:
    """Show the settings in force, or what a file may say."""


@command.command
@with_settings
@click.option("--origin", is_flag=True, help="Say where each value comes from, too.")
@as_json
def show(*, origin: bool, as_json: bool, **typed: str | None) -> None:
    """Show every setting as `run` would find it; secrets are masked.

    The same as `GET /api/config` of a running sidecar tells.
    """
    settings, warnings = settings_of(typed)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    found = effective(settings)
    if as_json:
        say_json(found)
        return
    columns = ["variable", "value", *(["origin"] if origin else [])]
    say_table(
        columns,
        [[_shown(row[column]) for column in columns] for row in found["settings"]],
    )
    for pattern, rule in found["tools"].items():
        click.echo(f"tools.{pattern!r}: {_shown(rule)}")
    for pattern in found["failures"]["patterns"]:
        click.echo(f"failures.patterns: {pattern!r}")


@command.command
def schema() -> None:
    """Print the JSON Schema of the file that MCP_CONFIG_FILE names, for editors and CI."""
    say_json(file_schema())


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_shown(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)
