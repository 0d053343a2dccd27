"""The kit around a sidecar: what it is made for, in small."""

import asyncio
from itertools import cycle
from pathlib import Path
from random import Random

from tests.edge.wire import GONE, Front, descriptors, sidecar
from tests.fakes import settle
from tests.kit.damage import Cut, Fails, Garbage, SaidLength, Status, WrongLength
from tests.kit.door import Greeting
from tests.kit.faults import Close, CloseAfter, CloseOnNext, Crash, Fault, Hang, Reset
from tests.kit.ledger import check
from tests.kit.recorder import Recorder
from tests.kit.scripts import EVERY_TOOL, mixed
from tests.kit.seen import Fate, Seen, see
from tests.kit.sent import Sent, connected, open_session
from tests.kit.upstream import Upstream

RULES = Path(__file__).parents[2] / "config" / "mcp_proxy.toml"
TOOLS = ("jira_create_issue", "jira_get_issue", "jira_set_status")
FAULTS: tuple[Fault, ...] = (
    Reset(),
    Reset(executed=True),
    Close(),
    Close(executed=True),
    Cut(),
    Cut(None, reset=True),
    CloseAfter(),
    CloseOnNext(),
    WrongLength(5, closes=True),
    WrongLength(-2),
    SaidLength(("3", "30")),
    Garbage(),
    Status(500, executed=True),
    Status(503, "soon"),
    Fails(),
)


async def test_as_the_door_plate_says() -> None:
    async with Upstream().running() as upstream, Recorder(upstream.port).running() as recorder:
        upstream.plays("jira_create_issue", Reset(executed=True), Status(503, retry_after=2))
        async with sidecar(recorder.url) as front:
            sent = Sent("nonce-1", "jira_create_issue", caller="Bearer ann")
            seen = see(sent, await front.ask(sent.rest()))
        assert seen.fate is Fate.UNKNOWN
        assert check(upstream.ledger, [seen]) == []
        assert upstream.arrived["jira_create_issue"] == 1
        assert recorder.violations() == []


async def test_the_kit_leaves_nothing_behind() -> None:
    """F46: so what is left after a scenario is the sidecar's."""
    before = descriptors(), len(asyncio.all_tasks())
    async with Upstream().running() as upstream, Recorder(upstream.port).running() as recorder:
        sent = Sent("n", "jira_create_issue")
        for fault in (*FAULTS, Hang(), Crash()):
            upstream.plays(sent.tool, fault)
            upstream.accept()
            async with connected(recorder.port) as client:
                await client.send(sent.rest())
                await upstream.until(lambda: upstream.arrived[sent.tool])
        upstream.greets(Greeting.SILENCE)
        upstream.accept()
        async with connected(upstream.port):
            await upstream.until(lambda: not upstream.greetings)
    await settle()
    assert (descriptors(), len(asyncio.all_tasks())) == before


async def asks(front: Front, sent: Sent, raw: bytes) -> Seen:
    """Return what a client sees; it goes through whatever becomes of its connection."""
    try:
        return see(sent, await front.ask(raw))
    except GONE:
        return see(sent, None)


async def test_a_hundred_calls_under_mixed_faults_tell_the_truth() -> None:
    """faults.md section 3: at most once, and `delivered` is never wrong."""
    async with Upstream().running() as upstream, Recorder(upstream.port).running() as recorder:
        upstream.mcp.streams = {"jira_create_issue"}
        async with sidecar(recorder.url, MCP_CONFIG_FILE=RULES) as front:
            async with front.client() as client:
                session = await open_session(client)
            upstream.plays(EVERY_TOOL, then=mixed(Random(1), 0.4, *FAULTS))
            tools = cycle(TOOLS)

            async def asks_in_turn(caller: int) -> list[Seen]:
                seen = []
                for number in range(6):
                    name = "" if number % 3 == 0 else f"Bearer {caller}"
                    sent = Sent(f"{caller}-{number}", next(tools), name)
                    raw = (sent.mcp(session), sent.rest(), sent.stateless())[number % 3]
                    seen.append(await asks(front, sent, raw))
                return seen

            upstream.greets(Greeting.CLOSE, Greeting.RESET, Greeting.RESET_UNREAD)
            per_caller = await asyncio.gather(*map(asks_in_turn, range(20)))
    seen = [one for caller in per_caller for one in caller]
    assert check(upstream.ledger, seen) == []
    assert recorder.violations() == []
    assert upstream.unreadable == 0
    assert {Fate.DONE, Fate.UNKNOWN} <= {one.fate for one in seen}
