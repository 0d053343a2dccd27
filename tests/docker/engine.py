"""The Compose project of these tests, on a real engine."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD, UP, HEALTHY, RETURN = 500, 60, 30, 15  # seconds, as limits
GRACE = 15  # seconds; stop_grace_period
USER = "10001"
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
LABELS = {
    "REVISION": "0123abc",
    "CREATED": "2026-01-02T03:04:05Z",
    "SOURCE": "https://example.com/s",
}
# Compose 2 and later of the lock requirements/deploy.txt
OWN = ROOT / ".venv-deploy" / "bin" / "docker-compose"


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """Return the JSON object of the body, or of the first event if it is a stream."""
        text = self.body.decode()
        if self.headers.get_content_type() == "text/event-stream":
            text = next(line[5:] for line in text.splitlines() if line.startswith("data:"))
        return json.loads(text)


def until(wanted: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask again and again until something true comes, and return it."""
    over = time.monotonic() + seconds
    while not (found := wanted()):
        if time.monotonic() > over:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return found


class Pair:
    """The Compose project of these tests."""

    def __init__(self, program: Sequence[str], **more: str) -> None:
        self._program = program
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        # nobody's settings but ours
        ours = ("MCP_", "COMPOSE_", "BASIC_SERVER_", "REDIS_", "IMAGE_", "OTEL_")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "COMPOSE_PROJECT_NAME": f"mcp-test-{uuid4().hex[:8]}",
            "MCP_PUBLISHED_PORT": str(self.port),
            "REDIS_URL": "",
            **{f"IMAGE_{argument}": value for argument, value in LABELS.items()},
            # beyond every limit here: no chance probe helps where a call must tell the monitor
            "MCP_HEALTH_INTERVAL": "600",
            **more,
        }

    def compose(self, *arguments: str, limit: float = UP) -> str:
        return self._run(*self._program, *arguments, limit=limit).stdout

    def docker(self, *arguments: str, limit: float = UP) -> subprocess.CompletedProcess[str]:
        return self._run("docker", *arguments, limit=limit)

    def _run(self, *command: str, limit: float) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        told = f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        assert ran.returncode == 0, f"{' '.join(command)} exits {ran.returncode}:\n{told}"
        return ran

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service).strip()

    def inspect(self, what: str, *path: str) -> Any:
        found = json.loads(self.docker("inspect", what).stdout)[0]
        for part in path:
            found = found[part]
        return found

    def is_healthy(self, service: str) -> bool:
        return self.inspect(self.container(service), "State", "Health", "Status") == "healthy"

    def ask(
        self,
        path: str,
        body: Any = None,
        headers: dict[str, str] = JSON,
        *,
        port: int | None = None,
    ) -> Answer:
        """Ask the sidecar of the pair, or another that is published at `port`."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, sent, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def read(self, query: str = "", *, port: int | None = None) -> Answer:
        """Search; each query that was not used before misses the cache.

        The name that is dialled is part of the key, so it is one name for every port.
        """
        return self.ask(
            "/api/call-tool",
            {
                "service": "jira",
                "tool_name": "jira_search_issues",
                "params": {"query": query or uuid4().hex},
            },
            {**JSON, "Host": "pair"},
            port=port,
        )


def compose_programs() -> list[list[str]]:
    """Return each Compose there is, or skip and say what is missing."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        pytest.skip("DOCKER_HOST is not set")
    if not host.startswith("unix://"):
        pytest.skip("DOCKER_HOST is another machine, whose published ports are not here")
    if not shutil.which("docker") or not answers("docker", "version"):
        pytest.skip(f"no Docker engine answers at {host}")
    known = (["docker", "compose"], [str(OWN)], ["docker-compose"])
    found = [one for one in known if shutil.which(one[0]) and answers(*one, "version")]
    if not found:
        pytest.skip("neither `docker compose` nor `docker-compose` is installed")
    return found


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def container(
    pair: Pair, image: str, *options: str, command: tuple[str, ...] = ()
) -> Iterator[str]:
    network = next(iter(pair.inspect(pair.container("mcp-proxy"), "NetworkSettings", "Networks")))
    ran = pair.docker("run", "-d", "--network", network, *options, image, *command)
    try:
        yield ran.stdout.strip()
    finally:
        pair.docker("rm", "-f", ran.stdout.strip())


def published(pair: Pair, container: str) -> int:
    ports = pair.inspect(container, "NetworkSettings", "Ports")
    return int(ports["8000/tcp"][0]["HostPort"])
