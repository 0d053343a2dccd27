"""The server under test when nothing goes wrong, and when it is gone."""

import asyncio

import aiohttp
import pytest

from tests.edge.wire import Client, get, post, request
from tests.kit.faults import Hang, Slow
from tests.kit.ledger import check
from tests.kit.seen import Fate, Seen, see
from tests.kit.sent import Sent, connected
from tests.kit.upstream import Upstream

WRITE = Sent("n1", "jira_create_issue", caller="Bearer ann")


async def test_a_rest_call_is_answered_as_the_basic_server_does(
    upstream: Upstream, client: Client
) -> None:
    heard = await client.ask(WRITE.rest())
    assert heard.status == 200
    assert list(heard.json) == ["success", "data", "error", "timestamp"]
    assert see(WRITE, heard).fate is Fate.DONE
    (entry,) = upstream.ledger.entries
    assert (entry.tool, entry.nonce, entry.caller) == ("jira_create_issue", "n1", "Bearer ann")
    assert upstream.arrived == {"jira_create_issue": 1}


async def test_it_serves_an_ordinary_client(upstream: Upstream) -> None:
    async with aiohttp.ClientSession(upstream.url) as session:
        async with session.get("/api/health") as health:
            said = await health.json()
        async with session.get("/api/tools") as tools:
            listed = await tools.json()
        call = {"service": "jira", "tool_name": "jira_get_issue", "params": {"nonce": "a"}}
        async with session.post("/api/call-tool", json=call) as called:
            assert (await called.json())["success"] is True
    assert said["status"] == "healthy"
    assert said["available_tools"] == len(listed) == 7
    assert set(said["connections"]) == {"jira", "salesforce"}
    assert {"service", "name", "description", "input_schema"} == set(listed[0])
    assert upstream.accepted == 1, "connections are kept alive"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get("/nowhere"), 404),
        (get("/api/call-tool"), 405),
        (post("/api/tools", b""), 405),
        (post("/api/call-tool", b"{"), 422),
        (post("/api/call-tool", b"[]"), 422),
        (post("/api/call-tool", {"tool_name": "x"}), 422),
        (Sent("n", "jira_get_issue", service="nobody").rest(), 404),
        (request("HEAD", "/api/health"), 200),
    ],
)
async def test_what_is_no_call_is_refused(
    upstream: Upstream, client: Client, raw: bytes, status: int
) -> None:
    heard = await client.ask(raw)
    assert heard.status == status
    assert (await client.ask(get("/api/health"))).status == 200, "the connection is still good"
    assert upstream.ledger.entries == []


async def test_an_unknown_tool_fails_as_an_answer(client: Client) -> None:
    heard = await client.ask(Sent("n", "salesforce_query").rest())  # of another service
    assert heard.json["success"] is False


async def test_half_a_request_is_no_request(upstream: Upstream) -> None:
    async with connected(upstream.port) as client:
        await client.send(WRITE.rest()[:-1])
    await upstream.until(lambda: upstream.accepted == 1 and not upstream.connections)
    assert upstream.ledger.entries == []
    assert not upstream.arrived


@pytest.mark.parametrize("raw", [b"BAD\r\n\r\n", post("/x", b"{}", "Content-Length: two")])
async def test_what_is_no_http_is_refused(upstream: Upstream, client: Client, raw: bytes) -> None:
    assert (await client.ask(raw)).status == 400
    assert await client.ended()
    assert upstream.unreadable == 1


async def test_a_connection_is_closed_when_the_caller_says_so(client: Client) -> None:
    heard = await client.ask(get("/api/health", "Connection: close"))
    assert heard.status == 200
    assert await client.ended()


async def test_while_it_refuses_open_connections_go_on(upstream: Upstream, client: Client) -> None:
    """F1."""
    await client.ask(get("/api/health"))
    upstream.refuse()
    with pytest.raises(ConnectionRefusedError):
        async with connected(upstream.port):
            pass
    assert (await client.ask(get("/api/health"))).status == 200
    upstream.accept()
    async with connected(upstream.port) as other:
        assert (await other.ask(get("/api/health"))).status == 200


async def test_it_comes_back_on_the_same_port_again_and_again(upstream: Upstream) -> None:
    """F23: and connections that were cut do not stand in its way."""
    for _ in range(20):
        async with connected(upstream.port) as client:
            await client.ask(get("/api/health"))
            with upstream.away():
                assert await client.ended()
                with pytest.raises(ConnectionRefusedError):
                    async with connected(upstream.port):
                        pass
    assert upstream.arrived["GET /api/health"] == 20


async def test_dropping_resets_what_is_open(upstream: Upstream, client: Client) -> None:
    upstream.plays(WRITE.tool, Hang())
    await client.send(WRITE.rest())
    await upstream.until(lambda: upstream.arrived[WRITE.tool])
    upstream.drop()
    with pytest.raises(ConnectionResetError):
        await client.reader.read()


async def test_an_execution_can_be_waited_for(upstream: Upstream, client: Client) -> None:
    go = asyncio.Event()
    upstream.plays(WRITE.tool, Slow(go, executed=True))
    await client.send(WRITE.rest())
    await upstream.until(lambda: upstream.ledger.of("n1"))
    go.set()
    seen = see(WRITE, await client.hear())
    assert seen.fate is Fate.DONE
    assert check(upstream.ledger, [seen]) == []


async def test_many_callers_are_served_at_once(upstream: Upstream) -> None:
    """Each gets its own answer, stamped with its nonce and its credentials."""
    all_sent = [Sent(f"n{n}", "jira_create_issue", caller=f"Bearer {n % 3}") for n in range(60)]

    async def asks(sent: Sent) -> Seen:
        async with connected(upstream.port) as client:
            return see(sent, await client.ask(sent.rest()))

    seen = await asyncio.gather(*map(asks, all_sent))
    assert check(upstream.ledger, seen) == []
    assert upstream.ledger.runs("jira_create_issue") == 60


async def test_a_mistake_of_a_fault_is_not_swallowed() -> None:
    class Mistaken:
        async def strike(self, turn: object) -> None:
            raise LookupError("mistaken")

    async def run() -> None:
        async with Upstream().running() as upstream, connected(upstream.port) as client:
            upstream.plays(WRITE.tool, Mistaken())
            await client.send(WRITE.rest())
            assert await client.ended()

    with pytest.raises(LookupError, match="mistaken"):
        await run()
