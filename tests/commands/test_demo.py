"""`mcp-sidecar demo`: the story goes as it is told, and nothing is left behind."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import ROOT


def start(*arguments: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_proxy", "demo", *arguments],
        cwd=ROOT,
        env={"PATH": "", "MCP_PORT": "1", "REDIS_URL": "redis://nobody"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process: Any) -> list[int]:
    """Return the processes that it has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in found.split()]


def is_there(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return False
    return True


def test_the_story_goes_as_it_should_and_leaves_nothing() -> None:
    demo = start("--json")
    out, complaint = demo.communicate(timeout=60)
    said = json.loads(out)
    assert demo.returncode == 0, complaint
    assert said["ok"] is True
    steps = {step["step"]: step for step in said["steps"]}
    assert list(steps) == [
        *("miss", "hit", "outage", "stale", "refused", "recovery", "write", "fresh"),
    ]
    assert steps["hit"]["text"] == steps["stale"]["text"] == steps["miss"]["text"]
    assert steps["refused"]["error"]["delivered"] == "no"
    assert int(steps["refused"]["retry_after"]) >= 1
    assert steps["write"]["text"] == "booked room 1 in Berlin"
    assert f"dashboard {said['sidecar']}/dashboard" in complaint
    assert not is_there(said["sidecar"])


def test_it_is_kept_until_ctrl_c() -> None:
    demo = start("--keep")
    lines = []
    while "all is left running" not in (line := demo.stderr.readline()):
        lines.append(line)
        assert line, lines
    url = lines[0].split()[1].rstrip(",")
    assert is_there(url)
    started = children(demo)
    assert len(started) == 2
    demo.send_signal(signal.SIGINT)
    out, complaint = demo.communicate(timeout=20)
    assert (demo.returncode, complaint) == (0, "")
    assert out.startswith("miss ")
    assert not is_there(url)
    assert not any(Path(f"/proc/{number}").exists() for number in started)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_between_ends_all(number: signal.Signals) -> None:
    demo = start()
    url = demo.stderr.readline().split()[1].rstrip(",")
    demo.stdout.readline()
    started = children(demo)
    assert started
    demo.send_signal(number)
    _, complaint = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert "Traceback" not in complaint
    assert not is_there(url)
    assert not any(Path(f"/proc/{child}").exists() for child in started)
