"""`mcp-sidecar client-config`; tests/core/test_clients.py has the formats."""

import json

import pytest

from mcp_proxy.core.clients import CLIENTS
from mcp_proxy.edge import dashboard
from tests.commands.typed import told


def test_alone_it_names_the_clients() -> None:
    names = [client.name for client in CLIENTS]
    assert told("client-config").stdout.split() == names
    assert json.loads(told("client-config", "--json").stdout) == names


@pytest.mark.parametrize(
    ("arguments", "environ", "url"),
    [
        ((), {}, "http://localhost:8000/mcp"),
        ((), {"MCP_PORT": "8123", "MCP_PATH": "/rpc"}, "http://localhost:8123/rpc"),
        ((), {"MCP_PUBLIC_URL": "https://mcp.example.com"}, "https://mcp.example.com/mcp"),
        (("--url", "https://mcp.example.com"), {}, "https://mcp.example.com/mcp"),
        (("--url", "https://mcp.example.com/team/mcp"), {}, "https://mcp.example.com/team/mcp"),
    ],
)
def test_the_snippet_has_the_url_of_the_endpoint(
    arguments: tuple[str, ...], environ: dict[str, str], url: str
) -> None:
    found = told("client-config", "cursor", *arguments, **environ)
    assert found.exit_code == 0
    assert json.loads(found.stdout) == {"mcpServers": {"sidecar": {"url": url}}}
    assert found.stderr == "In ~/.cursor/mcp.json:\n"


def test_an_unknown_client_is_a_usage_error() -> None:
    assert told("client-config", "emacs").exit_code == 2
    assert told("client-config", "cursor", "--url", "localhost").exit_code == 2


def test_the_dashboard_knows_the_same_clients() -> None:
    text = dashboard.files()["/dashboard/clients.js"].plain.decode()
    said = json.loads(text.removeprefix("export const CLIENTS="))
    assert said == [[client.title, client.where, client.text] for client in CLIENTS]
