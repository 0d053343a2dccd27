"""The log for people is made of the lines for machines."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_proxy.core.readable import Style
from mcp_proxy.signals.console import Console
from mcp_proxy.signals.logs import Log

ROOT = Path(__file__).parents[2]
# else there is a second warning: the name is none of this machine alone
SAFE = {"MCP_ADMIN_TOKEN": "a token of some length"}


def test_the_log_writes_what_the_console_makes_of_its_lines() -> None:
    end, descriptor = os.pipe()
    log = Log("info", descriptor, Console(Style()))
    log("circuit.state_changed", "error", circuit="look\x1b", before="closed", after="open")
    log("odd", nan=float("nan"), huge=2**70, alone="\ud800")
    log.close()
    os.close(descriptor)
    with os.fdopen(end, encoding="utf-8") as written:
        first, second = written.read().splitlines()
    assert first.endswith(r" ERROR circuit.state_changed  look\x1b closed -> open")
    assert second.endswith(rf"nan=nan huge={2**70} alone=\ud800")


def on_a_terminal(**environ: str) -> str:
    """Return what a run tells on a terminal: it cannot listen, so it ends at once."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "mcp_proxy", "run", "--upstream", "http://localhost:9"]
    subprocess.run(
        [*command, "--host", "nobody.invalid"],
        cwd=ROOT, env={"PATH": "", "MCP_ODD": "1", **environ}, timeout=60, check=False,
        stdout=its, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(its)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    return text


@pytest.mark.parametrize(
    ("environ", "form"),
    [
        ({"TERM": "xterm"}, "\x1b[33mWARN \x1b[0m"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, " WARN  config.warning"),
        ({"MCP_LOG_FORMAT": "json"}, '"level":"warning"'),
    ],
)
def test_a_terminal_gets_lines_for_people(environ: dict[str, str], form: str) -> None:
    assert form in on_a_terminal(**environ)


@pytest.mark.parametrize(
    ("environ", "is_json"),
    [({}, True), ({"MCP_LOG_FORMAT": "console"}, False), ({"FORCE_COLOR": "1"}, True)],
)
def test_what_is_no_terminal_gets_json(environ: dict[str, str], *, is_json: bool) -> None:
    command = [sys.executable, "-m", "mcp_proxy", "run", "--upstream", "http://localhost:9"]
    found = subprocess.run(
        [*command, "--host", "nobody.invalid"],
        cwd=ROOT, env={"PATH": "", "MCP_ODD": "1", **SAFE, **environ}, timeout=60, check=False,
        capture_output=True,
    )  # fmt: skip
    [line] = found.stdout.splitlines()
    assert line.startswith(b"{") is is_json
    assert b"config.warning" in line
    if is_json:
        assert json.loads(line)["level"] == "warning"
