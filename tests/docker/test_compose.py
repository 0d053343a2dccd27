"""`docker-compose up` on a real engine: the images and the pair, as DESIGN section 8 promises them.

Skipped where DOCKER_HOST names no engine of this machine. The project gets a name and a port of its
own, and is always taken down; the tests share it, and the last one stops it.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from mcp_proxy import __version__

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUILD, UP, HEALTHY, RETURN = 400, 60, 30, 15  # seconds, as limits
GRACE = 15  # seconds; stop_grace_period
USER = "10001"
STATELESS = "2026-07-28"
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


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

    def __init__(self, program: list[str]) -> None:
        self._program = program
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        # nobody's settings but ours
        ours = ("MCP_", "COMPOSE_", "BASIC_SERVER_", "REDIS_")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "COMPOSE_PROJECT_NAME": f"mcp-test-{uuid4().hex[:8]}",
            "MCP_PUBLISHED_PORT": str(self.port),
            "REDIS_URL": "",
            # beyond every limit here: no chance probe helps where a call must tell the monitor
            "MCP_HEALTH_INTERVAL": "600",
        }

    def compose(self, *arguments: str, limit: float = UP) -> str:
        return self._run(*self._program, *arguments, limit=limit).stdout

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("docker", *arguments, limit=UP)

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

    def ask(self, path: str, body: Any = None, headers: dict[str, str] = JSON) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, sent, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def read(self, query: str = "") -> Answer:
        """Search; each query that was not used before misses the cache."""
        return self.ask(
            "/api/call-tool",
            {
                "service": "jira",
                "tool_name": "jira_search_issues",
                "params": {"query": query or uuid4().hex},
            },
        )


def compose_program() -> list[str]:
    """Return the Compose there is, or skip and say what is missing."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        pytest.skip("DOCKER_HOST is not set")
    if not host.startswith("unix://"):
        pytest.skip("DOCKER_HOST is another machine, whose published ports are not here")
    if not shutil.which("docker") or not answers("docker", "version"):
        pytest.skip(f"no Docker engine answers at {host}")
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]) and answers(*program, "version"):
            return program
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    pair = Pair(compose_program())
    try:
        pair.compose("build", limit=BUILD)
        pair.compose("up", "-d")
        until(lambda: pair.is_healthy("mcp-proxy"), HEALTHY, "the sidecar is healthy")
        yield pair
    finally:
        pair.compose("down", "-v", "--rmi", "local", "--remove-orphans", "-t", "5")


def test_a_read_is_a_miss_and_then_a_hit(pair):
    first, second = pair.read("gateway"), pair.read("gateway")
    assert (first.status, second.status) == (200, 200)
    assert "fwd=miss" in first.headers["Cache-Status"]
    assert "hit" in second.headers["Cache-Status"]
    assert first.fields["success"]
    assert second.fields["cache_hit"]
    assert second.fields["data"] == first.fields["data"]


def test_mcp_of_both_eras_passes(pair):
    meta = {
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    listed = pair.ask(
        "/mcp",
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}},
        {**JSON, "MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/list"},
    )
    assert "jira_get_issue" in {tool["name"] for tool in listed.fields["result"]["tools"]}
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    }
    opened = pair.ask("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    assert opened.fields["result"]["serverInfo"]["name"] == "basic-server"
    assert opened.headers["Mcp-Session-Id"]


def test_the_log_is_json_lines_that_tell_each_call_and_no_argument(pair):
    argument = uuid4().hex
    request_id = pair.read(argument).headers["X-Request-Id"]
    sidecar = pair.container("mcp-proxy")

    def told() -> list[dict[str, Any]]:
        lines = pair.docker("logs", sidecar).stdout.splitlines()
        return [
            line
            for line in map(json.loads, lines)
            if (line["event"], line.get("request_id")) == ("tool.call.completed", request_id)
        ]

    (line,) = until(told, 5, "the call is in the log")
    assert line["level"] == "info"
    assert line["timestamp"]
    assert line["tool"] == "jira_search_issues"
    logs = pair.docker("logs", sidecar)
    assert argument not in logs.stdout
    assert logs.stderr == ""


def test_only_the_sidecar_is_published_and_only_here(pair):
    ports = pair.inspect(pair.container("mcp-proxy"), "NetworkSettings", "Ports")
    assert ports == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(pair.port)}]}
    assert not any(
        pair.inspect(pair.container("basic-server"), "NetworkSettings", "Ports").values()
    )


@pytest.mark.parametrize("service", ["mcp-proxy", "basic-server"])
def test_nothing_runs_as_root_or_can_be_written(pair, service):
    container = pair.container(service)
    status = pair.docker("exec", container, "python", "-c", "print(open('/proc/1/status').read())")
    facts = dict(line.split(":\t", 1) for line in status.stdout.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == [USER] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    assert pair.inspect(container, "HostConfig", "ReadonlyRootfs")
    write = "import contextlib\nwith contextlib.suppress(OSError): print(open('/tmp/x', 'w'))"
    assert pair.docker("exec", container, "python", "-c", write).stdout == ""


def test_the_image_says_what_it_is_and_keeps_no_caches(pair):
    image = pair.inspect(pair.container("mcp-proxy"), "Image")
    settings = pair.inspect(image, "Config")
    assert settings["Labels"]["org.opencontainers.image.version"] == __version__
    assert settings["User"] == f"{USER}:{USER}"
    assert (settings["Entrypoint"], settings["Cmd"]) == (["mcp-sidecar"], ["run"])
    look = (
        "import os; places = '/build', os.path.expanduser('~/.cache'), '/opt/backend'; "
        "print([place for place in places if os.path.exists(place)])"
    )
    found = pair.docker("run", "--rm", "--user", "0", "--entrypoint", "python", image, "-c", look)
    assert found.stdout.strip() == "[]"


def test_redis_is_a_profile(pair):
    assert "redis" not in pair.compose("ps", "-a").replace("mcp-test", "")
    pair.compose("--profile", "redis", "config", "-q")


def test_a_killed_server_is_missed_and_found_again(pair):
    """The circuit that callers opened closes when the server is back, not a minute later."""
    pair.compose("kill", "basic-server")

    def refused() -> dict[str, Any]:
        answer = pair.read()
        assert answer.status == 503
        details = answer.fields["error_details"]
        assert details["retryable"]
        assert details["delivered"] == "no"
        return details if details["code"] == "circuit_open" else {}

    until(refused, 60, "the circuit is open")
    pair.compose("start", "basic-server")
    until(lambda: pair.is_healthy("basic-server"), HEALTHY, "the server is healthy again")
    answer = until(
        lambda: (found := pair.read()).status == 200 and found, RETURN, "a read succeeds again"
    )
    assert answer.fields["success"]


def test_stop_ends_both_in_good_order_and_within_the_grace(pair):
    """The last test: it stops what the others use."""
    both = [pair.container(service) for service in ("mcp-proxy", "basic-server")]
    pair.compose("stop", limit=GRACE)
    assert [pair.inspect(one, "State", "ExitCode") for one in both] == [0, 0]
    assert "proxy.draining" in pair.docker("logs", both[0]).stdout
