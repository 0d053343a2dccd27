"""Sessions that were left make room, and end."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import aiohttp

from mcp_proxy.layers.clock import Tasks
from mcp_proxy.stdio.bridge import Bridge
from mcp_proxy.stdio.child import Command
from tests.fakes import FakeClock, Told
from tests.stdio.conftest import HEADERS, Door, Doors, child, until


def a_minute_later(door: Door) -> None:
    """Let nobody have said anything for a minute, as far as both sides know."""
    for session in door.sidecar.bridge._sessions.values():
        session.used -= 61
    for known, _, _ in door.sidecar.sessions._known.values():
        known.confirmed_at -= 61


async def test_a_session_that_was_left_makes_room_and_is_opened_again(door: Doors) -> None:
    """The client that returns does not notice: the sidecar says its handshake again."""
    opened = await door(MCP_UPSTREAM_COMMAND_SESSIONS=1)
    first = await opened.client()
    await first.call("write")
    await until(lambda: not opened.sidecar.bridge._opening)
    a_minute_later(opened)
    second = await opened.client()
    await second.call("write")
    a_minute_later(opened)
    await first.call("write")
    assert len(set(opened.did("write"))) == 3


async def test_a_session_that_somebody_listens_in_makes_no_room(door: Doors) -> None:
    opened = await door(MCP_UPSTREAM_COMMAND_SESSIONS=1)
    first = await opened.client()
    async with first.http.get(first.url, headers=first.headers) as stream:
        a_minute_later(opened)
        status, _ = await type(first)(opened.http, opened.url).hello()
        assert status == 503
        stream.close()


async def test_a_session_that_was_left_for_long_is_ended(tmp_path: Path) -> None:
    clock, tasks = FakeClock(), Tasks()
    environ = {**os.environ, "LEDGER": str(tmp_path / "ledger")}
    command = Command(tuple(shlex.split(child())), None, environ)
    bridge = Bridge(command, "/mcp", 4, clock=clock, emit=Told(), spawn=tasks)
    bridge.start()
    try:
        await until(bridge._listening.is_set)
        assert Path(bridge.socket).parent.stat().st_mode & 0o777 == 0o700, "for us alone"
        async with aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(bridge.socket), headers=HEADERS
        ) as http:

            async def post(session: str | None, **message: Any) -> aiohttp.ClientResponse:
                headers = {"Mcp-Session-Id": session} if session else {}
                data = json.dumps({"jsonrpc": "2.0", "id": 1, **message})
                return await http.post("http://x/mcp", data=data, headers=headers)

            said = await post(None, method="initialize", params={"protocolVersion": "2025-11-25"})
            session = said.headers["Mcp-Session-Id"]
            await clock.advance(1200)
            assert (await post(session, method="ping")).status == 200
            await clock.advance(1200)
            assert (await post(session, method="ping")).status == 200, "it was used meanwhile"
            await clock.advance(1900)
            assert (await post(session, method="ping")).status == 404
            stateless = {"MCP-Protocol-Version": "2026-07-28"}
            refused = await http.post("http://x/mcp", data="{}", headers=stateless)
            assert (refused.status, (await refused.json())["error"]["code"]) == (400, -32022)
    finally:
        await bridge.aclose()
        await tasks.end()
    assert not Path(bridge.socket).parent.exists()
