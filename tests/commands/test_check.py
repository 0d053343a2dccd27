"""`mcp-sidecar check --probe`; tests/test_cli.py has the settings alone."""

import json

from tests.commands.typed import asked, told
from tests.edge.conftest import Opened
from tests.edge.wire import Upstream, answer, unused_port


def test_json_says_what_people_are_told() -> None:
    found = told("check", "--json", "--upstream", "http://h/mcp", MCP_PROT="1")
    said = json.loads(found.stdout)
    assert (found.exit_code, said["tool_rules"]) == (0, 0)
    unknown, dropped = said["warnings"]
    assert unknown == "MCP_PROT (environment): unknown variable; did you mean MCP_PORT?"
    assert "it is dropped" in dropped, "what `run` would tell is told here, too"
    assert "servers" not in said


def test_a_probe_tells_the_era_and_the_tools(old: str) -> None:
    found = told("check", "--probe", "--upstream", old)
    assert found.exit_code == 0
    assert found.stdout.splitlines()[1] == f"{old}: reachable, health 200, MCP 2025-06-18, 2 tools"


def test_a_probe_of_nobody_ends_with_1(old: str) -> None:
    nobody = f"http://localhost:{unused_port()}"
    found = told("check", "--probe", "--upstream", f"{old},{nobody}")
    assert found.exit_code == 1
    assert found.stdout.splitlines()[2] == (
        f"{nobody}: not reachable (upstream_unreachable: The server is unreachable.)"
    )
    found = told("check", "--probe", "--json", "--upstream", f"{old},{nobody}")
    assert found.exit_code == 1
    assert [one["ok"] for one in json.loads(found.stdout)["servers"]] == [True, False]


async def test_a_server_that_is_ill_ends_with_1(front: Opened, upstream: Upstream) -> None:
    upstream.own = answer(status="503 Service Unavailable")
    found = await asked(await front(), "check", "--probe", "--upstream", upstream.url)
    assert found.exit_code == 1
    assert "reachable, health 503, no MCP without credentials" in found.stdout


async def test_a_server_without_mcp_is_no_failure(front: Opened, upstream: Upstream) -> None:
    """There may be none, or credentials are wanted; a 404 is an answer (MCP_HEALTH_PATH)."""
    found = await asked(await front(), "check", "--probe", "--upstream", upstream.url)
    assert found.exit_code == 0
    assert "reachable, health 404, no MCP without credentials" in found.stdout


def test_wrong_settings_end_with_2_before_anybody_is_asked(old: str) -> None:
    assert told("check", "--probe", "--upstream", old, "--port", "x").exit_code == 2
