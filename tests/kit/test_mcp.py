"""The server's MCP, in both eras."""

from typing import Any

import pytest

from tests.edge.wire import Client, get, post, request, rpc
from tests.fakes import FakeClock
from tests.kit.faults import Amnesia
from tests.kit.messages import notice
from tests.kit.seen import Fate, last_answer, messages, see
from tests.kit.sent import Sent, connected, in_session, open_session, stateless
from tests.kit.upstream import Upstream

READ = Sent("n1", "jira_get_issue")


async def in_it(client: Client, session: str | None, method: str, **params: Any) -> Any:
    return await client.ask(post("/mcp", rpc(method, 7, **params), *in_session(session)))


async def test_a_session_is_opened_used_and_ended(upstream: Upstream, client: Client) -> None:
    session = await open_session(client)
    listed = (await in_it(client, session, "tools/list")).json
    hints = {tool["name"]: tool["annotations"] for tool in listed["result"]["tools"]}
    assert listed["id"] == 7
    assert hints["jira_get_issue"] == {"readOnlyHint": True, "idempotentHint": False}
    assert hints["jira_set_status"] == {"readOnlyHint": False, "idempotentHint": True}
    heard = await client.ask(READ.mcp(session, "seven"))
    assert heard.json["id"] == "seven"
    assert see(READ, heard).answers == ("n1", "")
    assert (await in_it(client, session, "ping")).json["result"] == {}
    assert (await client.ask(request("DELETE", "/mcp", *in_session(session)))).status == 200
    assert (await client.ask(READ.mcp(session))).status == 404
    assert upstream.arrived["initialize"] == 1
    assert upstream.arrived["DELETE /mcp"] == 1


async def test_what_a_client_wants_is_remembered(upstream: Upstream, client: Client) -> None:
    """A recovered session must be told of it again (DESIGN section 4, session recovery)."""
    session = await open_session(client, "Authorization: Bearer ann")
    ann = "Authorization: Bearer ann"
    for method, params in (
        ("logging/setLevel", {"level": "debug"}),
        ("resources/subscribe", {"uri": "records://a"}),
        ("resources/subscribe", {"uri": "records://b"}),
        ("resources/unsubscribe", {"uri": "records://a"}),
    ):
        heard = await client.ask(post("/mcp", rpc(method, 2, **params), ann, *in_session(session)))
        assert heard.json["result"] == {}
    (kept,) = upstream.sessions.opened
    assert (kept.initialized, kept.level, kept.subscriptions) == (True, "debug", {"records://b"})
    assert (kept.caller, kept.version) == ("Bearer ann", "2025-11-25")


async def test_a_session_must_be_named_known_and_ones_own(client: Client) -> None:
    """protocol.md section 2: 400 without an id, 404 with a wrong one or other credentials."""
    session = await open_session(client)
    assert (await client.ask(READ.mcp(None))).status == 400
    assert (await client.ask(READ.mcp("unheard-of"))).status == 404
    bob = Sent("n2", "jira_get_issue", caller="Bearer bob")
    assert (await client.ask(bob.mcp(session))).status == 404


async def test_nothing_is_done_before_the_handshake_is_over(
    upstream: Upstream, client: Client
) -> None:
    hello = await in_it(client, None, "initialize", protocolVersion="2025-06-18")
    heard = await client.ask(READ.mcp(hello["Mcp-Session-Id"]))
    assert "not initialized" in heard.json["error"]["message"]
    assert upstream.ledger.entries == []


async def test_forgotten_sessions_are_404(upstream: Upstream, client: Client) -> None:
    """F20."""
    session = await open_session(client)
    upstream.plays(READ.tool, Amnesia())
    assert (await client.ask(READ.mcp(session))).status == 404
    session = await open_session(client)
    upstream.forget_sessions()
    assert (await client.ask(READ.mcp(session))).status == 404
    assert upstream.ledger.entries == []
    assert len(upstream.sessions.opened) == 2


