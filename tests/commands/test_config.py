"""`mcp-sidecar config`: what is in force, and what a file may say."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mcp_proxy import cli
from mcp_proxy.effective import file_schema
from tests.commands.typed import URL, told

EXAMPLE = Path(cli.__file__).parents[1] / "config" / "mcp_proxy.toml"


def test_every_setting_is_shown_with_its_value() -> None:
    found = told("config", "show", "--upstream", URL, MCP_CACHE_TTL="7")
    assert found.exit_code == 0
    lines = [line.split() for line in found.stdout.splitlines()]
    assert lines[0] == ["variable", "value"]
    assert ["MCP_CACHE_TTL", "7"] in lines
    assert ["MCP_UPSTREAM_URL", URL] in lines
    assert ["MCP_UPSTREAM_NAME", "unset"] in lines


def test_origins_are_told_where_they_are_asked_for() -> None:
    found = told(
        *("config", "show", "--origin", "--upstream", URL, "--config", str(EXAMPLE)),
        MCP_CACHE_TTL="7",
    )
    lines = [line.split(maxsplit=2) for line in found.stdout.splitlines()]
    assert ["MCP_UPSTREAM_URL", URL, "command line"] in lines
    assert ["MCP_CACHE_TTL", "7", "environment"] in lines
    assert ["MCP_PORT", "8000", "default"] in lines
    assert "tools.'salesforce_query*': read_only = true" in found.stdout.splitlines()


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_is_shown(form: tuple[str, ...]) -> None:
    found = told(
        *("config", "show", *form, "--upstream", "http://me:c4nary@h"),
        MCP_ADMIN_TOKEN="c4nary",
        REDIS_URL="redis://:c4nary@r",
    )
    assert found.exit_code == 0
    assert "c4nary" not in found.output
    assert "***" in found.stdout


def test_json_is_what_the_endpoint_tells() -> None:
    rows = json.loads(told("config", "show", "--json", "--upstream", URL).stdout)["settings"]
    (ttl,) = [row for row in rows if row["variable"] == "MCP_CACHE_TTL"]
    assert (ttl["key"], ttl["value"], ttl["origin"]) == ("cache.ttl", 300.0, "default")


def test_settings_that_cannot_be_used_end_with_2() -> None:
    found = told("config", "show")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "MCP_UPSTREAM_URL: missing" in found.stderr


def test_the_schema_is_printed() -> None:
    assert json.loads(told("config", "schema").stdout) == file_schema()


def valid(text: str) -> bool:
    schema: Any = file_schema()
    Draft202012Validator.check_schema(schema)
    return bool(Draft202012Validator(schema).is_valid(tomllib.loads(text)))


def test_the_example_fits_the_schema() -> None:
    assert valid(EXAMPLE.read_text())


@pytest.mark.parametrize(
    "text",
    [
        'upstream.url = "http://a, http://b"',
        'upstream.url = ["http://a", "http://b"]',
        'server.allowed_hosts = "a, b"',
        'retry.hedge_delay = "p95"',
        "retry.hedge_delay = 0.5",
        '[tools."x*"]\nread_only = true\ninvalidates = ["jira/*"]',
    ],
)
def test_what_the_settings_take_fits_the_schema(text: str) -> None:
    assert valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "cache.tll = 3",
        "cache.ttl = -1",
        'retry.hedge_delay = "p50"',
        'signals.log_level = "loud"',
        "[tools.x]\nread_onyl = true",
        "[caches]",
    ],
)
def test_what_the_settings_refuse_does_not_fit_the_schema(text: str) -> None:
    assert not valid(text)
