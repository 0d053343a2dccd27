"""Options that several commands take, and what becomes of them."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

# Exit codes (DESIGN section 8).
FAILED, WRONG_SETTINGS, UNCLEAN = 1, 2, 3

_SETTINGS = (
    click.option(
        "--upstream",
        "MCP_UPSTREAM_URL",
        metavar="URL",
        help="The server behind, such as http://localhost:9000.",
    ),
    click.option(
        "--command",
        "MCP_UPSTREAM_COMMAND",
        metavar="COMMAND",
        help="The server itself, if it speaks over stdio, such as 'python server.py'.",
    ),
    click.option("--host", "MCP_HOST", metavar="NAME", help="Address or name to listen on."),
    click.option(
        "--port", "MCP_PORT", metavar="PORT", help="Port to listen on; 0 takes a free one."
    ),
    click.option(
        "--config", "MCP_CONFIG_FILE", metavar="FILE", help="Settings and tool rules (TOML)."
    ),
    click.option("--redis", "REDIS_URL", metavar="URL", help="Keep answers in Redis or Valkey."),
    click.option(
        "--log-level", "MCP_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error."
    ),
)
as_json = click.option("--json", "as_json", is_flag=True, help="For programs: JSON.")


def with_settings(command: Any) -> Any:
    """Let a command take the settings that people type."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def environment() -> Mapping[str, str]:
    """Return the environment, to be handed on: settings.py alone knows what it means."""
    return os.environ  # noqa: TID251 - handed on, from here


def settings_of(typed: dict[str, str | None]) -> tuple[Any, list[str]]:
    """Return the settings and their warnings, or exit 2 with every fault."""
    from mcp_proxy.sources import Loader, SettingsError  # noqa: PLC0415 - --help stays quick

    loader = Loader(typed, environment())
    try:
        return loader.load(), loader.warnings
    except SettingsError as error:
        for warning in loader.warnings:
            click.echo(f"  warning: {warning}", err=True)
        count = len(error.faults)
        click.echo(
            f"mcp-sidecar: {count} setting{'' if count == 1 else 's'} cannot be used:", err=True
        )
        for fault in error.faults:
            click.echo(f"  {fault}", err=True)
        sys.exit(WRONG_SETTINGS)
