"""What clients of MCP are configured with."""

import json
import tomllib

import pytest

from mcp_proxy.core.clients import CLIENTS, Client

URL = "http://localhost:8000/mcp"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_snippet_names_the_url_in_its_own_format(client: Client) -> None:
    text = client.snippet(URL)
    assert text.count(URL) == 1
    assert "{url}" not in text
    if client.where.endswith(".json:"):
        assert json.loads(text)
    elif client.where.endswith(".toml:"):
        assert tomllib.loads(text)["mcp_servers"]["sidecar"] == {"url": URL}


def test_every_client_has_a_name_of_its_own() -> None:
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)
