"""The basic server, over real sockets: its REST contract, MCP in both eras, faults, ledger.

It is run as people run it, as a process of its own; DESIGN section 3 is the contract.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

pytest.importorskip("mcp.client.client", reason="the dependency group `example` is absent")

import anyio
from mcp import MCPError
from mcp.client import Client

ROOT = Path(__file__).resolve().parents[2]
HANDSHAKE, STATELESS = "legacy", "2026-07-28"
ERAS = pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
READ = {"service": "jira", "tool_name": "jira_get_issue", "params": {"key": "OPS-1"}}
HEADERS = {"Accept": "application/json, text/event-stream"}
STATELESS_LIST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
STATELESS_HEADERS = {**HEADERS, "MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/list"}


class Process:
    """One basic server, from the line that it prints until its end."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "examples.basic_server", "--port", "0", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        # A server that never listens is killed, which ends the line that we wait for.
        limit = threading.Timer(20, self.popen.kill)
        limit.start()
        self.line = self.popen.stdout.readline()
        limit.cancel()
        self.url = self.line.strip().rpartition(" ")[2]

    def end(self, signum: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what else was printed."""
        self.popen.send_signal(signum)
        rest, _ = self.popen.communicate(timeout=10)
        return self.popen.returncode, rest


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[Process]:
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with process("--host", "127.0.0.1") as started:
        yield started.url


class Old:
    """The server as its clients and its operator see it."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.mcp = f"{url}/mcp"

    async def get(self, path: str) -> Any:
        async with self.http.get(path) as response:
            assert response.status == 200
            return await response.json()

    async def post(self, path: str, body: object, expect: int = 200) -> Any:
        async with self.http.post(path, json=body) as response:
            assert response.status == expect, await response.text()
            return await response.json()

    async def call(self, service: str, tool: str, **params: object) -> Any:
        body = {"service": service, "tool_name": tool, "params": params}
        return await self.post("/api/call-tool", body)

    async def fault(self, mode: str, tool: str = "*", **rest: object) -> None:
        await self.post("/control/faults", {"tool": tool, "mode": mode, **rest})

    async def lift(self) -> None:
        async with self.http.delete("/control/faults") as response:
            assert (await response.json())["faults"] == []

    async def struck(self) -> None:
        """Wait until a call has used up the fault in force."""
        with anyio.fail_after(5):
            while (await self.get("/control/faults"))["faults"]:
                pass

    async def nonces(self) -> list[object]:
        return [entry["nonce"] for entry in (await self.get("/control/ledger"))["entries"]]

    async def ran(self, tool: str) -> int:
        calls: dict[str, int] = (await self.get("/control/calls"))["calls"]
        return calls.get(tool, 0)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Old]:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as http:
        yield Old(http, url)


@pytest.fixture
async def old(url: str) -> AsyncIterator[Old]:
    async with opened(url) as server:
        yield server
        await server.lift()
        for service in ("salesforce", "jira"):
            await server.post("/control/service", {"service": service, "connected": True})


# --- REST: DESIGN section 3, row by row


async def test_a_tool_call_answers_json_text(old: Old) -> None:
    answer = await old.call("salesforce", "salesforce_query_accounts", limit=1, name="glob")
    assert set(answer) == {"success", "data", "error", "timestamp"}
    assert answer["success"] is True
    assert answer["error"] is None
    assert json.loads(answer["data"])["records"][0]["name"] == "Globex"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT Id FROM Account WHERE Name LIKE '%acme%'", ["Acme Corporation"]),
        ("select name from contact limit 1", ["Ada Byron"]),
        ("negotiation globex", ["Globex renewal"]),
        ("no such thing", []),
    ],
)
async def test_a_query_finds_records(old: Old, query: str, names: list[str]) -> None:
    answer = await old.call("salesforce", "salesforce_query", query=query)
    assert [record["name"] for record in json.loads(answer["data"])["records"]] == names


