"""What outlives a call, as the settings name it."""

import pytest

from mcp_proxy import behind
from mcp_proxy.sources import Loader
from mcp_proxy.storage import upstream_name


def name(**environment: str) -> str:
    settings = Loader({}, environment).load()
    return upstream_name(settings, behind.addresses(settings))


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        ("http://localhost:9000", False),
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000", False),
        ("http://basic-server:9000", False),
        ("http://mcp.example.com", True),
        ("http://192.0.2.7:9000", True),
    ],
)
def test_only_addresses_that_mean_one_server_everywhere_name_it(url: str, shared: bool) -> None:
    """DESIGN section 4, Key: unrelated sidecars on one Redis never share."""
    assert ("@" not in name(MCP_UPSTREAM_URL=url)) is shared
    assert name(MCP_UPSTREAM_URL=url, MCP_UPSTREAM_NAME="crm") == "crm"