async def test_answers_can_come_as_events(upstream: Upstream, client: Client) -> None:
    session = await open_session(client)
    upstream.mcp.streams = {READ.tool}
    heard = await client.ask(READ.mcp(session))
    assert heard["Content-Type"] == "text/event-stream"
    assert len(heard.pieces) == 1
    assert see(READ, heard).fate is Fate.DONE
    assert (await in_it(client, session, "ping"))["Content-Type"] == "application/json"
    upstream.mcp.streams, upstream.mcp.event_ids = {"*"}, True
    pinged = await in_it(client, session, "ping")
    assert pinged.pieces[0] == b"id: 0\ndata: \n\n"
    assert last_answer(pinged.body) == {"jsonrpc": "2.0", "id": 7, "result": {}}


async def test_a_session_has_a_stream_of_its_own(upstream: Upstream, client: Client) -> None:
    session = await open_session(client)
    async with connected(upstream.port) as listener:
        await listener.send(get("/mcp", *in_session(session)))
        assert (await listener.head())["Content-Type"] == "text/event-stream"
        assert await listener.chunk() == b": open\n\n"
        upstream.sessions.open[session].push(notice("notifications/tools/list_changed"))
        (message,) = messages(await listener.chunk())
        assert message["method"] == "notifications/tools/list_changed"
        upstream.forget_sessions()
        assert await listener.chunk() == b"", "a clean end"
    assert (await client.ask(get("/mcp", *in_session(session)))).status == 404


async def test_a_stream_whose_listener_has_left_is_let_go(
    upstream: Upstream, client: Client
) -> None:
    session = await open_session(client)
    async with connected(upstream.port) as listener:
        await listener.send(get("/mcp", *in_session(session)))
        await listener.head()
    await upstream.until(lambda: len(upstream.connections) == 1)


async def test_the_stateless_era_needs_no_session(upstream: Upstream, client: Client) -> None:
    heard = await client.ask(READ.stateless("x"))
    assert heard.json["result"]["resultType"] == "complete"
    assert see(READ, heard).fate is Fate.DONE
    found = (await client.ask(stateless("server/discover", 1))).json["result"]
    assert found["supportedVersions"] == ["2026-07-28"]
    listed = (await client.ask(stateless("tools/list", 1))).json["result"]
    assert (listed["ttlMs"], listed["cacheScope"]) == (0, "private")
    assert upstream.sessions.opened == []


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (post("/mcp", b"{"), 400, -32700),
        (post("/mcp", b"[]"), 400, -32600),
        (stateless("no/such", 1), 404, -32601),
        (get("/mcp", "MCP-Protocol-Version: 2026-07-28"), 405, -32600),
        (READ.stateless().replace(b"Mcp-Name: jira_get", b"Mcp-Name: jira_got"), 400, -32020),
        (READ.stateless().replace(b"Mcp-Method: tools/call\r\n", b""), 400, -32020),
        (READ.stateless().replace(b"Version: 2026-07-28", b"Version: 2099-01-01"), 400, -32022),
    ],
)
async def test_what_the_specification_refuses_is_refused(
    upstream: Upstream, client: Client, raw: bytes, status: int, code: int
) -> None:
    heard = await client.ask(raw)
    assert (heard.status, heard.json["error"]["code"]) == (status, code)
    assert upstream.ledger.entries == []


async def test_unknown_methods_and_tools_are_answered(client: Client, clock: FakeClock) -> None:
    session = await open_session(client)
    assert (await in_it(client, session, "no/such")).json["error"]["code"] == -32601
    unknown = await in_it(client, session, "tools/call", name="nobody", arguments={})
    assert unknown.json["result"]["isError"] is True
    posted = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert (await client.ask(post("/mcp", posted, *in_session(session)))).status == 202
    told = rpc("notifications/cancelled", None, requestId=1)
    assert (await client.ask(post("/mcp", told, *in_session(session)))).status == 202