async def test_the_other_reads_answer(old: Old) -> None:
    connection = await old.call("salesforce", "salesforce_connection_info")
    assert json.loads(connection["data"])["connected"] is True
    issues = await old.call("jira", "jira_search_issues", query="printer")
    assert json.loads(issues["data"])["issues"][0]["id"] == "OPS-2"
    issue = await old.call("jira", "jira_get_issue", key="OPS-1")
    assert json.loads(issue["data"])["summary"] == "Login page is slow"


@pytest.mark.parametrize(
    ("tool", "params", "error"),
    [
        ("jira_get_issue", {"key": "OPS-0"}, "OPS-0 does not exist"),
        ("jira_get_issue", {}, "Field required"),
        ("jira_nothing", {}, "Unknown tool: jira_nothing"),
        ("salesforce_query", {"query": "x"}, "Unknown tool: salesforce_query"),
    ],
)
async def test_what_goes_wrong_in_a_tool_is_http_200(
    old: Old, tool: str, params: dict[str, Any], error: str
) -> None:
    answer = await old.call("jira", tool, **params)
    assert (answer["success"], answer["data"]) == (False, None)
    assert error in answer["error"]


async def test_rest_does_not_offer_what_needs_progress(old: Old) -> None:
    assert (await old.call("salesforce", "salesforce_export"))["success"] is False


async def test_an_unknown_service_is_404(old: Old) -> None:
    body = {**READ, "service": "sap"}
    assert await old.post("/api/call-tool", body, 404) == {"detail": "Service not found"}


async def test_a_lost_service_is_503_and_shows_in_status_and_health(old: Old) -> None:
    await old.post("/control/service", {"service": "jira", "connected": False})
    detail = "jira service not connected"
    assert await old.post("/api/call-tool", READ, 503) == {"detail": detail}
    status = await old.get("/api/status/jira")
    assert (status["connected"], status["error"]) == (False, detail)
    health = await old.get("/api/health")
    assert (health["status"], health["available_tools"]) == ("degraded", 4)
    async with Client(old.mcp, mode=STATELESS) as client:
        assert (await client.call_tool("jira_get_issue", {"key": "OPS-1"})).is_error


@pytest.mark.parametrize("body", [b"{bad", b"", b'"text"', b'{"service": 1}', b"\xff"])
async def test_a_bad_body_is_422_with_detail(old: Old, body: bytes) -> None:
    async with old.http.post("/api/call-tool", data=body) as response:
        assert response.status == 422
        problems = (await response.json())["detail"]
    assert {"type", "loc", "msg"} <= set(problems[0])
    assert problems[0]["loc"][0] == "body"


async def test_chat_counts_or_really_creates(old: Old) -> None:
    before = len(await old.nonces())
    told = await old.post("/api/chat", {"message": "how much is there?"})
    assert set(told) == {"response", "success", "timestamp", "error"}
    assert "accounts" in told["response"]
    made = await old.post("/api/chat", {"message": "Create issue: the lift is stuck"})
    key = made["response"].removeprefix("Created ").partition(":")[0]
    issue = await old.call("jira", "jira_get_issue", key=key)
    assert json.loads(issue["data"])["summary"] == "the lift is stuck"
    assert len(await old.nonces()) == before + 1


async def test_status_tells_one_service(old: Old) -> None:
    await old.call("jira", "jira_get_issue", key="OPS-1")
    status = await old.get("/api/status/jira")
    assert set(status) == {"service", "connected", "last_activity", "error"}
    assert (status["service"], status["connected"], status["error"]) == ("jira", True, None)
    assert status["last_activity"].startswith("20")
    async with old.http.get("/api/status/sap") as response:
        assert (response.status, await response.json()) == (404, {"detail": "Service not found"})


async def test_health_and_tools(old: Old) -> None:
    health = await old.get("/api/health")
    assert set(health) == {"status", "timestamp", "connections", "available_tools"}
    assert health["status"] == "healthy"
    assert set(health["connections"]) == {"salesforce", "jira"}
    tools = await old.get("/api/tools")
    assert len(tools) == health["available_tools"] == 7
    assert all(tool["input_schema"]["type"] == "object" for tool in tools)


