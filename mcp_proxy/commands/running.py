"""What commands that speak to a running sidecar share: its address, its token, its silence."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from mcp_proxy.commands.options import environment
from mcp_proxy.core.addresses import own_url
from mcp_proxy.edge.admin import Admin, NoAnswerError

T = TypeVar("T")

_OPTIONS = (
    click.option(
        "--url",
        metavar="URL",
        help="The sidecar; without it that of this machine (MCP_HOST, MCP_PORT).",
    ),
    click.option("--token", metavar="TOKEN", help="Better in MCP_ADMIN_TOKEN (ps shows this one)."),
)


def of_a_sidecar(command: Any) -> Any:
    """Let a command take the address of a sidecar, and the token."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ask(url: str | None, token: str | None, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Do something with a running sidecar; ends the command with 1 where it does not answer."""
    environ = environment()
    try:
        admin = Admin(url or own_url(environ), token or environ.get("MCP_ADMIN_TOKEN"))
    except ValueError as error:
        raise click.UsageError(f"--url: expected {error}") from None

    async def asked() -> T:
        async with admin:
            return await work(admin)

    try:
        return asyncio.run(asked())
    except NoAnswerError as error:
        raise click.ClickException(str(error)) from None
