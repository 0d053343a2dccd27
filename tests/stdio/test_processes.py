"""No process of a command outlives the sidecar, however that ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stdio.conftest import PATIENCE, child, lives, until


class Sidecar:
    """A sidecar in a process of its own, whose temporary files are below a folder of ours."""

    def __init__(self, command: str, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_proxy", "run", "--command", command, "--port", "0"],
            env={**clean, "LEDGER": str(self.ledger), "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self) -> list[str]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [line.split()[0] for line in lines if line.split()[1] == "began"]

    @property
    def alive(self) -> list[str]:
        return [pid for pid in self.pids() if lives(pid)]


@contextmanager
def sidecar(command: str, folder: Path) -> Iterator[Sidecar]:
    one = Sidecar(command, folder)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("habit", ["", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_no_process_outlives_the_sidecar(
    tmp_path: Path, number: signal.Signals, habit: str
) -> None:
    """Also those that ignore the end of stdin and SIGTERM, and also the socket is gone."""
    with sidecar(child(*([habit] if habit else [])), tmp_path) as one:
        await until(lambda: len(one.pids()) >= 2 and one.alive)
        one.process.send_signal(number)
        code = one.process.wait(timeout=PATIENCE)
        assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        await until(lambda: not one.alive)
        await until(lambda: not list(one.temporary.iterdir()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_a_process_has_started_goes_with_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """npx and shells start the server itself: the whole group is ended."""
    shell = f"sh -c '{child('stubborn')} & wait'"
    with sidecar(shell, tmp_path) as one:
        await until(lambda: one.alive)
        one.process.send_signal(number)
        one.process.wait(timeout=PATIENCE)
        await until(lambda: not one.alive)


async def test_stderr_of_a_process_is_ours_and_stdout_stays_the_log(tmp_path: Path) -> None:
    script = tmp_path / "loud.py"
    script.write_text(
        "import sys\nprint('canary', file=sys.stderr, flush=True)\nsys.stdin.read()\n"
    )
    with sidecar(f"{sys.executable} {script}", tmp_path) as one:
        assert one.process.stderr is not None
        assert one.process.stderr.readline() == "canary\n"
        one.process.terminate()
        out, _ = one.process.communicate(timeout=PATIENCE)
    assert "canary" not in out
    assert [json.loads(line)["event"] for line in out.splitlines()][-1] == "child.ended"


@pytest.mark.parametrize("command", ["/bin/false --token canary", "/no/such/program canary"])
def test_check_fails_where_the_command_does(command: str) -> None:
    found = checked(command)
    assert found.returncode == 1
    assert found.stdout.splitlines()[2].endswith(
        (
            ": not reachable (no answer to a handshake)",
            ": not reachable (upstream_unreachable: The server is unreachable.)",
        )
    )
    assert "canary" not in found.stdout + found.stderr


def checked(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
    return subprocess.run(
        [sys.executable, "-m", "mcp_proxy", "check", "--probe", "--command", command],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_check_runs_the_command_to_look_at_it(tmp_path: Path) -> None:
    """Its arguments, which may be secrets, are not shown."""
    found = checked(child("canary"), LEDGER=str(tmp_path / "ledger"))
    assert found.stderr == ""
    assert found.stdout.splitlines()[1:] == [
        f"the server is a command: {sys.executable} with 2 arguments",
        f"stdio:{Path(sys.executable).name}: reachable, health 404, MCP 2025-11-25, 3 tools",
    ]
    assert found.returncode == 0