async def test_pages_of_any_origin_may_call(old: Old) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    async with old.http.options("/api/call-tool", headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"


# --- MCP, by the official client, in both eras


@ERAS
async def test_mcp_lists_the_tools_of_rest_and_says_which_read(old: Old, era: str) -> None:
    async with Client(old.mcp, mode=era) as client:
        tools = (await client.list_tools()).tools
    reads = {t.name for t in tools if t.annotations is not None and t.annotations.read_only_hint}
    assert {t.name for t in tools} - reads == {"salesforce_create", "jira_create_issue"}
    rest = {tool["name"] for tool in await old.get("/api/tools")}
    assert {t.name for t in tools} == rest | {"salesforce_export"}


@ERAS
async def test_mcp_sees_what_rest_wrote(old: Old, era: str) -> None:
    fields = {"name": f"Account of {era}"}
    await old.call("salesforce", "salesforce_create", object_type="Account", fields=fields)
    async with Client(old.mcp, mode=era) as client:
        result = await client.call_tool("salesforce_query_accounts", {"name": fields["name"]})
        assert result.structured_content is not None
        assert result.structured_content["total"] == 1
        (contents,) = (await client.read_resource("records://accounts")).contents
        assert fields["name"] in contents.model_dump_json()
        prompt = await client.get_prompt("review_account", fields)
        assert fields["name"] in prompt.model_dump_json()


@ERAS
async def test_an_export_reports_each_step(old: Old, era: str) -> None:
    steps: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total))

    async with Client(old.mcp, mode=era) as client:
        arguments = {"steps": 3, "step_seconds": 0}
        result = await client.call_tool("salesforce_export", arguments, progress_callback=note)
    assert not result.is_error
    assert steps == [(1, 3), (2, 3), (3, 3)]


async def test_a_session_belongs_to_the_handshake_era_alone(old: Old) -> None:
    answers = {}
    for headers in ({**HEADERS, "Mcp-Session-Id": "gone"}, STATELESS_HEADERS):
        async with old.http.post("/mcp", json=STATELESS_LIST, headers=headers) as response:
            answers[len(headers)] = (response.status, "Mcp-Session-Id" in response.headers)
    assert answers == {2: (404, False), 3: (200, False)}


# --- A create is executed once, and the ledger says so


@ERAS
async def test_a_create_is_counted_once(old: Old, era: str) -> None:
    ran = await old.ran("salesforce_create")
    fields = {"name": "n", "nonce": f"rest-{era}"}
    await old.call("salesforce", "salesforce_create", object_type="Lead", fields=fields)
    async with Client(old.mcp, mode=era) as client:
        issue = {"summary": "s", "nonce": f"mcp-{era}"}
        assert not (await client.call_tool("jira_create_issue", issue)).is_error
    nonces = await old.nonces()
    assert [nonces.count(f"{way}-{era}") for way in ("rest", "mcp")] == [1, 1]
    assert await old.ran("salesforce_create") == ran + 1


async def test_a_refused_create_is_not_in_the_ledger(old: Old) -> None:
    before = await old.nonces()
    answer = await old.call("salesforce", "salesforce_create", object_type="Lead", fields={})
    assert answer["success"] is False
    assert await old.nonces() == before


