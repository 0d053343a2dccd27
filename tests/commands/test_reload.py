"""`mcp-sidecar reload`, and SIGHUP; tests/edge/test_reload.py shows what takes effect."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands.typed import URL, asked
from tests.edge.conftest import Opened
from tests.test_cli import ROOT, process

RULE = "[tools.look]\nread_only = true\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mcp.toml"
    file.write_text("")
    return file


async def test_what_changed_and_what_needs_a_restart_is_said(front: Opened, file: Path) -> None:
    sidecar = await front(MCP_CONFIG_FILE=file)
    found = await asked(sidecar, "reload")
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", "nothing has changed\n")
    file.write_text(f"concurrency.limit = 3\n{RULE}")  # noqa: ASYNC240 - a small file
    found = await asked(sidecar, "reload")
    assert (found.exit_code, found.stdout) == (
        0,
        "changed: tools\nneeds a restart: concurrency.limit\n",
    )
    found = await asked(sidecar, "reload", "--json")
    assert json.loads(found.stdout) == {"changed": [], "restart": ["concurrency.limit"]}


async def test_settings_that_cannot_be_used_end_with_2(front: Opened, file: Path) -> None:
    sidecar = await front(MCP_CONFIG_FILE=file)
    file.write_text("cache.tll = 3\ncache.ttl = -1\n")  # noqa: ASYNC240 - a small file
    found = await asked(sidecar, "reload")
    assert (found.exit_code, found.stdout) == (2, "")
    lines = found.stderr.splitlines()
    assert len(lines) == 3
    assert "did you mean ttl?" in found.stderr
    assert lines[-1] == "nothing has changed: these settings cannot be used"
    found = await asked(sidecar, "reload", "--json")
    assert found.exit_code == 2
    assert len(json.loads(found.stdout)["faults"]) == 2


async def test_a_token_is_asked_for(front: Opened) -> None:
    found = await asked(await front(MCP_ADMIN_TOKEN="s3cret"), "reload")
    assert (found.exit_code, found.stdout) == (1, "")


# --- SIGHUP


def test_a_hangup_reads_the_settings_anew(file: Path) -> None:
    with process(URL, MCP_CONFIG_FILE=str(file)) as sidecar:
        sidecar.until("proxy.started")
        file.write_text(RULE)
        sidecar.stop(signal.SIGHUP)
        assert sidecar.until("config.reloaded")["changed"] == ["tools"]
        file.write_text("cache.tll = 3")
        sidecar.stop(signal.SIGHUP)
        assert "cache.tll" in sidecar.until("config.warning")["message"]
        sidecar.stop()
        assert sidecar.end() == 0


def test_who_wants_no_hangup_gets_none(file: Path) -> None:
    """As nohup(1) starts it."""
    ignoring = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from mcp_proxy.cli import main; main()"
    )
    with process(URL, "-c", ignoring, MCP_CONFIG_FILE=str(file)) as sidecar:
        sidecar.until("proxy.started")
        sidecar.stop(signal.SIGHUP)
        sidecar.stop()
        assert sidecar.end() == 0
    assert "config.reloaded" not in [event["event"] for event in sidecar.events]


def test_a_terminal_that_is_gone_is_the_end() -> None:
    """Else a closed window would leave a process behind that holds the port."""
    leader, follower = pty.openpty()
    run = [sys.executable, "-m", "mcp_proxy", "run", "--upstream", URL, "--port", "0"]
    started: Any = subprocess.Popen(
        run,
        cwd=ROOT,
        env={"PATH": ""},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - it makes one call
    )
    os.close(follower)
    try:
        shown = b""
        while b"proxy.started" not in shown:
            shown += os.read(leader, 4096)
        os.kill(started.pid, signal.SIGHUP)  # a hang-up alone is none
        while b"config.reloaded" not in shown:
            shown += os.read(leader, 4096)
        os.close(leader)
        assert started.wait(10) == 0
    finally:
        started.kill()
        started.wait()


def _take_terminal() -> None:
    """Make standard input the controlling terminal: its end sends SIGHUP."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
