"""`mcp-sidecar completion`: what the shells are given, and what they then ask."""

import shutil
import subprocess

import pytest

from mcp_proxy.commands.lazy import COMMANDS
from tests.commands.typed import told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_asks_this_program(shell: str) -> None:
    found = told("completion", shell)
    assert found.exit_code == 0
    assert f"_MCP_SIDECAR_COMPLETE={shell}_complete" in found.stdout
    assert "mcp-sidecar" in found.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_script() -> None:
    script = told("completion", "bash").stdout
    found = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")


def completed(*words: str) -> list[str]:
    """Return what bash is told may follow."""
    environ = {
        "_MCP_SIDECAR_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["mcp-sidecar", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return [line.partition(",")[2] for line in told(**environ).stdout.splitlines()]


def test_commands_and_options_are_completed() -> None:
    assert set(completed("")) >= {*COMMANDS, "run", "tail"}
    assert completed("co") == ["completion", "config"]
    assert completed("config", "s") == ["schema", "show"]
    assert "--watch" in completed("stats", "--w")
    assert completed("client-config", "cu") == ["cursor"]


def test_an_unknown_shell_is_a_usage_error() -> None:
    assert told("completion", "csh").exit_code == 2
