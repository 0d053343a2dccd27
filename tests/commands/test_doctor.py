"""`mcp-sidecar doctor`: what is looked at, and how it is judged."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_proxy.commands.examination import redis, skew, streaming
from mcp_proxy.demo.server import TOOLS
from mcp_proxy.stores.inspection import Inspected
from tests.commands.typed import asked, told
from tests.edge.conftest import Opened
from tests.edge.wire import Upstream, answer, unused_port
from tests.stores.conftest import server
from tests.test_cli import ROOT

__all__ = ["server"]

EVENTS = {"content-type": "text/event-stream"}
FINE = Inspected("", "8.0", "allkeys-lru", 1 << 30, 0.001, 0.0)


def found(*arguments: str, **environ: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Return the exit code, and level, words and remedy of each finding by what it is about."""
    said = told("doctor", "--json", *arguments, **environ)
    findings = json.loads(said.stdout)["findings"]
    return said.exit_code, {
        one["about"]: (one["level"], one["said"], one["remedy"]) for one in findings
    }


@pytest.fixture(scope="module")
def sdk() -> Iterator[str]:
    """Run the bundled server, which is made with the official SDK; return its URL."""
    command = [sys.executable, "-m", "examples.basic_server", "--host", "127.0.0.1", "--port", "0"]
    started: Any = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield started.stdout.readline().split()[-1]
    started.terminate()
    started.communicate()


# --- the server


def test_an_old_server_in_order(old: str) -> None:
    code, findings = found("--upstream", old)
    assert code == 0
    assert findings[f"server {old}"][:2] == ("ok", "answers /api/health with 200")
    assert findings["protocol"][:2] == ("ok", "speaks MCP 2025-06-18 (handshake)")
    assert findings["Host"][0] == "ok"
    assert findings["streaming"][:2] == ("ok", "the server has no stream of its own (405)")
    assert findings[f"clock of {old}"][0] == "ok"


def test_the_sdks_server_speaks_both_eras_and_streams(sdk: str) -> None:
    code, findings = found("--upstream", sdk)
    assert code == 0
    assert "2026-07-28 (stateless), 2025-11-25 (handshake)" in findings["protocol"][1]
    assert findings["streaming"][:2] == ("ok", "the first event came while the stream was open")


def test_the_sdks_defence_against_rebinding_is_an_error_with_its_remedy(sdk: str) -> None:
    """notes: a loopback server answers a foreign Host 421; the sidecar could serve nobody."""
    port = sdk.rpartition(":")[2]
    code, findings = found("--upstream", sdk, MCP_UPSTREAM_HOST_HEADER="mcp.example.com")
    assert code == 1
    level, said, remedy = findings["Host"]
    assert (level, "mcp.example.com" in said) == ("error", True)
    assert f"MCP_UPSTREAM_HOST_HEADER=localhost:{port}" in remedy
    assert "protocol" not in findings
    assert found("--upstream", sdk, MCP_UPSTREAM_HOST_HEADER=f"localhost:{port}")[0] == 0


def test_an_origin_that_only_the_sidecar_lets_pass_is_told(sdk: str) -> None:
    origins = "https://page.example"
    code, findings = found("--upstream", sdk, MCP_ALLOWED_ORIGINS=origins)
    assert code == 0
    assert findings["Origin"][0] == "warning"
    assert origins in findings["Origin"][1]
    findings = found("--upstream", sdk, MCP_ALLOWED_ORIGINS="http://localhost:3000")[1]
    assert findings["Origin"][0] == "ok"


def test_a_server_that_is_away_is_an_error_with_a_remedy() -> None:
    url = f"http://localhost:{unused_port()}"
    said = told("doctor", "--upstream", url)
    assert said.exit_code == 1
    lines = said.stdout.splitlines()
    assert lines[1:] == [
        f"error    server {url}: cannot be reached (upstream_unreachable: The server is unreachable.)",
        "         start it, or correct MCP_UPSTREAM_URL",
    ]
    assert said.stderr == "1 error, 0 warnings\n"


async def test_no_tool_is_called(front: Opened, upstream: Upstream) -> None:
    """A server that says yes to everything is asked for lists, and for nothing else."""
    own = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "drop"}]}}
    upstream.own = answer(json.dumps(own).encode())
    said = await asked(await front(), "doctor", "--upstream", upstream.url)
    assert said.exit_code == 0
    methods = {json.loads(look.body)["method"] for look in upstream.looks if look.method == "POST"}
    assert methods <= {
        *("server/discover", "initialize", "notifications/initialized", "tools/list"),
        *("ping", "subscriptions/listen"),
    }
    assert "tools/list" in methods


# --- tools


def test_tools_of_which_nobody_says_anything_are_named(old: str) -> None:
    level, said, remedy = found("--upstream", old)[1]["tools"]
    assert level == "warning"
    assert said.endswith("as nobody says what they are: book")
    assert "read_only = true" in remedy
    assert {one["name"] for one in TOOLS} == {"weather", "book"}


