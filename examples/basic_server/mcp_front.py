"""The tools over MCP, by the official SDK, with one resource and one prompt."""

import json
from inspect import getdoc

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations

from examples.basic_server.backend import Backend
from examples.basic_server.salesforce import ACCOUNTS_URI
from examples.basic_server.tools import Tool, gated

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY_HOST = "*"


def mcp_server(backend: Backend, tools: tuple[Tool, ...]) -> MCPServer:
    """Return the server that runs the tools, for MCP clients and for the REST front."""
    # Warnings only: the command promises one line on stdout, and logs are for trouble.
    server = MCPServer(
        "basic-server",
        version="1.0.0",
        instructions="Accounts and issues in memory. The create tools write.",
        log_level="WARNING",
    )
    for tool in tools:
        hints = None if tool.writes else ToolAnnotations(read_only_hint=True)
        server.add_tool(
            gated(tool, backend),
            name=tool.name,
            # Left to itself the SDK would show the docstring with the indent of its source.
            description=getdoc(tool.run),
            annotations=hints,
        )
    _add_accounts(server, backend)
    return server


def _add_accounts(server: MCPServer, backend: Backend) -> None:
    @server.resource(ACCOUNTS_URI, name="accounts", mime_type="application/json")
    def accounts() -> str:
        """Every account, as JSON."""
        return json.dumps([account.flat() for account in backend.salesforce.of("Account")])

    @server.prompt()
    def review_account(name: str) -> str:
        """Ask for a review of one account."""
        return f"Look up the account {name!r} and its open issues, then say what to do next."


def allowed_names(names: tuple[str, ...]) -> TransportSecuritySettings:
    """Return the SDK's guard against DNS rebinding, opened for loopback and these names.

    The SDK itself turns the guard off for any address but loopback; here only `*` does.
    """
    if ANY_HOST in names:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = [form for name in (*LOOPBACK, *names) for form in (name, f"{name}:*")]
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
