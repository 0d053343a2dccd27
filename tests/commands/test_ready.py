"""`mcp-sidecar ready`: what a container's health check hears."""

import json

import pytest

from tests.commands.typed import told


def test_a_sidecar_that_is_not_there_is_not_ready() -> None:
    found = told("ready", "--json", MCP_PORT="1")
    assert found.exit_code == 1
    said = json.loads(found.stdout)
    assert said["ready"] is False
    assert "http://localhost:1/readyz" in said["why"]


@pytest.mark.parametrize("url", ["https://localhost:8000", "localhost:8000", "http://"])
def test_what_cannot_be_asked_is_said(url: str) -> None:
    found = told("ready", "--url", url)
    assert found.exit_code == 2
    assert "expected http://HOST:PORT" in found.stderr
