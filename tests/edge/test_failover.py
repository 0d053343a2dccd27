"""Several servers behind, real ones: calls move, sessions stay and follow (DESIGN section 4)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.upstream.presence import State
from tests.edge.test_events import LEGACY, endpoint
from tests.edge.wire import Front, chunked, get, post, rpc, sidecar, streamed, unused_port
from tests.edge.wire import Upstream as Wire
from tests.kit.damage import Status
from tests.kit.faults import Hang, Reset
from tests.kit.ledger import check
from tests.kit.seen import Fate, Seen, see
from tests.kit.sent import ACCEPT, Sent, in_session, open_session
from tests.kit.upstream import Upstream

RULES = Path(__file__).parents[2] / "config" / "mcp_proxy.toml"
READ, WRITE = "jira_get_issue", "jira_create_issue"
ANN = "Bearer ann"


class Pair:
    """Two servers, and a sidecar in front of both."""

    def __init__(self, servers: list[Upstream], front: Front) -> None:
        self.servers = servers
        self.front = front
        self.seen: list[Seen] = []

    @property
    def arrived(self) -> list[int]:
        """Return how many tool calls came to each."""
        return [one.arrived[READ] + one.arrived[WRITE] for one in self.servers]

    async def ask(self, sent: Sent, raw: bytes | None = None) -> Seen:
        seen = see(sent, await self.front.ask(raw or sent.rest()))
        self.seen.append(seen)
        return seen

    async def shake_hands(self) -> tuple[str, Upstream, Upstream]:
        """Open a session; return its id, where it lives, and the other server."""
        session = await opened(self.front)
        a, b = self.servers
        return (session, a, b) if session in a.sessions.open else (session, b, a)

    def wrong(self) -> list[str]:
        """Return what both servers' ledger says against what was told."""
        return check(self.servers[0].ledger, self.seen)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return the events of that name; nothing is told afterwards."""
        return [one for one in self.front.told() if one["event"] == event]


async def opened(front: Front) -> str:
    """Shake hands as ann."""
    async with front.client() as client:
        return await open_session(client, f"Authorization: {ANN}")


@asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(Upstream().running())
        b = await stack.enter_async_context(Upstream(ledger=a.ledger).running())
        servers = [a, b]
        urls = ",".join(one.url for one in servers)
        defaults = {"MCP_CACHE_ENABLED": "false", "MCP_CONFIG_FILE": RULES}
        front = await stack.enter_async_context(sidecar(urls, **{**defaults, **settings}))
        for target in front.sidecar.targets:
            await target.monitor.look()
        yield Pair(servers, front)


async def test_calls_are_spread() -> None:
    async with pair() as both:
        for number in range(20):
            assert (await both.ask(Sent(f"n{number}", WRITE))).fate is Fate.DONE
        assert both.arrived == [10, 10]
        assert both.wrong() == []


@pytest.mark.parametrize("tool", [READ, WRITE])
async def test_nobody_notices_that_one_of_two_dies(tool: str) -> None:
    """Writes too: its connections are refused, so nothing was delivered."""
    async with pair() as both:
        await both.ask(Sent("first", tool))
        with both.servers[0].away():
            for number in range(20):
                assert (await both.ask(Sent(f"n{number}", tool))).fate is Fate.DONE
            assert both.arrived[1] >= 20
        assert both.wrong() == []
        heard = await both.front.ask(get("/api/health"))
        assert heard.status == 200


async def test_a_read_whose_answer_is_lost_is_asked_of_the_other() -> None:
    async with pair() as both:
        for one in both.servers:
            one.plays(READ, Reset(executed=True))
        for number in range(2):
            assert (await both.ask(Sent(f"n{number}", READ))).fate is Fate.DONE
        assert both.arrived == [2, 2]


async def test_a_write_whose_answer_is_lost_is_not() -> None:
    """It may have been carried out."""
    async with pair() as both:
        for one in both.servers:
            one.plays(WRITE, Reset(executed=True))
        for number in range(2):
            assert (await both.ask(Sent(f"n{number}", WRITE))).fate is Fate.UNKNOWN
        assert both.arrived == [1, 1]
        assert both.wrong() == []


async def test_a_tool_that_is_dead_on_one_is_asked_of_the_other() -> None:
    """Each target's tools have circuits of their own."""
    async with pair(MCP_CB_FAILURE_THRESHOLD=2, MCP_MAX_RETRIES=0) as both:
        both.servers[0].plays(WRITE, then=Status(500))
        fates = [(await both.ask(Sent(f"n{number}", WRITE))).fate for number in range(12)]
        assert fates.count(Fate.DONE) == 10
        assert both.arrived[0] == 2
        open_ones = [
            name
            for target in both.front.sidecar.targets
            if target.breaker
            for name, shown in target.breaker.snapshot().items()
            if shown["state"] == "open"
        ]
        assert open_ones == [f"tool jira/{WRITE} of {both.servers[0].url}"]