def test_rules_say_enough_and_distrusted_annotations_do_not(old: str, tmp_path: Any) -> None:
    file = tmp_path / "mcp.toml"
    file.write_text("[tools.book]\nidempotent = true\n")
    assert found("--upstream", old, "--config", str(file))[1]["tools"][0] == "ok"
    findings = found("--upstream", old, MCP_TRUST_ANNOTATIONS="false")[1]
    assert findings["tools"][1].startswith("2 of 2 tools ")


# --- exposure


@pytest.mark.parametrize(
    ("environ", "levels"),
    [
        ({}, ["ok"]),
        ({"MCP_HOST": "::1"}, ["ok"]),
        ({"MCP_HOST": "0.0.0.0"}, ["warning"]),
        ({"MCP_HOST": "0.0.0.0", "MCP_ADMIN_TOKEN": "c4nary"}, ["ok"]),
        ({"MCP_ALLOWED_HOSTS": "*"}, ["ok", "warning"]),
    ],
)
def test_standing_open_is_told(environ: dict[str, str], levels: list[str]) -> None:
    said = told("doctor", "--json", "--upstream", "http://localhost:1", **environ)
    findings = json.loads(said.stdout)["findings"]
    assert [one["level"] for one in findings if one["about"] == "exposure"] == levels
    assert "c4nary" not in said.output


def test_wrong_variables_are_told_and_wrong_values_end_with_2(old: str) -> None:
    assert found("--upstream", old, MCP_PROT="1")[1]["settings"][0] == "warning"
    assert told("doctor", "--upstream", old, "--port", "x").exit_code == 2


# --- streams and clocks


@pytest.mark.parametrize(
    ("begun", "speaks", "level"),
    [
        ((200, EVENTS, b"data: {}\n\n"), True, "ok"),
        ((200, EVENTS, b""), True, "warning"),
        ((200, EVENTS, b""), False, "ok"),
        ((200, {**EVENTS, "content-encoding": "gzip"}, b"x"), True, "warning"),
        ((405, {}, b""), False, "ok"),
        ("upstream_timeout", False, "warning"),
    ],
)
def test_streams_are_judged_by_how_they_begin(begun: Any, speaks: bool, level: str) -> None:
    assert streaming(begun, speaks=speaks).level == level


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("theirs", "level", "words"),
    [
        (None, "ok", "no Date"),
        (NOW - timedelta(seconds=3), "ok", "agrees"),
        (NOW - timedelta(seconds=90), "warning", "90 s behind"),
        (NOW + timedelta(seconds=90), "warning", "90 s ahead"),
    ],
)
def test_clocks_are_compared(theirs: datetime | None, level: str, words: str) -> None:
    finding = skew("clock", theirs, NOW)
    assert finding.level == level
    assert words in finding.said


async def test_a_clock_that_goes_wrong_is_told(front: Opened, upstream: Upstream) -> None:
    upstream.own = answer(b"{}", "Date: Thu, 01 Jan 2015 00:00:00 GMT")
    said = await asked(await front(), "doctor", "--upstream", upstream.url)
    assert "behind ours" in said.stdout


# --- Redis


@pytest.mark.parametrize(
    ("inspected", "words"),
    [
        (FINE, []),
        (FINE._replace(seconds=0.04), ["a PING takes 40 ms"]),
        (FINE._replace(policy="noeviction"), ["noeviction"]),
        (FINE._replace(limit=0, policy="noeviction"), ["maxmemory is not set"]),
        (FINE._replace(ahead=-60.0), ["60 s behind"]),
    ],
)
def test_redis_is_judged(inspected: Inspected, words: list[str]) -> None:
    first, *rest = redis(inspected)
    assert first.level == "ok"
    assert {one.level for one in rest} <= {"warning"}
    assert len(rest) == len(words)
    assert all(word in one.said for word, one in zip(words, rest, strict=True))


@pytest.mark.redis
def test_a_redis_is_looked_at(old: str, server: Any) -> None:
    code, findings = found("--upstream", old, "--redis", server.url)
    assert code == 0
    assert findings["redis"][1] == "maxmemory is not set: answers end by time alone"
    raw = server.raw()
    raw.config_set("maxmemory", "100mb")
    raw.config_set("maxmemory-policy", "allkeys-lru")
    level, said, _ = found("--upstream", old, "--redis", server.url)[1]["redis"]
    assert (level, said.startswith("version ")) == ("ok", True)
    assert raw.dbsize() == 0
    raw.close()


def test_a_redis_that_is_away_is_an_error(old: str) -> None:
    url = f"redis://:c4nary@localhost:{unused_port()}"
    code, findings = found("--upstream", old, "--redis", url)
    assert code == 1
    assert findings["redis"][0] == "error"
    assert "c4nary" not in str(findings)
