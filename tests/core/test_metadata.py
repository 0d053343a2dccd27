"""OAuth resource metadata as clients of ours must read it, and nothing else of it."""

import json

import pytest

from mcp_proxy.core.addresses import address
from mcp_proxy.core.metadata import PublicUrl

PUBLIC = PublicUrl("https://mcp.example.com/team/", address("http://localhost:9000/base", "/mcp"))
WELL_KNOWN = "/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    ("value", "mapped"),
    [
        (
            f'Bearer resource_metadata="http://localhost:9000/base{WELL_KNOWN}", scope="a"',
            f'Bearer resource_metadata="https://mcp.example.com/team{WELL_KNOWN}", scope="a"',
        ),
        (
            f'Bearer error="x", Resource_Metadata = "http://127.0.0.1:9000{WELL_KNOWN}"',
            f'Bearer error="x", Resource_Metadata = "https://mcp.example.com/team{WELL_KNOWN}"',
        ),
        ('Bearer resource_metadata="https://other.example/x"',) * 2,
        ('Bearer realm="http://localhost:9000/base"',) * 2,
        ("Basic",) * 2,
    ],
)
def test_a_challenge_names_metadata_that_can_be_fetched(value: str, mapped: str) -> None:
    """Protocol notes, section 6."""
    assert PUBLIC.challenge(value) == mapped


def test_the_resource_is_what_clients_dial() -> None:
    document = {
        "resource": "http://localhost:9000/base/mcp",
        "authorization_servers": ["http://localhost:9000/base/auth"],
    }
    assert json.loads(PUBLIC.metadata(json.dumps(document).encode())) == {
        **document,
        "resource": "https://mcp.example.com/team/mcp",
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"resource": 1}', b'{ "resource": "https://other.example/mcp" }'],
)
def test_what_is_not_ours_to_say_stays_byte_for_byte(data: bytes) -> None:
    assert PUBLIC.metadata(data) == data