async def test_an_unhealthy_one_is_left_out_until_it_is_well_again() -> None:
    """Issue 5: ejection and return, by thresholds both ways."""
    async with pair(MCP_SLOW_START=0) as both:
        ill, _ = both.servers
        ill.plays("GET /api/health", then=Status(500))
        monitor = both.front.sidecar.targets[0].monitor
        for _ in range(3):
            await monitor.look()
        for number in range(10):
            await both.ask(Sent(f"n{number}", WRITE))
        assert both.arrived == [0, 10]
        heard = await both.front.ask(get("/api/health"))
        assert [one["healthy"] for one in heard.json["targets"]] == [False, True]
        assert (heard.status, heard.json["status"]) == (200, "degraded")
        ill.scripts.clear()
        for _ in range(2):
            await monitor.look()
        for number in range(10, 20):
            await both.ask(Sent(f"n{number}", WRITE))
        assert both.arrived == [5, 15]
        assert [event["after"] for event in both.told("upstream.state_changed")][-2:] == [
            "unhealthy",
            "healthy",
        ]


async def test_one_that_has_returned_starts_slowly() -> None:
    async with pair(MCP_SLOW_START=3600) as both:
        a, _ = both.front.sidecar.targets
        a.presence.gone()
        a.presence.answered(both.front.sidecar._clock.now())
        assert a.weight == 0.1
        assert both.front.sidecar.targets[1].weight == 1.0


async def test_a_session_stays_on_its_server() -> None:
    async with pair() as both:
        session, home, other = await both.shake_hands()
        for number in range(6):
            sent = Sent(f"n{number}", WRITE, ANN)
            assert (await both.ask(sent, sent.mcp(session))).fate is Fate.DONE
        assert home.arrived[WRITE] == 6
        assert other.arrived[WRITE] == 0


@pytest.mark.parametrize("tool", [READ, WRITE])
async def test_a_session_follows_to_the_other_server_when_its_own_dies(tool: str) -> None:
    async with pair() as both:
        session, home, _ = await both.shake_hands()
        first = Sent("first", tool, ANN)
        await both.ask(first, first.mcp(session))
        home.crash()
        for number in range(3):
            sent = Sent(f"n{number}", tool, ANN)
            assert (await both.ask(sent, sent.mcp(session))).fate is Fate.DONE
        assert both.wrong() == []
        assert len(both.told("session.recovered")) == 1


async def test_a_read_under_way_in_a_session_follows_too() -> None:
    async with pair() as both:
        session, home, other = await both.shake_hands()
        home.plays(READ, Reset(executed=True))
        sent = Sent("n", READ, ANN)
        home.refuse()
        home.forget_sessions()
        assert (await both.ask(sent, sent.mcp(session))).fate is Fate.DONE
        assert other.arrived[READ] == 1


async def test_a_session_that_another_sidecar_opened_is_found() -> None:
    async with pair() as both:
        async with sidecar(both.servers[1].url) as elsewhere:
            session = await opened(elsewhere)
        for number in range(3):
            sent = Sent(f"n{number}", WRITE, ANN)
            assert (await both.ask(sent, sent.mcp(session))).fate is Fate.DONE
        assert both.arrived == [0, 3]


