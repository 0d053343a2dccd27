"""Real processes on loopback: the bundled basic server, a plain SDK server, the sidecar."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.edge.conftest import upstream

__all__ = ["upstream"]

ROOT = Path(__file__).parents[2]
RULES = str(ROOT / "config" / "mcp_proxy.toml")
# A process that has not said that it listens after this will not.
START_SECONDS = 20


class Process:
    """A server in a process of its own, whose first line says that it listens."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        clean.pop("REDIS_URL", None)
        self._arguments = [sys.executable, *arguments]
        self._environment = {**clean, "PYTHONUNBUFFERED": "1", **environment}
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._arguments,
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        if not self.first_line:
            raise AssertionError(self.process.communicate(timeout=START_SECONDS)[1])

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.communicate(timeout=START_SECONDS)

    def stop(self) -> tuple[int, str, str]:
        """End it as an operator would; return exit code, stdout, stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode, out, err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Pair:
    """The old server and the sidecar in front of it."""

    server: Process
    server_url: str
    sidecar: Process
    url: str


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start processes that end with the test."""
    started: list[Process] = []

    def begin(*arguments: str, **environment: str) -> Process:
        started.append(Process(*arguments, **environment))
        return started[-1]

    yield begin
    for process in reversed(started):
        process.kill()


@pytest.fixture
def sidecar_for(start: Callable[..., Process]) -> Callable[..., tuple[Process, str]]:
    """Start a sidecar for a URL; return it and its own URL."""

    def begin(url: str, **environment: str) -> tuple[Process, str]:
        process = start("-m", "mcp_proxy", "run", "--upstream", url, "--port", "0", **environment)
        started = json.loads(process.first_line)
        while started["event"] == "config.warning":
            assert process.process.stdout is not None
            started = json.loads(process.process.stdout.readline())
        return process, started["urls"][0]

    return begin


@pytest.fixture
def pair_with(
    start: Callable[..., Process], sidecar_for: Callable[..., tuple[Process, str]], tmp_path: Path
) -> Callable[..., Pair]:
    """Start the bundled basic server and a sidecar with its rules."""

    def begin(**environment: str) -> Pair:
        port = free_port()
        server = start(
            "-m",
            "examples.basic_server",
            "--host",
            "localhost",
            "--port",
            str(port),
            "--ledger",
            str(tmp_path / "ledger"),
        )
        url = f"http://localhost:{port}"
        sidecar, own = sidecar_for(url, MCP_CONFIG_FILE=RULES, **environment)
        return Pair(server, url, sidecar, own)

    return begin


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=START_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def tool_call(tool: str, service: str = "salesforce", **params: Any) -> dict[str, Any]:
    return {"service": service, "tool_name": tool, "params": params}


async def executed(http: aiohttp.ClientSession, server_url: str, tool: str) -> int:
    """Return how often a tool has really run."""
    async with http.get(f"{server_url}/control/calls") as response:
        calls = (await response.json())["calls"]
        return int(calls.get(tool, 0))


async def eventually(true: Callable[[], Any], what: str) -> None:
    """Wait until an asynchronous condition holds; the interval is the price of real processes."""
    async with asyncio.timeout(START_SECONDS):
        while not await true():  # noqa: ASYNC110 - another process has no event to wait on
            await asyncio.sleep(0.02)
    assert await true(), what