async def test_the_ledger_survives_a_kill(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with process("--ledger", str(ledger)) as first:
        async with opened(first.url) as old:
            await old.call("jira", "jira_create_issue", summary="kept", nonce="before")
            await old.fault("cut")
            with pytest.raises(aiohttp.ClientPayloadError):
                await old.call("jira", "jira_create_issue", summary="kept too", nonce="cut")
        first.end(signal.SIGKILL)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [(line["number"], line["tool"], line["nonce"]) for line in lines] == [
        (1, "jira_create_issue", "before"),
        (2, "jira_create_issue", "cut"),
    ]
    with process("--ledger", str(ledger)) as second:
        async with opened(second.url) as old:
            assert await old.get("/control/ledger") == {"creates": 2, "entries": lines}


# --- Faults, on REST


async def test_slow_answers_later_and_holds_up_nobody_else(old: Old) -> None:
    await old.fault("slow", seconds=0.5, times=1)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(old.call("jira", "jira_get_issue", key="OPS-1"))
        await old.struck()
        assert (await old.call("jira", "jira_get_issue", key="OPS-1"))["success"] is True
        assert not slow.done()
    assert slow.result()["success"] is True


async def test_hang_answers_when_it_is_lifted(old: Old) -> None:
    ran = await old.ran("jira_get_issue")
    await old.fault("hang", "jira_get_issue", times=1)
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(old.call("jira", "jira_get_issue", key="OPS-1"))
        await old.struck()
        assert await old.ran("jira_get_issue") == ran
        assert not hanging.done()
        await old.lift()
    assert hanging.result()["success"] is True


async def test_a_call_that_hangs_until_its_client_leaves_is_not_executed(old: Old) -> None:
    await old.fault("hang", times=1)
    params = {"summary": "never", "nonce": "left"}
    body = {"service": "jira", "tool_name": "jira_create_issue", "params": params}
    with pytest.raises(TimeoutError):
        await old.http.post("/api/call-tool", json=body, timeout=aiohttp.ClientTimeout(0.2))
    assert await old.get("/control/faults") == {"every_call_seconds": 0.0, "faults": []}
    # A whole exchange with the server later it has seen the connection close.
    await old.lift()
    assert "left" not in await old.nonces()


async def test_error_is_500_and_runs_nothing(old: Old) -> None:
    ran = await old.ran("jira_get_issue")
    await old.fault("error", "jira_get_issue", times=1)
    async with old.http.post("/api/call-tool", json=READ) as response:
        assert response.status == 500
    assert await old.ran("jira_get_issue") == ran
    assert (await old.post("/api/call-tool", READ))["success"] is True


async def test_cut_loses_the_answer_of_a_tool_that_ran(old: Old) -> None:
    await old.fault("cut", "jira_create_issue", times=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await old.call("jira", "jira_create_issue", summary="s", nonce="rest-cut")
    assert (await old.nonces()).count("rest-cut") == 1


async def test_fail_is_an_answer_of_the_tool(old: Old) -> None:
    await old.fault("fail", times=1)
    answer = await old.call("jira", "jira_create_issue", summary="s", nonce="rest-fail")
    assert answer["success"] is False
    assert "rest-fail" not in await old.nonces()


async def test_a_fault_strikes_the_tool_it_names_and_none_lifts_it(old: Old) -> None:
    await old.fault("error", "jira_search_issues")
    await old.fault("fail")
    assert (await old.call("jira", "jira_get_issue", key="OPS-1"))["success"] is False
    async with old.http.post(
        "/api/call-tool", json={"service": "jira", "tool_name": "jira_search_issues"}
    ) as response:
        assert response.status == 500
    await old.fault("none", "jira_search_issues")
    await old.fault("none")
    assert (await old.get("/control/faults"))["faults"] == []
    assert (await old.call("jira", "jira_search_issues"))["success"] is True


@pytest.mark.parametrize(
    ("path", "order", "status"),
    [
        ("/control/faults", {"tool": "nothing", "mode": "slow"}, 404),
        ("/control/faults", {"tool": "*", "mode": "weird"}, 422),
        ("/control/faults", {"tool": "*", "mode": "slow", "seconds": -1}, 422),
        ("/control/faults", {"tool": "*", "mode": "cut", "times": 0}, 422),
        ("/control/service", {"service": "sap", "connected": True}, 404),
    ],
)
async def test_a_wrong_order_is_refused(
    old: Old, path: str, order: dict[str, Any], status: int
) -> None:
    assert "detail" in await old.post(path, order, status)


# --- Faults, on MCP


@ERAS
async def test_mcp_slow_answers_later(old: Old, era: str) -> None:
    async with Client(old.mcp, mode=era) as client, asyncio.TaskGroup() as group:
        await old.fault("slow", seconds=0.5, times=1)
        slow = group.create_task(client.call_tool("jira_get_issue", {"key": "OPS-1"}))
        await old.struck()
        assert not (await client.call_tool("jira_get_issue", {"key": "OPS-2"})).is_error
        assert not slow.done()
    assert not slow.result().is_error


@ERAS
async def test_mcp_hang_answers_when_it_is_lifted(old: Old, era: str) -> None:
    async with Client(old.mcp, mode=era) as client, asyncio.TaskGroup() as group:
        await old.fault("hang", times=1)
        hanging = group.create_task(client.call_tool("jira_get_issue", {"key": "OPS-1"}))
        await old.struck()
        assert not (await client.call_tool("jira_get_issue", {"key": "OPS-2"})).is_error
        assert not hanging.done()
        await old.lift()
    assert not hanging.result().is_error


@ERAS
async def test_mcp_error_is_an_error_of_the_protocol(old: Old, era: str) -> None:
    async with Client(old.mcp, mode=era) as client:
        await old.fault("error", times=1)
        with pytest.raises(MCPError):
            await client.call_tool("jira_get_issue", {"key": "OPS-1"})
        assert not (await client.call_tool("jira_get_issue", {"key": "OPS-1"})).is_error


@ERAS
async def test_mcp_cut_loses_the_answer_of_a_tool_that_ran(old: Old, era: str) -> None:
    """The client of `mcp` 2.3.0 reports a cut stream, but a cut JSON answer ends its connection."""

    async def create() -> None:
        async with Client(old.mcp, mode=era) as client:
            await client.call_tool("jira_create_issue", {"summary": "s", "nonce": f"cut-{era}"})

    await old.fault("cut", times=1)
    with pytest.raises(ExceptionGroup):
        await create()
    assert (await old.nonces()).count(f"cut-{era}") == 1


@ERAS
async def test_mcp_fail_is_an_answer_of_the_tool(old: Old, era: str) -> None:
    async with Client(old.mcp, mode=era) as client:
        await old.fault("fail", times=1)
        assert (await client.call_tool("jira_get_issue", {"key": "OPS-1"})).is_error


async def test_faults_leave_other_mcp_requests_alone(old: Old) -> None:
    await old.fault("error")
    async with Client(old.mcp, mode=HANDSHAKE) as client:
        assert (await client.list_tools()).tools


# --- The process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_after_one_line(signum: signal.Signals) -> None:
    with process() as started:
        assert started.line.startswith("basic server listening on http://localhost:")
        assert started.end(signum) == (0, "")


@pytest.mark.parametrize(("allowed", "status"), [((), 421), (("--allow-host", "basic"), 200)])
async def test_mcp_accepts_the_hosts_it_was_told(allowed: tuple[str, ...], status: int) -> None:
    with process("--host", "0.0.0.0", *allowed) as started:
        url = started.url.replace("0.0.0.0", "127.0.0.1")
        headers = {**STATELESS_HEADERS, "Host": "basic:9000"}
        async with opened(url) as old:
            async with old.http.post("/mcp", json=STATELESS_LIST, headers=headers) as response:
                assert response.status == status
            assert (await old.post("/api/call-tool", READ))["success"] is True


async def test_a_delay_for_every_call_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BASIC_SERVER_SLOW", "0.01")
    with process() as started:
        async with opened(started.url) as old:
            assert (await old.get("/control/faults"))["every_call_seconds"] == 0.01
            assert (await old.post("/api/call-tool", READ))["success"] is True


def test_a_wrong_option_is_told() -> None:
    command = [sys.executable, "-m", "examples.basic_server", "--slow", "nan"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--slow" in ended.stderr
