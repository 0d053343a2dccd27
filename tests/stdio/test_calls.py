"""What clients see of a server that is a command: all that they would see of one with a URL."""

import asyncio
import json
from pathlib import Path

import pytest
from mcp.client import Client as Official
from mcp.types import ElicitResult

from tests.stdio.conftest import Doors, child, text, until


async def test_the_official_client_does_all_it_can(door: Doors, tmp_path: Path) -> None:
    """Both ends are the SDK's: list, call, progress, and a question of the server."""
    opened = await door(child(file="sdk_child.py"))
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async def asked(context: object, params: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "red"})

    async with Official(f"{opened.url}/mcp", mode="legacy", elicitation_callback=asked) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            "look",
            "note",
            "paint",
        }
        first, again = [await client.call_tool("look", {"what": "it"}) for _ in range(2)]
        assert first.content == again.content
        noted = await client.call_tool("note", {"text": "one"}, progress_callback=progressed)
        assert "noted one" in str(noted.content)
        assert "painted red" in str((await client.call_tool("paint", {})).content)
    assert steps == [1, 2]
    assert opened.ledger() == ["one"]
    await until(lambda: not opened.sidecar.bridge.snapshot()["sessions"], "the session has ended")


async def test_a_client_of_both_eras_finds_the_one_that_is_spoken(door: Doors) -> None:
    opened = await door(child(file="sdk_child.py"))
    async with Official(f"{opened.url}/mcp", mode="auto") as client:
        assert (await client.list_tools()).tools


async def test_the_environment_is_passed_on_without_what_is_ours(door: Doors) -> None:
    opened = await door(MCP_ADMIN_TOKEN="canary", REDIS_URL="redis://localhost:1")
    await opened.client()
    assert {line.split(maxsplit=2)[2] for line in opened.ledger() if " began " in line} == {
        "['OWN_SECRET']"
    }


async def test_clients_with_equal_ids_are_never_mixed(door: Doors, tmp_path: Path) -> None:
    """Each has a process of its own, and even two calls of one client with one id get their answers."""
    opened = await door()
    one, two = await opened.client(), await opened.client()
    waits = [
        asyncio.create_task(
            client.call("write", 7, say=name, act="wait", file=str(tmp_path / name))
        )
        for client, name in ((one, "a"), (two, "b"), (one, "c"))
    ]
    await until(lambda: len(opened.did("write")) == 3)
    for name in ("c", "b", "a"):  # answered in another order than asked
        (tmp_path / name).touch()
    said = [text(await wait).split() for wait in waits]
    assert [name for _, name in said] == ["a", "b", "c"]
    assert said[0][0] == said[2][0] != said[1][0]


async def test_an_id_keeps_its_type(door: Doors) -> None:
    client = await (await door()).client()
    for number in (1, "1", "mcp", 2**53):
        await client.call("write", number)


async def test_progress_goes_to_the_call_that_asked_for_it(door: Doors, tmp_path: Path) -> None:
    opened = await door()
    client = await opened.client()

    async def asked(token: str) -> list[object]:
        _, said = await client.post(
            id=token,
            method="tools/call",
            params={
                "name": "write",
                "arguments": {"act": "wait", "file": str(tmp_path / "go")},
                "_meta": {"progressToken": token},
            },
        )
        return [one["params"]["progressToken"] for one in said[:-1]]

    both = [asyncio.create_task(asked(token)) for token in ("a", "b")]
    await until(lambda: len(opened.did("write")) == 2)
    (tmp_path / "go").touch()
    assert [await one for one in both] == [["a", "a"], ["b", "b"]]


async def test_a_question_of_the_server_reaches_its_own_client_and_the_answer_the_server(
    door: Doors,
) -> None:
    """On the stream of the only call that is open, whose time stands still meanwhile."""
    opened = await door()
    client = await opened.client()
    other = await opened.client()
    async with (
        other.http.get(other.url, headers=other.headers) as elsewhere,
        client.http.get(client.url, headers=client.headers) as own,
    ):
        data = json.dumps(
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "write", "arguments": {"act": "ask"}},
            }
        )
        async with client.http.post(client.url, data=data, headers=client.headers) as stream:
            while not (line := await stream.content.readline()).startswith(b"data: "):
                assert line
            assert json.loads(line[6:])["method"] == "roots/list"
            status, _ = await client.post(id=7, result={"roots": ["mine"]})
            assert status == 202
            await until(lambda: opened.did("answered"))
        elsewhere.close()
        own.close()
    assert opened.ledger()[-1] == f'{opened.did("write")[0]} answered {{"roots": ["mine"]}}'


