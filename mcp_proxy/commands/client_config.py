"""`mcp-sidecar client-config`: what to put where so that a client asks the sidecar."""

import click

from mcp_proxy.commands.options import as_json, environment
from mcp_proxy.commands.output import say_json
from mcp_proxy.core.addresses import own_url
from mcp_proxy.core.clients import CLIENTS
from mcp_proxy.edge.admin import base_of


@click.command
@click.argument("client", required=False, type=click.Choice([client.name for client in CLIENTS]))
@click.option(
    "--url",
    metavar="URL",
    help="The sidecar; without it MCP_PUBLIC_URL, or that of this machine (MCP_HOST, MCP_PORT).",
)
@as_json
def command(*, client: str | None, url: str | None, as_json: bool) -> None:
    """Print what to configure a client of MCP with; without CLIENT, their names.

    Only the snippet is on stdout; where it goes is said on stderr. Clients bring their own
    credentials, as they did to the server.
    """
    if client is None:
        names = [one.name for one in CLIENTS]
        say_json(names) if as_json else click.echo("\n".join(names))
        return
    found = next(one for one in CLIENTS if one.name == client)
    snippet = found.snippet(endpoint(url))
    if as_json:
        say_json({"client": found.name, "where": found.where.rstrip(":"), "snippet": snippet})
    else:
        click.echo(found.where, err=True)
        click.echo(snippet)


def endpoint(url: str | None) -> str:
    """Return the URL of the MCP endpoint; one with a path is taken for it."""
    environ = environment()
    try:
        base = base_of(url or environ.get("MCP_PUBLIC_URL") or own_url(environ))
    except ValueError as error:
        raise click.UsageError(f"--url: expected {error}") from None
    if base.path in {"", "/"}:
        base = base.with_path(environ.get("MCP_PATH") or "/mcp")
    return str(base)
