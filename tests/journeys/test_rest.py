"""The old server's REST clients, through the sidecar: nothing changes, reads are kept."""

import itertools
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.journeys.conftest import Pair, executed, tool_call

ADDED = {"execution_time_ms", "cache_hit", "attempts", "request_id"}
# Fields that differ between any two answers of the server.
MOVING = {"timestamp", "last_activity"}

REQUESTS = [
    ("POST", "/api/call-tool", tool_call("salesforce_query_accounts", limit=2)),
    ("POST", "/api/call-tool", tool_call("salesforce_query", query="SELECT Id FROM Account")),
    ("POST", "/api/call-tool", tool_call("salesforce_connection_info")),
    ("POST", "/api/call-tool", tool_call("jira_search_issues", "jira", jql="login")),
    ("POST", "/api/call-tool", tool_call("jira_get_issue", "jira", key="OPS-1")),
    ("POST", "/api/call-tool", tool_call("no_such_tool")),
    ("POST", "/api/call-tool", tool_call("salesforce_query", "no_such_service")),
    ("POST", "/api/call-tool", {"service": "salesforce"}),
    ("POST", "/api/call-tool", [1, 2]),
    ("POST", "/api/chat", {"message": "How many records are there?"}),
    ("GET", "/api/status/salesforce", None),
    ("GET", "/api/status/nobody", None),
    ("GET", "/api/tools", None),
    ("GET", "/nowhere", None),
    ("DELETE", "/api/tools", None),
]


def settled(value: Any) -> Any:
    """Return a JSON value without what differs between any two answers."""
    if isinstance(value, dict):
        return {name: settled(part) for name, part in value.items() if name not in MOVING}
    return [settled(part) for part in value] if isinstance(value, list) else value


async def test_every_request_of_the_old_contract_is_answered_as_before(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """DESIGN section 3: same status, same fields; additions are additive."""
    pair = pair_with()
    for method, path, body in REQUESTS:
        async with http.request(method, pair.server_url + path, json=body) as direct:
            status, expected = direct.status, settled(await direct.json())
        async with http.request(method, pair.url + path, json=body) as proxied:
            got = settled(await proxied.json())
            assert proxied.status == status, (method, path, body)
            assert proxied.headers["Content-Type"] == direct.headers["Content-Type"]
        if path == "/api/call-tool" and status == 200:
            assert set(got) >= ADDED
            got = {name: value for name, value in got.items() if name not in ADDED}
        assert got == expected, (method, path, body)


async def test_health_keeps_the_servers_own_fields(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """DESIGN section 6: the upstream's fields are kept, ours stand beside them."""
    pair = pair_with()
    async with http.get(f"{pair.server_url}/api/health") as direct:
        own = await direct.json()
    async with http.get(f"{pair.url}/api/health") as proxied:
        report = await proxied.json()
    assert set(own) <= set(report)
    assert report["available_tools"] == own["available_tools"]
    assert report["upstream_status"] == own["status"]
    assert report["services"]["jira"]["connected"] is True


async def test_a_second_identical_read_is_a_hit_and_a_write_never_is(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """The promise: reads are answered from the cache, a write runs each time it is asked for."""
    pair = pair_with()
    route = f"{pair.url}/api/call-tool"
    read = tool_call("salesforce_query_accounts", limit=3)
    write = tool_call("salesforce_create", object_type="Account", fields={"name": "Initech"})

    async with http.post(route, json=read) as first:
        assert (await first.json())["cache_hit"] is False
        assert "fwd=miss" in first.headers["Cache-Status"]
    async with http.post(route, json=read) as second:
        assert (await second.json())["cache_hit"] is True
        assert "; hit" in second.headers["Cache-Status"]
        assert second.headers["Age"] == "0"
    assert await executed(http, pair.server_url, "salesforce_query_accounts") == 1

    for _ in range(2):
        async with http.post(route, json=write) as written:
            assert (await written.json())["success"] is True
            assert "hit" not in written.headers["Cache-Status"].split("; ")
    assert await executed(http, pair.server_url, "salesforce_create") == 2

    async with http.post(route, json=read) as after:
        assert (await after.json())["cache_hit"] is False, "a read after a write is asked anew"


async def test_callers_with_different_credentials_never_share(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """F34: identity is part of every key, whatever header carries it."""
    pair = pair_with()
    read = tool_call("salesforce_query_accounts")
    for headers in (
        {},
        {"Authorization": "Bearer a"},
        {"Authorization": "Bearer b"},
        {"X-Api-Key": "a"},
        {"Cookie": "session=a"},
        {"X-Tenant": "a"},
    ):
        async with http.post(f"{pair.url}/api/call-tool", json=read, headers=headers) as answer:
            assert (await answer.json())["cache_hit"] is False, headers
    assert await executed(http, pair.server_url, "salesforce_query_accounts") == 6


BAD_INPUT = {
    "broken": b"{not json",
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "doubled": b'{"service": "salesforce", "service": "jira", "tool_name": "jira_get_issue"}',
    "scalar": b"42",
    "batch": b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]',
    "not utf-8": b"\xff\xfe\x00",
    "empty": b"",
}


async def test_bad_input_gets_the_servers_own_answer(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """What is not understood reaches the server as it is; nobody gets a 500 or a traceback."""
    pair = pair_with()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    for path, (name, body) in itertools.product(["/api/call-tool", "/mcp"], BAD_INPUT.items()):
        async with http.post(pair.server_url + path, data=body, headers=headers) as direct:
            expected = settled(await direct.json())
        async with http.post(pair.url + path, data=body, headers=headers) as proxied:
            got = settled(await proxied.json())
        assert proxied.status == direct.status, (path, name)
        assert proxied.status < 500, (path, name)
        if isinstance(got, dict):
            got = {key: value for key, value in got.items() if key not in ADDED}
        assert got == expected, (path, name)