async def test_a_session_that_nobody_has_gets_the_servers_404() -> None:
    async with pair() as both:
        sent = Sent("n", READ, ANN)
        said = await both.front.ask(sent.mcp("made-up"))
        assert said.status == 404


async def test_the_end_of_a_session_reaches_its_server() -> None:
    async with pair() as both:
        session, home, _ = await both.shake_hands()
        headers = "\r\n".join((f"Authorization: {ANN}", *in_session(session)))
        gone = await both.front.ask(
            f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode()
        )
        assert gone.status < 300
        assert session not in home.sessions.open


async def test_with_all_servers_away_a_call_waits_for_whichever_returns_first() -> None:
    async with pair(MCP_RESTART_GRACE=5) as both:
        a, b = both.servers
        with b.away():
            a.refuse()
            a.drop()

            asked = asyncio.get_running_loop().create_task(both.ask(Sent("n", WRITE)))
            presences = [target.presence for target in both.front.sidecar.targets]
            while {one.state for one in presences} != {State.RESTARTING}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # noqa: TID251 - nothing tells of it
            b.accept()
            assert (await asked).fate is Fate.DONE
        assert both.arrived == [0, 1]
        assert both.wrong() == []


async def test_with_all_servers_lost_callers_are_told_at_once() -> None:
    urls = ",".join(f"http://localhost:{unused_port()}" for _ in range(2))
    async with sidecar(urls) as front:
        sent = Sent("n", WRITE)
        seen = see(sent, await front.ask(sent.rest()))
        assert seen.fate is Fate.NOT_DELIVERED
        heard = await front.ask(get("/api/health"))
        assert (heard.status, heard.json["status"]) == (503, "unhealthy")


async def test_a_hanging_server_is_asked_no_more_than_its_circuit_allows() -> None:
    """Each try that hangs is given up, and the next goes to the other server."""
    async with pair(MCP_ATTEMPT_TIMEOUT=0.05) as both:
        both.servers[0].plays(READ, then=Hang())
        for number in range(8):
            assert (await both.ask(Sent(f"n{number}", READ))).fate is Fate.DONE
        assert both.servers[0].arrived[READ] <= 5


async def test_a_hedged_read_asks_the_other_server() -> None:
    """Issue 5: a second time of another healthy target; the first answer wins."""
    async with pair(MCP_HEDGE_DELAY=0.05) as both:
        both.servers[0].plays(READ, then=Hang())
        for number in range(4):
            assert (await both.ask(Sent(f"n{number}", READ))).fate is Fate.DONE
        assert both.servers[0].arrived[READ] >= 1
        assert both.servers[1].arrived[READ] == 4


async def test_the_messages_of_a_legacy_stream_go_to_its_server() -> None:
    """MCP 2024-11-05: POSTs go to the path that the stream named, on the same server."""
    a, b = Wire(), Wire()
    async with AsyncExitStack() as stack:
        for one in (a, b):
            await one.start()
            stack.push_async_callback(one.stop)
        front = await stack.enter_async_context(sidecar(f"{a.url},{b.url}"))
        for one, name in ((a, "a"), (b, "b")):
            one.plays(streamed() + chunked(endpoint(f"{one.url}/messages/?session_id={name}")))
        for _ in range(2):
            await front.ask(LEGACY)
        for one in (a, b):
            one.asked.clear()
        for _ in range(3):
            await front.ask(post("/messages/?session_id=a", rpc("tools/list"), ACCEPT))
            await front.ask(post("/messages/?session_id=b", rpc("tools/list"), ACCEPT))
        assert {said.target for said in a.asked if "messages" in said.target} == {
            "/messages/?session_id=a"
        }
        assert {said.target for said in b.asked if "messages" in said.target} == {
            "/messages/?session_id=b"
        }
        assert json.loads((await front.ask(get("/api/health"))).body)["targets"]
