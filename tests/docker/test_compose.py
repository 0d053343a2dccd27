"""`docker-compose up` on a real engine: the pair, as DESIGN section 8 promises it.

Skipped where DOCKER_HOST names no engine of this machine. The project gets a name and a port of its
own, and is always taken down; the tests of this folder share it, and those of test_stop.py stop it.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.docker.engine import (
    HEALTHY,
    JSON,
    OWN,
    RETURN,
    USER,
    Answer,
    Pair,
    compose_programs,
    until,
)

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]
STATELESS = "2026-07-28"


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


@pytest.mark.parametrize("program", [["docker-compose"], [str(OWN)]], ids=["1.29", "2"])
def test_redis_and_observability_are_profiles(pair, program):
    if program not in compose_programs():
        pytest.skip(f"{program[0]} is not installed")

    def services(*profiles: str) -> set[str]:
        chosen = [word for name in profiles for word in ("--profile", name)]
        return set(Pair([*program, *chosen]).compose("config", "--services").split())

    running = pair.docker("ps", "--format", "{{.Names}}").stdout
    assert "redis" not in running
    assert "prometheus" not in running
    assert services("observability") >= {"basic-server", "mcp-proxy", "prometheus", "grafana"}
    assert services("redis") >= {"basic-server", "mcp-proxy", "redis"}


@contextmanager
def traffic(pair: Pair) -> Iterator[list[Answer | str]]:
    """Ask all the time, reads that no cache knows; yield what came of it."""
    heard: list[Answer | str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            try:
                heard.append(pair.read())
            except (OSError, http.client.HTTPException) as error:
                heard.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield heard
    finally:
        over.set()
        asking.join()


def good(heard: list[Answer | str], since: int = 0) -> list[Answer]:
    return [one for one in heard[since:] if isinstance(one, Answer) and one.status == 200]


def test_the_pair_goes_on_when_the_server_restarts_under_traffic(pair):
    """Every caller hears something, and whoever hears an error may ask again."""
    with traffic(pair) as heard:
        until(lambda: len(good(heard)) > 5, RETURN, "reads succeed before")
        pair.compose("restart", "basic-server")
        since = len(heard)
        until(lambda: len(good(heard, since)) > 5, HEALTHY, "reads succeed after")
    answers = [one for one in heard if isinstance(one, Answer)]
    assert answers == heard, "the sidecar was there all the time"
    for answer in answers:
        assert answer.status == 200 or answer.fields["error_details"]["retryable"], answer


def test_the_pair_goes_on_when_the_sidecar_restarts_under_traffic(pair):
    """What was taken is answered; between stop and start nobody listens, and no longer."""
    sidecar = pair.container("mcp-proxy")
    with traffic(pair) as heard:
        until(lambda: len(good(heard)) > 5, RETURN, "reads succeed before")
        pair.docker("stop", sidecar)
        assert pair.inspect(sidecar, "State", "ExitCode") == 0
        pair.docker("start", sidecar)
        since = len(heard)
        until(lambda: len(good(heard, since)) > 5, HEALTHY, "reads succeed after")
    told = {one.status for one in heard if isinstance(one, Answer)}
    assert told <= {200, 503}  # 503 is `draining`
    until(lambda: pair.is_healthy("mcp-proxy"), HEALTHY, "the sidecar is healthy again")


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
