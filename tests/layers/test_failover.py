"""Which of several targets is asked (DESIGN section 4, Failover)."""

import asyncio
import json
from collections import Counter

import pytest

from mcp_proxy.core.call import Call, Delivery, Reply, Whole
from mcp_proxy.core.errors import (
    CircuitOpenError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.intent import LEGACY_POST, SESSION_END, STREAM
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.failover import Failover, Load, Way
from mcp_proxy.upstream.homes import Homes
from tests.fakes import (
    READ,
    WRITE,
    Feed,
    Told,
    call,
    error_of,
    reply,
    rpc,
    settle,
    spawn,
    streamed,
    tool,
    within,
)


class Server:
    """A target, and what it does when it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls, self.streams = Load(), Load()
        self.up, self.lost, self.weight = True, False, 1.0
        self.sessions: set[str] = set()
        self.fails: ProxyError | None = None
        self.let = asyncio.Event()
        self.let.set()
        self.asked: list[Call] = []
        self.feed: Feed | None = None

    async def __call__(self, asked: Call) -> Reply:
        self.asked.append(asked)
        await self.let.wait()
        if self.fails is not None:
            raise self.fails
        session = asked.headers.get("Mcp-Session-Id")
        if asked.message.method == "initialize":
            self.sessions.add(f"of-{self.name}")
            return reply(Mcp_Session_Id=f"of-{self.name}")
        if session is not None and session not in self.sessions:
            return reply(404, verdict=Verdict.CLIENT_FAULT)
        return streamed(self.feed) if self.feed else reply(body=self.name.encode())


class Bench:
    """A Failover over targets `a`, `b`, …"""

    def __init__(self, number: int = 2) -> None:
        self.servers = [Server(name) for name in "abcdef"[:number]]
        self.homes = Homes()
        self.told = Told()
        self.failover = self.another()

    def another(self) -> Failover:
        """Return a second end of the same kind, as each stack has one."""
        return Failover([Way(one, one) for one in self.servers], self.homes, self.told)

    async def ask(self, asked: Call | None = None) -> str:
        """Return who answered."""
        answered = await within(self.failover(asked or read()))
        assert isinstance(answered.body, Whole)
        return answered.body.data.decode() if answered.status == 200 else str(answered.status)

    async def fail(self, asked: Call | None = None) -> ProxyError:
        with pytest.raises(ProxyError) as raised:
            await within(self.failover(asked or read()))
        return raised.value


def read(**more: object) -> Call:
    return call(READ, tool())._replace(tried=[], **more)


def write() -> Call:
    return call(WRITE, tool())._replace(tried=[])


def within_session(session: str, asked: Call | None = None) -> Call:
    asked = asked or write()
    return asked._replace(headers=call(headers={"Mcp-Session-Id": session}).headers)


def refused(*, bridged: bool = True) -> UpstreamUnreachableError:
    error = UpstreamUnreachableError("Nobody there.")
    error.refused, error.bridged = True, bridged
    return error


# --- by load


async def test_equals_take_turns() -> None:
    bench = Bench(3)
    assert Counter([await bench.ask() for _ in range(30)]) == {"a": 10, "b": 10, "c": 10}


async def test_the_one_with_least_to_do_is_asked() -> None:
    bench = Bench()
    a, b = bench.servers
    a.let.clear()
    held = [spawn(bench.failover(read()), "held") for _ in range(2)]
    await settle()
    assert (a.calls.under_way, b.calls.under_way) == (1, 0), "and b has answered"
    assert [await bench.ask() for _ in range(5)] == ["b"] * 5
    a.let.set()
    await within(asyncio.gather(*held))
    assert (a.calls.under_way, b.calls.under_way) == (0, 0)


async def test_an_answer_that_still_streams_is_something_to_do() -> None:
    bench = Bench()
    a, _ = bench.servers
    a.feed = Feed()
    while not a.asked:
        flowing = await within(bench.failover(read()))
    assert a.calls.under_way == 1
    assert await bench.ask() == "b"
    assert flowing.body is a.feed.body
    await a.feed.body.aclose()
    assert a.calls.under_way == 0


async def test_a_call_that_fails_or_leaves_is_over() -> None:
    bench = Bench(2)
    for one in bench.servers:
        one.fails = error_of(UpstreamBrokenError)
    await bench.fail()
    bench.servers[0].let.clear()
    bench.servers[1].let.clear()
    leaving = spawn(bench.failover(read()), "leaving")
    await settle()
    leaving.cancel()
    await settle()
    assert [one.calls.under_way for one in bench.servers] == [0, 0]


async def test_streams_are_spread_by_their_own_number() -> None:
    """Thousands of idle streams are nothing to do for calls."""
    bench = Bench()
    for one in bench.servers:
        one.feed = Feed()
    for _ in range(10):
        await within(bench.failover(call(STREAM)._replace(method="GET")))
    assert [one.streams.under_way for one in bench.servers] == [5, 5]
    assert [one.calls.under_way for one in bench.servers] == [0, 0]


async def test_one_that_has_just_returned_gets_a_share() -> None:
    """Issue 5, slow start: a tenth of the load at first."""
    bench = Bench()
    a, b = bench.servers
    b.weight = 0.1
    for one in bench.servers:
        one.let.clear()
    held = [spawn(bench.failover(read()), "held") for _ in range(22)]
    await settle()
    assert (a.calls.under_way, b.calls.under_way) == (20, 2)
    for one in bench.servers:
        one.let.set()
    await within(asyncio.gather(*held))


# --- ejection and return


@pytest.mark.parametrize("asked", [read, write])
async def test_one_that_is_not_up_is_not_asked(asked: object) -> None:
    bench = Bench()
    bench.servers[0].up = False
    assert callable(asked)
    assert {await bench.ask(asked()) for _ in range(10)} == {"b"}
    bench.servers[0].up = True
    assert {await bench.ask(asked()) for _ in range(10)} == {"a", "b"}


async def test_where_none_is_up_all_are_tried() -> None:
    """What is thought of them may be wrong, and nothing is lost."""
    bench = Bench()
    for one in bench.servers:
        one.up = False
    bench.servers[0].fails = refused()
    assert {await bench.ask() for _ in range(4)} == {"b"}


# --- moving on


@pytest.mark.parametrize("asked", [read, write])
@pytest.mark.parametrize("failure", [refused(), refused(bridged=False), CircuitOpenError("Open.")])
async def test_what_was_not_delivered_goes_to_the_next_at_once(
    asked: object, failure: ProxyError
) -> None:
    """Writes too, and no retry is spent."""
    bench = Bench(3)
    bench.servers[0].fails = bench.servers[1].fails = failure
    assert callable(asked)
    assert {await bench.ask(asked()) for _ in range(6)} == {"c"}
    assert failure.__traceback__ is None, "it holds the frame that holds it"


async def test_a_move_is_told_and_an_open_circuit_is_not_told_again_and_again() -> None:
    bench = Bench()
    a, _ = bench.servers
    a.fails = refused()
    while not a.asked:
        await bench.ask()
    [(event, level, fields)] = bench.told.events
    assert (event, level, fields["wait_ms"], fields["target"]) == (
        "retry.scheduled",
        "info",
        0,
        "a",
    )
    a.fails = CircuitOpenError("Open.")
    for _ in range(4):
        await bench.ask()
    assert len(bench.told.events) == 1


@pytest.mark.parametrize("kind", [UpstreamBrokenError, UpstreamTimeoutError])
async def test_what_may_have_been_delivered_goes_back_to_retry(kind: type[ProxyError]) -> None:
    """It decides whether the call may be repeated; the next try goes elsewhere."""
    bench = Bench()
    for one in bench.servers:
        one.fails = error_of(kind, delivered=Delivery.UNKNOWN)
    asked = read()
    await bench.fail(asked)
    assert sum(len(one.asked) for one in bench.servers) == 1
    await bench.fail(asked)
    assert [len(one.asked) for one in bench.servers] == [1, 1]
    await bench.fail(asked)
    await bench.fail(asked)
    assert [len(one.asked) for one in bench.servers] == [2, 2], "then in turns"


async def test_a_call_that_nobody_follows_need_not_remember_its_tries() -> None:
    assert await Bench().ask(call(READ, tool())) in {"a", "b"}


async def test_a_body_that_is_gone_is_not_sent_to_the_next() -> None:
    bench = Bench()
    for one in bench.servers:
        one.fails = refused()
    await bench.fail(call(WRITE)._replace(body=Feed().body))
    assert sum(len(one.asked) for one in bench.servers) == 1


async def test_an_open_circuit_has_not_read_the_body() -> None:
    bench = Bench()
    bench.servers[0].fails = CircuitOpenError("Open.")
    asked = call(WRITE)
    for _ in range(2):
        assert await bench.ask(asked._replace(body=Feed().body)) == "b"


@pytest.mark.parametrize(
    ("failures", "kind", "target"),
    [
        ([refused(), refused()], UpstreamUnreachableError, ""),
        ([refused(), refused(bridged=False)], UpstreamUnreachableError, "a"),
        ([refused(), CircuitOpenError("Open.")], UpstreamUnreachableError, "a"),
        ([refused(bridged=False), CircuitOpenError("Open.")], UpstreamUnreachableError, ""),
        ([CircuitOpenError("Open."), CircuitOpenError("Open.")], CircuitOpenError, None),
    ],
)
async def test_the_error_that_is_left_says_for_whom_to_wait(
    failures: list[ProxyError], kind: type[ProxyError], target: str | None
) -> None:
    """For any of them, only if all are restarting: another one that is there would end the waiting at once."""
    bench = Bench()
    for one, failure in zip(bench.servers, failures, strict=True):
        one.fails = failure
    for _ in range(2):  # whoever comes first
        error = await bench.fail()
        assert type(error) is kind
        assert getattr(error, "target", None) == target


# --- sessions


async def opened(bench: Bench) -> tuple[Server, Server]:
    """Open a session; return where it lives, and the other one."""
    await within(bench.failover(call(WRITE, rpc("initialize"))))
    a, b = bench.servers
    home, other = (a, b) if a.sessions else (b, a)
    for one in bench.servers:
        one.asked.clear()
    return home, other


async def test_a_session_stays_where_it_was_opened() -> None:
    """DESIGN section 4: handshake-era sessions stick to theirs."""
    bench = Bench()
    home, other = await opened(bench)
    home.let.clear()
    held = [spawn(bench.another()(within_session(f"of-{home.name}")), "held") for _ in range(10)]
    await settle()
    assert home.calls.under_way == 10, "however much there is to do"
    home.let.set()
    assert {answered.status for answered in await within(asyncio.gather(*held))} == {200}
    assert other.asked == []


async def test_a_session_stays_with_a_target_that_is_only_unhealthy() -> None:
    bench = Bench()
    home, _ = await opened(bench)
    home.up = False
    assert await bench.ask(within_session(f"of-{home.name}")) == home.name


async def test_a_session_whose_target_refuses_waits_for_that_one() -> None:
    bench = Bench()
    home, other = await opened(bench)
    home.fails = refused()
    error = await bench.fail(within_session(f"of-{home.name}"))
    assert isinstance(error, UpstreamUnreachableError)
    assert error.target == home.name
    assert other.asked == []


async def test_a_session_whose_target_is_lost_hears_a_404_of_another() -> None:
    """Then its client begins anew (MCP 2025-11-25, transports), where recovery could not move it."""
    bench = Bench()
    home, other = await opened(bench)
    home.up, home.lost = False, True
    home.fails = CircuitOpenError("Open.")
    assert await bench.ask(within_session(f"of-{home.name}")) == "404"
    other.up = False
    bench.homes.keep("of-x", home.name)
    assert isinstance(await bench.fail(within_session("of-x")), CircuitOpenError)


async def test_a_session_that_is_over_is_forgotten() -> None:
    bench = Bench()
    home, _ = await opened(bench)
    end = within_session(f"of-{home.name}", call(SESSION_END)._replace(method="DELETE"))
    home.fails = error_of(UpstreamBrokenError)
    await bench.fail(end)
    assert len(bench.homes) == 1
    home.fails = None
    assert await bench.ask(end) == home.name
    assert len(bench.homes) == 0


@pytest.mark.parametrize("streams", [False, True])
async def test_a_session_that_we_did_not_see_open_is_looked_for(*, streams: bool) -> None:
    """A sidecar that was restarted, or one of several, knows no homes; a ping harms nobody."""
    bench = Bench(4)
    *others, home = bench.servers
    others[1].fails = refused()
    home.sessions.add("s")
    if streams:
        home.feed = Feed()
    answered = await within(bench.failover(within_session("s")))
    assert answered.status == 200
    assert (home.feed is None) or home.feed.released
    said = [(one.name, one.asked) for one in bench.servers]
    sent = {name: [json.loads(asked.body.data) for asked in calls] for name, calls in said}  # type: ignore[union-attr]
    assert sent.pop("d")[-1] == {}, "the call itself, to its home only"
    assert all(one["method"] == "ping" for calls in sent.values() for one in calls)
    home.feed = None
    assert await bench.ask(within_session("s")) == "d"
    assert sum(len(one.asked) for one in others) <= 3, "looked for once"


async def test_a_session_that_nobody_knows_gets_the_404_of_one() -> None:
    bench = Bench()
    assert await bench.ask(within_session("gone")) == "404"


@pytest.mark.parametrize(
    "asked",
    [
        within_session("s", call(WRITE, rpc()._replace(stateless=True))),
        within_session("s", call(WRITE)._replace(body=Feed().body)),
    ],
    ids=["stateless", "streamed"],
)
async def test_what_has_no_session_or_cannot_wait_is_not_looked_for(asked: Call) -> None:
    bench = Bench()
    await within(bench.failover(asked))
    assert sum(len(one.asked) for one in bench.servers) == 1


async def test_the_messages_of_a_legacy_stream_go_where_it_flows() -> None:
    """MCP 2024-11-05: the endpoint event says where they go."""
    bench = Bench()
    bench.homes.keep("/messages/?session_id=7", "b")
    post = call(LEGACY_POST, target="/messages/?session_id=7")
    assert {await bench.ask(post) for _ in range(6)} == {"b"}
    elsewhere = call(READ, tool(), target="/messages/?session_id=7")
    assert {await bench.ask(elsewhere) for _ in range(6)} == {"a", "b"}
