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


def test_an_unknown_command_is_a_usage_error() -> None:
    assert told("confg").exit_code == 2
