"""Which of new settings takes effect; tests/edge/test_reload.py shows that they do."""

import os
from pathlib import Path

import pytest

from mcp_proxy.reload import LIVE, change
from mcp_proxy.settings import Settings, variables
from mcp_proxy.sources import Loader, SettingsError

URL = "http://localhost:9000"


def loaded(**environ: str) -> Settings:
    return Loader({}, {"MCP_UPSTREAM_URL": URL, **environ}).load()


def test_every_live_key_is_a_setting() -> None:
    assert set(variables().values()) > LIVE


def test_equal_settings_are_no_change() -> None:
    found = change(loaded(MCP_CACHE_TTL="7"), loaded(MCP_CACHE_TTL="7.0"))
    assert (found.changed, found.restart) == ([], [])


def test_what_is_live_takes_effect_and_the_rest_stays() -> None:
    before = loaded(MCP_PORT="1", MCP_CACHE_TTL="7")
    found = change(before, loaded(MCP_PORT="2", MCP_MAX_RETRIES="1"))
    assert found.changed == ["cache.ttl", "retry.max_retries"]
    assert found.restart == ["server.port"]
    assert found.settings.server.port == 1
    assert (found.settings.cache.ttl, found.settings.retry.max_retries) == (300, 1)
    assert found.settings.origins[("server", "port")] == "environment"
    assert ("cache", "ttl") not in found.settings.origins
    assert found.settings.origins[("retry", "max_retries")] == "environment"
    assert before.cache.ttl == 7


def test_what_needs_a_restart_is_told_again_with_the_next_reload() -> None:
    first = change(loaded(), loaded(MCP_PORT="2"))
    assert change(first.settings, loaded(MCP_PORT="2")).restart == ["server.port"]
    assert change(first.settings, loaded()).restart == []


def test_rules_and_patterns_take_effect_as_tables(tmp_path: Path) -> None:
    file = tmp_path / "mcp.toml"
    file.write_text("[tools.x]\nread_only = true\n[failures]\npatterns = ['down']\n")
    before = loaded(MCP_CONFIG_FILE=str(file))
    file.write_text("[tools.y]\nread_only = true\n")
    found = change(before, before.again())
    assert found.changed == ["tools", "failures"]
    assert list(found.settings.tools) == ["y"]
    assert found.settings.failures.patterns == ()
    assert ("tools", "y") in found.settings.origins
    assert ("tools", "x") not in found.settings.origins
    file.write_text("")
    assert change(found.settings, found.settings.again()).changed == ["tools"]


@pytest.mark.parametrize("variable", ["MCP_CONFIG_FILE", "MCP_ADMIN_TOKEN_FILE"])
def test_what_can_be_read_only_once_is_a_fault(tmp_path: Path, variable: str) -> None:
    """A reload that waited for a pipe would never end; an empty one would mean all defaults."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environ = {"MCP_UPSTREAM_URL": URL, variable: str(pipe)}
    with pytest.raises(SettingsError, match="read only once"):
        Loader({}, environ, anew=True).load()


def test_settings_from_nowhere_stay_as_they_are() -> None:
    settings = Settings.model_validate({"upstream": {"url": URL}})
    assert settings.again() is settings