async def test_changes_are_told_on_the_clients_own_stream(door: Doors) -> None:
    """Also what was said before it was opened."""
    client = await (await door()).client()
    await client.call("write", say="x")
    for _ in range(2):
        async with client.http.get(client.url, headers=client.headers) as stream:
            assert stream.status == 200
            await client.call("write", act="notify")
            while not (line := await stream.content.readline()).startswith(b"data: "):
                assert line
            assert json.loads(line[6:])["method"] == "notifications/tools/list_changed"
            stream.close()


async def test_a_cancelled_call_is_cancelled_at_the_server_and_waits_no_longer(
    door: Doors, tmp_path: Path
) -> None:
    opened = await door()
    client = await opened.client()
    calling = asyncio.create_task(
        client.post(
            id="mine",
            method="tools/call",
            params={"name": "write", "arguments": {"act": "wait", "file": str(tmp_path / "x")}},
        )
    )
    await until(lambda: opened.did("write"))
    await client.post(method="notifications/cancelled", params={"requestId": "mine"})
    status, said = await calling
    assert (status, said[0]["id"], said[0]["error"]["message"]) == (
        200,
        "mine",
        "Request cancelled",
    )
    await until(lambda: opened.did("cancelled"))
    assert opened.ledger()[-1].split()[2].isdigit(), "by the id that the server knows"
    (tmp_path / "x").touch()
    assert "after" in text(await client.call("write", say="after"))


async def test_the_end_of_a_session_is_the_end_of_its_process(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    pid = text(await client.call("write")).strip()
    assert await client.end() == 204
    await until(lambda: pid in opened.did("ended"), "stdin was closed, no signal was needed")
    assert (await client.post(id=1, method="ping"))[0] == 404


async def test_a_session_too_many_is_refused_until_one_ends(door: Doors) -> None:
    opened = await door(MCP_UPSTREAM_COMMAND_SESSIONS=2)
    await until(lambda: opened.did("ended"), "our own look at the tools is over")
    first, _ = await opened.client(), await opened.client()
    with pytest.raises(AssertionError, match="All 2 sessions"):
        await opened.client()
    await first.end()
    await opened.client()


async def test_a_server_that_can_run_only_once_never_runs_twice(door: Doors) -> None:
    """With one session, nothing overlaps: neither our own look, nor the next process."""
    opened = await door(child("exclusive"), MCP_UPSTREAM_COMMAND_SESSIONS=1)
    for _ in range(3):
        client = await opened.client()
        await client.call("write")
        await client.end()
    assert len(opened.did("write")) == 3
    assert [one for one in opened.events("child.ended") if not one["expected"]] == []


async def test_what_is_no_message_for_a_session_is_refused(door: Doors) -> None:
    client = await (await door()).client()
    for data, status in (
        ("[]", 400),
        ("{", 400),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', 400),
        ('{"jsonrpc":"2.0"}', 400),
    ):
        async with client.http.post(client.url, data=data, headers=client.headers) as response:
            assert response.status == status, data
    del client.headers["Mcp-Session-Id"]
    assert (await client.post(id=1, method="ping"))[0] == 400
    client.headers["Mcp-Session-Id"] = "nobody's"
    assert (await client.post(id=1, method="ping"))[0] == 404
    async with client.http.get(f"{client.url}/other") as response:
        assert response.status == 404


async def test_health_shows_the_process_and_nothing_of_the_bridge(door: Doors) -> None:
    """It has no page of its own that could be merged into ours."""
    opened = await door()
    await opened.client()
    async with opened.http.get(f"{opened.url}/api/health") as response:
        assert response.status == 200
        report = await response.json()
    assert report["upstream"]["target"].startswith("stdio:")
    assert "error" not in report
    assert "jsonrpc" not in report


async def test_a_message_that_is_too_large_for_a_line_is_refused(door: Doors) -> None:
    client = await (await door()).client()
    status, said = await client.post(id=1, method="ping", params={"x": "x" * (17 << 20)})
    assert status == 413
    assert "16777216" in said[0]["error"]["message"]
