"""The processes of a soak: Redis, the server behind, and the sidecar between it and the clients."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import ROOT, Process, free_port, listens
from benchmarks.soak.log import LogReader
from benchmarks.soak.verdicts import SOUND, Verdicts
from tests.stores.conftest import Server as Redis

TIMEOUT = 10  # seconds, MCP_REQUEST_TIMEOUT
BODY = 256 * 1024  # bytes, MCP_MAX_BODY_BYTES
SLOWEST = 3  # seconds, MCP_HEAD_TIMEOUT and MCP_BODY_TIMEOUT
# Everything has its bound within the warm-up, and nothing stays shut for longer than a storm lasts.
SETTINGS = {
    "MCP_REQUEST_TIMEOUT": TIMEOUT,
    "MCP_ATTEMPT_TIMEOUT": 2,
    "MCP_CB_RECOVERY_TIMEOUT": 1,
    "MCP_HEALTH_INTERVAL": 1,
    "MCP_CACHE_MAX_ENTRIES": 2000,
    "MCP_CACHE_QUARANTINE": 0.2,
    "MCP_MAX_BODY_BYTES": BODY,
    "MCP_HEAD_TIMEOUT": SLOWEST,
    "MCP_BODY_TIMEOUT": SLOWEST,
    "MCP_EVENTS_FANOUT": "redis",
    "MCP_LOG_FORMAT": "json",
}
_RULES = (ROOT / "config" / "mcp_proxy.toml").read_text()
_MORE_RULES = """
[tools.jira_create_issue]
invalidates = ["jira_search_issues"]

[tools.salesforce_create]
invalidates = ["salesforce_query"]

[tools.jira_set_status]
idempotent = true
invalidates = ["jira_search_issues"]
"""
_TTL = "ttl = 300 "  # of [cache], which a reload changes
_START = 30.0  # seconds
_LOOK = 0.02
_END = 15.0  # seconds; MCP_SHUTDOWN_GRACE is 8


class Scene:
    """What runs, and what can be done to it."""

    def __init__(self, directory: Path, seed: int, log: Path | None) -> None:
        self.ledger = directory / "ledger"
        self.errors = directory / "stderr"
        self.redis = Redis()
        self._log = log
        self._rules = directory / "rules.toml"
        self._lives = 0
        self._reloads = 0
        self._seed = seed
        self._server_port = free_port()
        self.write_rules()
        self.redis.start()
        self._next = self._prepared()
        self.start_server()
        self.port = free_port()
        self.sidecar = self._start_sidecar()
        self.process = Process(self.sidecar.pid, self.port)

    def start_server(self) -> None:
        """Start the server (again), with other faults than before."""
        self.server, self._next = self._next, self._prepared()
        assert self.server.stdin is not None
        self.server.stdin.write(b"begin\n")
        self.server.stdin.close()
        wait_until_it_listens(self.server, self._server_port)

    def _prepared(self) -> "subprocess.Popen[bytes]":
        self._lives += 1
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.soak.server", str(self._server_port)),
                *(str(self.ledger), str(self._seed + self._lives)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )

    def end_server(self, number: int) -> None:
        """Kill the server, or tell it to end, and wait until it has."""
        self.server.send_signal(number)
        self.server.wait(_END)

    def _start_sidecar(self) -> "subprocess.Popen[bytes]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        own = {name: str(value) for name, value in SETTINGS.items()}
        own |= {"MCP_CONFIG_FILE": str(self._rules), "REDIS_URL": self.redis.url}
        with self.errors.open("wb") as errors:
            started = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mcp_proxy", "run", "--host", "127.0.0.1"),
                    *("--port", str(self.port)),
                    *("--upstream", f"http://127.0.0.1:{self._server_port}"),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**clean, **own},
            )
        wait_until_it_listens(started, self.port)
        return started

    def write_rules(self) -> None:
        """Write the sidecar's settings, a little different each time."""
        self._reloads += 1
        rules = _RULES.replace(_TTL, f"ttl = {300 + self._reloads} ", 1)
        self._rules.write_text(rules + _MORE_RULES)

    def read_log(self, verdicts: Verdicts) -> LogReader:
        """Begin to read what the sidecar says."""
        assert self.sidecar.stdout is not None
        return LogReader(self.sidecar.stdout, verdicts, self._log)

    async def end_sidecar(self, verdicts: Verdicts) -> None:
        """End the sidecar as an operator does, and look at how it ends."""
        self.sidecar.send_signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            code = await asyncio.to_thread(self.sidecar.wait, _END)
        except subprocess.TimeoutExpired:
            verdicts.breaks(SOUND, f"still there {_END:.0f} s after SIGTERM")
            return
        verdicts.counted["ms to its end"] = round((time.monotonic() - began) * 1000)
        if code != 0:
            verdicts.breaks(SOUND, f"exit code {code} after SIGTERM")
        if said := self.errors.read_text():
            verdicts.breaks(SOUND, f"on stderr: {said[-2000:]}")

    def close(self) -> None:
        """End whatever still runs."""
        for process in (self.sidecar, self.server, self._next):
            if process.poll() is None:
                process.kill()
                process.wait()
        self.redis.stop()


def wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    over = time.monotonic() + _START
    while not listens(port):
        if process.poll() is not None or time.monotonic() > over:
            raise SystemExit(f"does not listen on {port}: {process.args!r}")
        time.sleep(_LOOK)


@contextmanager
def scene(seed: int, log: Path | None = None) -> Iterator[Scene]:
    """Start everything; end everything. The sidecar's log is kept in a file, if one is named."""
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        running = Scene(Path(directory), seed, log)
        try:
            yield running
        finally:
            running.close()
