"""The commands are found by their names, and imported when they are typed."""

import subprocess
import sys

import click
import pytest

from mcp_proxy import cli
from mcp_proxy.commands.lazy import COMMANDS
from tests.commands.typed import told


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_of_a_command_what_it_says_itself(name: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert command.get_short_help_str(limit=100) == COMMANDS[name]
    assert told(name, "--help").exit_code == 0
    assert f"{COMMANDS[name]}" in " ".join(told("--help").stdout.split())


def test_help_imports_no_command() -> None:
    """Nothing that takes its time: aiohttp and pydantic alone take half a second."""
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from mcp_proxy.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([name for name in sys.modules if name in ('aiohttp', 'pydantic', 'orjson')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["config", "schema"], ["client-config"], ["check"]])
def test_a_full_disk_is_an_error_and_no_traceback(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        found = subprocess.run(
            [sys.executable, "-m", "mcp_proxy", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={"MCP_UPSTREAM_URL": "http://localhost:9000"},
        )
    assert found.returncode == 1
    assert found.stderr == "Error: cannot write: No space left on device\n"


@pytest.mark.parametrize("arguments", ["stats --url http://localhost:9", "client-config", "tail x"])
def test_a_closed_stdout_is_no_traceback(arguments: str) -> None:
    found = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m mcp_proxy {arguments} >&-"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode in {0, 1, 2}
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_ctrl_c_ends_with_130(command: str) -> None:
    code = (
        "import os, signal\n"
        "from mcp_proxy import cli\n"
        "from mcp_proxy.commands import check, doctor\n"
        f"{command}.settings_of = lambda _: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_an_unknown_command_is_a_usage_error() -> None:
    assert told("confg").exit_code == 2
