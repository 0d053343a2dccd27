"""`mcp-sidecar ready`: the health check of a container, which asks it for as long as that lives."""

import http.client
import sys
from urllib.parse import urlsplit

import click

from mcp_proxy.commands.options import FAILED, as_json, environment
from mcp_proxy.commands.output import say_json
from mcp_proxy.core.addresses import own_url

# Seconds; a container's health check has 3 in all.
_PATIENCE = 2.0


@click.command
@click.option(
    "--url",
    metavar="URL",
    help="The sidecar; without it that of this machine (MCP_HOST, MCP_OPS_PORT or MCP_PORT).",
)
@as_json
def command(*, url: str | None, as_json: bool) -> None:
    """Tell by the exit code whether a sidecar is ready: 0 or 1.

    It asks /readyz: 200 from the first moment it listens until it is told to end, whatever the server
    behind it does.
    """
    why = trouble(url or own_url(environment()))
    if as_json:
        say_json({"ready": why is None, "why": why})
    elif why is not None:
        click.echo(why, err=True)
    sys.exit(FAILED if why is not None else 0)


def trouble(url: str) -> str | None:
    """Return why a sidecar is not ready, or None.

    By the standard library: aiohttp alone takes longer to import than all of this, and urllib would
    ask the HTTP proxy that an engine may put into every container's environment.
    """
    asked = urlsplit(url)
    if asked.scheme != "http" or not asked.hostname:
        raise click.UsageError("--url: expected http://HOST:PORT")
    connection = http.client.HTTPConnection(asked.netloc, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{url}/readyz: {getattr(error, 'strerror', None) or repr(error)}"
    return None if status == http.client.OK else f"{url}/readyz: {status}"
