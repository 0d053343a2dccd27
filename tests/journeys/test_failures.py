"""The server is slow, broken, restarting or gone; what callers see of it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from mcp.client import Client

from tests.journeys.conftest import Pair, eventually, executed, tool_call

READ = tool_call("salesforce_query_accounts")
WRITE = tool_call("salesforce_create", object_type="Account", fields={"name": "Initech"})


async def fault(http: aiohttp.ClientSession, pair: Pair, tool: str, mode: str, **how: Any) -> None:
    body = {"tool": tool, "mode": mode, **how}
    async with http.post(f"{pair.server_url}/control/faults", json=body) as response:
        assert response.status == 200, await response.text()


async def called(
    http: aiohttp.ClientSession, pair: Pair, body: dict[str, Any]
) -> tuple[int, dict[str, Any], dict[str, str]]:
    async with http.post(f"{pair.url}/api/call-tool", json=body) as response:
        return response.status, await response.json(), dict(response.headers)


async def test_a_read_heals_and_a_write_is_sent_once(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """F3, F5: reads are repeated after a 500 or a cut answer; a write's fate is told truthfully."""
    pair = pair_with(MCP_BACKOFF_BASE="0.01")
    for mode in ("error", "cut"):
        await fault(http, pair, "salesforce_query_accounts", mode, times=2)
        status, answer, _ = await called(http, pair, {**READ, "params": {"limit": len(mode)}})
        assert (status, answer["success"], answer["attempts"]) == (200, True, 3), mode

    await fault(http, pair, "salesforce_create", "cut", times=1)
    status, answer, headers = await called(http, pair, WRITE)
    assert status == 502
    assert answer["success"] is False
    details = answer["error_details"]
    assert details["code"] == "upstream_broken"
    assert details["delivered"] == "unknown"
    assert details["retryable"] is False
    assert details["attempts"] == 1
    assert "Retry-After" not in headers
    assert await executed(http, pair.server_url, "salesforce_create") == 1

    await fault(http, pair, "salesforce_create", "error", times=1)
    async with http.post(f"{pair.url}/api/call-tool", json=WRITE) as response:
        assert response.status == 500, "the server's own answer to a write passes, unrepeated"
        assert await response.text() == "Internal Server Error"


async def test_a_tool_that_failed_is_an_answer(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """F7: success:false is passed on, not repeated, not kept, and neutral to the circuit."""
    pair = pair_with(MCP_CB_FAILURE_THRESHOLD="2")
    await fault(http, pair, "salesforce_query_accounts", "fail")
    for _ in range(4):
        status, answer, _ = await called(http, pair, READ)
        assert (status, answer["success"], answer["attempts"]) == (200, False, 1)
        assert answer["cache_hit"] is False


async def test_a_hanging_tool_opens_its_own_circuit_and_no_other(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """F2, F31: a try is given up, the circuit opens, callers fail at once, neighbours do not care."""
    pair = pair_with(
        MCP_ATTEMPT_TIMEOUT="0.2",
        MCP_REQUEST_TIMEOUT="0.8",
        MCP_BACKOFF_BASE="0.01",
        MCP_CB_FAILURE_THRESHOLD="3",
        MCP_CB_RECOVERY_TIMEOUT="0.5",
    )
    await fault(http, pair, "salesforce_query_accounts", "hang")
    codes = set()
    for _ in range(3):
        status, answer, headers = await called(http, pair, READ)
        codes.add((status, answer["error_details"]["code"]))
    assert (503, "circuit_open") in codes
    assert answer["error_details"]["breaker"] == "open"
    assert answer["error_details"]["retryable"] is True
    assert int(headers["Retry-After"]) >= 1
    assert (await called(http, pair, tool_call("jira_search_issues", "jira", jql="a")))[0] == 200

    await fault(http, pair, "salesforce_query_accounts", "none")

    async def answered() -> bool:
        return bool((await called(http, pair, READ))[0] == 200)

    await eventually(answered, "the circuit closes by itself")


async def test_a_restart_is_bridged_for_reads_and_writes(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """F23: calls that find the door closed wait for it to open, and each write runs once."""
    pair = pair_with(MCP_RESTART_GRACE="15")
    assert (await called(http, pair, WRITE))[0] == 200
    pair.server.kill()
    waiting = [asyncio.create_task(called(http, pair, body)) for body in (READ, WRITE, READ, WRITE)]
    pair.server.start()
    for status, answer, _ in await asyncio.gather(*waiting):
        assert (status, answer["success"]) == (200, True)
    written = (tmp_path / "ledger").read_text().splitlines()
    assert len(written) == 3, "one line for each write, whatever happened in between"


async def test_a_lost_server_is_answered_for_at_once_and_noticed_when_it_returns(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """F1: structured errors in every dialect while it is away, recovery without anybody's help."""
    pair = pair_with(MCP_RESTART_GRACE="0.3", MCP_CB_RECOVERY_TIMEOUT="60")
    async with Client(f"{pair.url}/mcp", mode="2026-07-28") as client:
        await client.list_tools()
        pair.server.kill()

        async def circuit_is_open() -> bool:
            return bool(
                (await called(http, pair, WRITE))[1]["error_details"]["code"] == "circuit_open"
            )

        await eventually(circuit_is_open, "the target's circuit opens")
        status, answer, _ = await called(http, pair, WRITE)
        assert status == 503
        assert answer["error_details"]["delivered"] == "no"
        assert answer["error_details"]["retryable"] is True, (
            "an undelivered write may be sent again"
        )
        result = await client.call_tool("salesforce_create", {"object_type": "Account"})
        assert result.is_error
        assert result.meta is not None
        assert result.meta["mcp_proxy/error"]["code"] == "circuit_open"
        async with http.get(f"{pair.url}/api/tools") as page:
            assert page.status == 503
            assert page.content_type == "application/problem+json"
        async with http.get(f"{pair.url}/api/health") as health:
            assert health.status == 503
            assert (await health.json())["status"] == "unhealthy"
        async with http.get(f"{pair.url}/readyz") as ready:
            assert ready.status == 200, "readiness never looks at the server"

        pair.server.start()

        async def answered() -> bool:
            return bool((await called(http, pair, READ))[0] == 200)

        await eventually(answered, "the monitor closes the circuit early")
        assert not (await client.call_tool("salesforce_query_accounts", {})).is_error


async def test_the_log_is_json_lines_and_a_drain_is_clean(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """DESIGN sections 6, 8: one object a line, one event a tool call, no arguments; exit code 0."""
    pair = pair_with()
    await called(http, pair, tool_call("salesforce_query", query="hush-hush"))
    code, out, err = pair.sidecar.stop()
    events = [json.loads(line) for line in out.splitlines()]
    completed = [event for event in events if event["event"] == "tool.call.completed"]
    assert len(completed) == 1
    assert completed[0]["tool"] == "salesforce_query"
    assert {"timestamp", "level", "request_id"} <= set(completed[0])
    assert "hush-hush" not in out + err
    assert code == 0
    assert err == ""
