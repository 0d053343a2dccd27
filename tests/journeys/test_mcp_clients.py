"""Real MCP clients, of both eras, through the sidecar."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.client import Client

from tests.journeys.conftest import ROOT, Pair, Process, eventually, executed, free_port

OLD_PYTHON = ROOT / ".venv-mcp1" / "bin" / "python"
ERAS = ["legacy", "2026-07-28", "auto"]


@pytest.mark.parametrize("era", ERAS)
async def test_the_official_client_does_all_it_can(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession, era: str
) -> None:
    """List, read twice, write twice, progress, resources, prompts: as against the server itself."""
    pair = pair_with()
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with Client(f"{pair.url}/mcp", mode=era) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"salesforce_create", "salesforce_export", "jira_get_issue"} <= tools
        answers = [
            (await client.call_tool("salesforce_query_accounts", {"limit": 2})).content
            for _ in range(2)
        ]
        assert answers[0] == answers[1]
        for name in ("one", "two"):
            written = await client.call_tool(
                "salesforce_create", {"object_type": "Account", "fields": {"name": name}}
            )
            assert not written.is_error
        await client.call_tool("salesforce_export", {}, progress_callback=progressed)
        failed = await client.call_tool("jira_get_issue", {"key": "NO-1"})
        assert failed.is_error
        resource = await client.read_resource("records://accounts")
        assert "two" in str(resource.contents[0]), "a resource read after a write is fresh"
        assert (await client.list_prompts()).prompts

    assert steps == sorted(steps)
    assert len(steps) >= 3
    assert await executed(http, pair.server_url, "salesforce_query_accounts") == 1
    assert await executed(http, pair.server_url, "salesforce_create") == 2


@pytest.mark.mcp1
async def test_the_client_of_the_handshake_era_does_all_it_can(
    pair_with: Callable[..., Pair], http: aiohttp.ClientSession
) -> None:
    """`mcp` 1.30, in an environment of its own (make setup)."""
    if not OLD_PYTHON.exists():
        pytest.skip("no environment of mcp 1.30: run `make setup`")
    pair = pair_with()
    script = Path(__file__).with_name("old_client.py")
    process = await asyncio.create_subprocess_exec(
        str(OLD_PYTHON),
        str(script),
        f"{pair.url}/mcp",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()[-2000:]
    told = json.loads(out)
    assert told["version"] == "2025-11-25"
    assert told["reads"][0] == told["reads"][1]
    assert told["writes"] == [False, False]
    assert told["progress"] >= 3
    assert await executed(http, pair.server_url, "salesforce_query_accounts") == 1
    assert await executed(http, pair.server_url, "salesforce_create") == 2


@pytest.mark.parametrize("era", ERAS)
async def test_a_plain_server_without_rules_is_believed_for_seconds_only(
    start: Callable[..., Process], sidecar_for: Callable[..., tuple[Process, str]], era: str
) -> None:
    """DESIGN section 4: readOnlyHint keeps an answer for a moment, anything else runs each time."""
    port = free_port()
    start(str(Path(__file__).with_name("plain_server.py")), str(port))
    _, url = sidecar_for(f"http://127.0.0.1:{port}/mcp")  # the path is dropped, with a warning
    async with Client(f"{url}/mcp", mode=era) as client:
        await client.list_tools()
        looks = [text_of(await client.call_tool("look", {"what": "x"})) for _ in range(2)]
        notes = [text_of(await client.call_tool("note", {"text": "y"})) for _ in range(2)]
        again = text_of(await client.call_tool("look", {"what": "x"}))
    assert looks == ["x: 1", "x: 1"]
    assert notes == ["y: 1", "y: 2"]
    assert again == "x: 2", "a write drops what was kept"


async def test_the_sidecar_learns_annotations_by_itself(
    start: Callable[..., Process],
    sidecar_for: Callable[..., tuple[Process, str]],
    http: aiohttp.ClientSession,
) -> None:
    """A caller that never lists gets the protection too: the sidecar has asked for the list."""
    port = free_port()
    start(str(Path(__file__).with_name("plain_server.py")), str(port))
    _, url = sidecar_for(f"http://127.0.0.1:{port}")

    async def knows_the_tools() -> bool:
        async with http.get(f"{url}/api/health") as response:
            return bool((await response.json())["available_tools"] == 2)

    await eventually(knows_the_tools, "two tools are known")
    first = await posted(http, url, 7)
    second = await posted(http, url, "seven")
    assert first[0]["id"] == 7
    assert second[0]["id"] == "seven", "the caller's own id, its type kept"
    assert first[0]["result"] == second[0]["result"]
    assert "; hit" in second[1]


async def posted(
    http: aiohttp.ClientSession, url: str, request_id: int | str
) -> tuple[dict[str, Any], str]:
    """Call the read-only tool as a stateless client would; return the answer and Cache-Status."""
    version = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with http.post(
        f"{url}/mcp",
        json={
            "jsonrpc": "2.0",
            "id": request_id,
            "method": "tools/call",
            "params": {"name": "look", "arguments": {"what": "z"}, "_meta": meta},
        },
        headers={
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": version,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "look",
        },
    ) as response:
        assert response.status == 200, await response.text()
        return await response.json(), response.headers["Cache-Status"]


def text_of(result: Any) -> str:
    return str(result.content[0].text)


async def test_a_client_in_the_middle_of_a_session_does_not_notice_a_restart(
    pair_with: Callable[..., Pair], tmp_path: Path
) -> None:
    """F20, session recovery: the server has forgotten it; reads and writes go on, each write once."""
    pair = pair_with(MCP_RESTART_GRACE="15")
    account = {"object_type": "Account", "fields": {"name": "Umbrella"}}
    async with Client(f"{pair.url}/mcp", mode="legacy") as client:
        await client.call_tool("salesforce_create", account)
        pair.server.kill()
        pair.server.start()
        assert "OPS-1" in text_of(await client.call_tool("jira_get_issue", {"key": "OPS-1"}))
        pair.server.kill()
        pair.server.start()
        assert not (await client.call_tool("salesforce_create", account)).is_error
        assert len((await client.list_tools()).tools) == 8
    assert len((tmp_path / "ledger").read_text().splitlines()) == 2
    _, told, _ = pair.sidecar.stop()
    assert told.count('"event":"session.recovered"') == 2
