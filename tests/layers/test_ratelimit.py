"""Fairness between clients and tools: who may come how often, and what everybody is told of it."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from multidict import CIMultiDict, CIMultiDictProxy

from mcp_proxy.core.call import Call, Peer, RawHeaders, Reply, Stream, Whole
from mcp_proxy.core.errors import ProxyError, RateLimitedError, UpstreamTimeoutError
from mcp_proxy.core.intent import LEGACY_POST, OPAQUE, RESPONSE, SESSION_END, STREAM, Intent
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.message import NOTHING, Dialect, Message
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.clock import SystemClock
from mcp_proxy.layers.eager import Begun
from mcp_proxy.layers.ratelimit import KEYS, Counters, RateLimit, Rates, in_redis
from mcp_proxy.layers.rescue import Rescue, Style
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import connections, prefix
from tests.fakes import (
    KEPT,
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    reply,
    rest_tool,
    rpc,
    settle,
    spawn,
    streamed,
    tool,
    within,
)
from tests.stores.conftest import Server

ANN = {"Authorization": "Bearer ann"}
BOB = {"Authorization": "Bearer bob"}


def asked(
    message: Message = NOTHING,
    headers: dict[str, str] | None = None,
    *,
    address: str = "192.0.2.1",
    intent: Intent = WRITE,
) -> Call:
    return call(intent, message, headers=headers)._replace(peer=Peer(address))


class Bench:
    """A RateLimit; time is at the beginning of a minute."""

    def __init__(
        self,
        client: str | None = None,
        tool: str | None = None,
        client_tool: str | None = None,
        **named: Any,
    ) -> None:
        self.clock = FakeClock()
        self.clock._now = 1200.0
        self.told = Told()
        self.layer = RateLimit(Rates(client, tool, client_tool), self.clock, self.told, **named)

    async def ask(self, asking: Call, *lines: Reply | BaseException) -> Reply:
        return await within(self.layer(asking, Script(*lines or (reply(),))))

    async def passed(self, asking: Call, times: int) -> int:
        """Return how many of so many calls passed."""
        passed = 0
        for _ in range(times):
            try:
                await self.ask(asking)
            except RateLimitedError:
                continue
            passed += 1
        return passed

    async def refusal(self, asking: Call) -> RateLimitedError:
        with pytest.raises(RateLimitedError) as raised:
            await self.ask(asking)
        return raised.value


# --- who is counted together


async def test_each_client_has_its_own_count_whatever_it_calls() -> None:
    """Issue 5, item 8: MCP_RATE_LIMIT_CLIENT."""
    bench = Bench(client="3/minute")
    assert await bench.passed(asked(tool("a"), ANN), 2) == 2
    assert await bench.passed(asked(rpc("tools/list"), ANN), 2) == 1
    assert await bench.passed(asked(rest_tool("b"), ANN), 1) == 0
    assert await bench.passed(asked(tool("a"), BOB), 4) == 3


async def test_each_tool_has_its_own_count_whoever_calls() -> None:
    """MCP_RATE_LIMIT_TOOL."""
    bench = Bench(tool="3/minute")
    assert await bench.passed(asked(tool("a"), ANN), 2) == 2
    assert await bench.passed(asked(tool("a"), BOB), 2) == 1
    assert await bench.passed(asked(tool("b"), ANN), 4) == 3
    assert await bench.passed(asked(rest_tool("a", "jira"), ANN), 4) == 3
    assert await bench.passed(asked(rest_tool("a", "crm"), ANN), 4) == 3
    # what is no tool call has no tool to be counted under
    assert await bench.passed(asked(rpc("tools/list"), ANN), 9) == 9


async def test_each_pair_of_client_and_tool_has_its_own_count() -> None:
    """MCP_RATE_LIMIT_CLIENT_TOOL."""
    bench = Bench(client_tool="2/minute")
    for name in "ab":
        for who in (ANN, BOB):
            assert await bench.passed(asked(tool(name), who), 3) == 2
    assert await bench.passed(asked(rpc(), ANN), 9) == 9


async def test_names_do_not_run_into_one_another() -> None:
    bench = Bench(tool="1/minute")
    pairs = [("a", "b/c"), ("a/b", "c"), ("", "a/b/c"), ("a', 'b", "c"), ("a", "b', 'c")]
    for service, name in pairs:
        assert await bench.passed(asked(rest_tool(name, service)), 2) == 1


async def test_a_rule_says_it_for_each_of_its_tools() -> None:
    """`[tools."…"] rate_limit`: in the place of MCP_RATE_LIMIT_TOOL."""
    bench = Bench(tool="1/minute")
    ruled = replace(WRITE, rate_limit="3/hour")
    assert await bench.passed(asked(tool("a"), intent=ruled), 5) == 3
    assert await bench.passed(asked(tool("b"), intent=ruled), 5) == 3
    assert await bench.passed(asked(tool("c")), 5) == 1
    assert (await bench.refusal(asked(tool("a"), intent=ruled))).headers["RateLimit-Policy"] == (
        '"tool";q=3;w=3600'
    )
    # a rule alone is a limit, too
    assert await Bench().passed(asked(tool("a"), intent=ruled), 5) == 3


async def test_without_credentials_a_client_is_its_address() -> None:
    """What proxies that are trusted say of it (core/peers)."""
    bench = Bench(client="2/minute")
    assert await bench.passed(asked(address="192.0.2.1"), 3) == 2
    assert await bench.passed(asked(address="192.0.2.2"), 3) == 2
    assert await bench.passed(asked(address="2001:db8::1"), 1) == 1
    assert await bench.passed(asked(address="2001:db8::2"), 2) == 1
    # one who says who it is has its own count, from wherever
    assert await bench.passed(asked(headers=ANN, address="192.0.2.1"), 1) == 1
    assert await bench.passed(asked(headers=ANN, address="192.0.2.9"), 2) == 1


async def test_no_header_that_is_no_credential_gives_a_client_another_count() -> None:
    bench = Bench(client="2/minute")
    passed = 0
    for number in range(9):
        varied = {**ANN, "X-Trace": f"{number}", "Mcp-Session-Id": f"{number}"}
        passed += await bench.passed(asked(headers=varied), 1)
    assert passed == 2


async def test_who_asks_is_worked_out_once_for_the_same_small_head() -> None:
    """And for large ones each time: what callers say must not fill the memory (F46)."""
    bench = Bench(client="2/minute")
    small: RawHeaders = ((b"Authorization", b"Bearer ann"),)
    large = (*small, (b"X", b"x" * 5000))
    for raw in (small, small, large, large):
        asking = asked(headers=ANN)._replace(raw=raw)
        await bench.passed(asking, 1)
    assert list(bench.layer._met) == [(small, "192.0.2.1")]
    assert await bench.passed(asked(address="192.0.2.2")._replace(raw=small), 1) == 1
    assert await bench.passed(asked(headers=ANN), 1) == 0


# --- what is not counted


@pytest.mark.parametrize(
    "free",
    [
        asked(rpc("notifications/cancelled", None)),
        asked(rpc("notifications/initialized", None)),
        asked(rpc("ping")),
        asked(rpc("tasks/cancel")),
        asked(intent=RESPONSE),
        asked(intent=SESSION_END),
    ],
)
async def test_what_answers_or_ends_something_is_never_refused(free: Call) -> None:
    """Refused, it would leave a call open that only this client can end."""
    bench, answer = Bench("1/minute", "1/minute", "1/minute"), reply()
    for _ in range(3):
        assert await bench.ask(free, answer) is answer
    assert await bench.passed(asked(), 2) == 1


@pytest.mark.parametrize(
    "counted",
    [
        asked(rpc("initialize")),
        asked(tool(request_id=None)),
        asked(Message(Dialect.RPC, "tools/call", 1)),
        asked(Message(Dialect.REST), intent=OPAQUE),
        asked(intent=STREAM),
        asked(intent=LEGACY_POST),
        asked(intent=OPAQUE),
    ],
)
async def test_everything_else_is(counted: Call) -> None:
    """A tool call without an id is no notification that anybody sends."""
    assert await Bench("1/minute").passed(counted, 3) == 1


async def test_a_call_under_no_limit_is_left_alone() -> None:
    answer = reply()
    assert await Bench(tool="1/minute").ask(asked(rpc("tools/list")), answer) is answer


# --- refusals


async def test_a_refused_call_is_told_when_to_come_again() -> None:
    """429 before any work is done: not delivered, and so retryable."""
    bench, origin = Bench(client="2/minute"), Script(reply())
    for _ in range(2):
        await within(bench.layer(asked(tool(), ANN), origin))
    await bench.clock.advance(45)
    with pytest.raises(RateLimitedError, match=r"limit of 2/minute for this client") as raised:
        await within(bench.layer(asked(tool(), ANN), origin))
    assert len(origin.calls) == 2
    # at the end of the window they begin to slide out of sight
    assert raised.value.retry_after == pytest.approx(15.001)
    assert raised.value.headers == {
        "RateLimit-Policy": '"client";q=2;w=60',
        "RateLimit": '"client";r=0;t=16',
    }
    assert bench.told.events == [
        (
            "ratelimit.rejected",
            "warning",
            {
                "request_id": "request-1",
                "service": "",
                "tool": "look",
                "limit": "client 2/minute",
                "retry_after_ms": 15_001,
            },
        )
    ]


@pytest.mark.parametrize("per", ["second", "minute", "hour"])
async def test_whoever_obeys_gets_through_and_whoever_does_not_does_not(per: str) -> None:
    """RFC 9110 section 10.2.3; the count slides, so that nobody gets twice as much at a border."""
    bench = Bench(client=f"7/{per}")
    asking = asked()
    await bench.passed(asking, 7)
    for _ in range(20):
        refused = await bench.refusal(asking)
        assert refused.retry_after is not None
        await bench.clock.advance(refused.retry_after - 0.002)
        await bench.refusal(asking)
        await bench.clock.advance(0.002)
        assert await bench.passed(asking, 1) == 1


async def test_a_client_gets_what_it_may_and_no_more_in_the_long_run() -> None:
    bench, passed = Bench(client="10/minute"), 0
    for _ in range(600):
        passed += await bench.passed(asked(), 1)
        await bench.clock.advance(1.0)
    assert 90 <= passed <= 110


async def test_after_a_long_silence_all_is_there_again() -> None:
    bench = Bench(client="5/minute")
    assert await bench.passed(asked(), 6) == 5
    await bench.clock.advance(120)
    assert await bench.passed(asked(), 6) == 5


async def test_a_call_that_is_refused_by_one_limit_costs_nothing_of_the_others() -> None:
    """Or a client that is refused could use up what all others have of a tool."""
    bench = Bench(client="9/minute", tool="3/minute", client_tool="2/minute")
    assert await bench.passed(asked(tool("a"), ANN), 50) == 2
    assert await bench.passed(asked(tool("a"), BOB), 50) == 1
    assert await bench.passed(asked(tool("b"), ANN), 50) == 2
    assert await bench.passed(asked(rpc(), ANN), 50) == 5


async def test_of_several_limits_the_longest_is_told() -> None:
    """Before its time the call would only be refused again."""
    bench = Bench(client="1/hour", tool="1/second", client_tool="1/minute")
    await bench.passed(asked(tool()), 1)
    refused = await bench.refusal(asked(tool()))
    assert refused.retry_after == pytest.approx(2400.001)
    assert bench.told.events[-1][2]["limit"] == "client 1/hour"
    await bench.clock.advance(3)
    refused = await bench.refusal(asked(tool()))
    assert refused.headers["RateLimit"] == (
        '"client";r=0;t=2398, "client-tool";r=0;t=58, "tool";r=1;t=2'
    )


# --- what answers bear


async def test_a_limited_answer_says_how_much_is_left() -> None:
    """draft-ietf-httpapi-ratelimit-headers-10: `t` is when there is more."""
    bench = Bench(client="100/minute", tool="10/second")
    await bench.clock.advance(20)
    answer = await bench.ask(asked(tool()), reply(X_Old="kept"))
    assert dict(answer.headers) == {
        "X-Old": "kept",
        "RateLimit-Policy": '"client";q=100;w=60, "tool";q=10;w=1',
        "RateLimit": '"client";r=99;t=41, "tool";r=9;t=2',
    }


async def test_what_the_server_says_of_its_own_limits_stays() -> None:
    """Both fields are lists, which may come in several lines (RFC 9651 section 4.2)."""
    theirs = reply(RateLimit='"day";r=1;t=5')
    answer = await Bench(client="3/minute").ask(asked(), theirs)
    assert answer.headers.getall("RateLimit") == ['"day";r=1;t=5', '"client";r=2;t=61']
    assert theirs.headers.getall("RateLimit") == ['"day";r=1;t=5']


async def test_headers_that_are_spelled_already_are_spelled_with_ours() -> None:
    """A stored answer's headers are shared by all who get it, and cannot be changed."""
    shared = CIMultiDictProxy(CIMultiDict({"X-Old": "kept"}))
    stored = reply()._replace(headers=shared, lines="X-Old: kept\r\n")
    answer = await Bench(client="3/minute").ask(asked(), stored)
    assert answer.lines == (
        'X-Old: kept\r\nRateLimit-Policy: "client";q=3;w=60\r\nRateLimit: "client";r=2;t=61\r\n'
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    assert lines == answer.lines
    assert dict(shared) == {"X-Old": "kept"}


async def test_a_stored_answer_holds_nobodys_share() -> None:
    """The layer stands outside the cache: each hit bears what its own caller has left."""
    bench = Bench(client="9/minute")
    shelf = MemoryShelf(10, 1 << 20, bench.clock.now, bench.clock.epoch)
    cache = Cache(shelf, Keyring("old"), bench.clock, spawn, 1 << 20)
    body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    origin = Script(reply(body=body, Content_Type="application/json"))

    async def ask() -> Reply:
        asking = asked(tool(), ANN, intent=KEPT)
        return await within(bench.layer(asking, lambda on: cache(on, origin)))

    answers = [await ask() for _ in range(3)]
    assert len(origin.calls) == 1
    assert [answer.headers.getall("RateLimit") for answer in answers] == [
        ['"client";r=8;t=61'],
        ['"client";r=7;t=61'],
        ['"client";r=6;t=61'],
    ]
    (frame,) = (value for _, value, _ in shelf._memory._kept.values())
    assert b"content-type" in frame.lower()
    assert b"ratelimit" not in frame.lower()


async def test_a_streamed_answer_says_it_in_its_head() -> None:
    feed = Feed()
    answer = await Bench(client="3/minute").ask(asked(tool()), streamed(feed))
    assert answer.headers["RateLimit"] == '"client";r=2;t=61'
    assert isinstance(answer.body, Stream)
    await answer.body.aclose()
    assert feed.released == 1


async def test_a_call_that_passed_and_failed_says_it_too() -> None:
    bench = Bench(client="3/minute")
    with pytest.raises(UpstreamTimeoutError) as raised:
        await bench.ask(asked(), error_of(UpstreamTimeoutError))
    assert raised.value.headers["RateLimit"] == '"client";r=2;t=61'


@pytest.mark.parametrize(
    ("message", "always_200", "status"),
    [
        (tool(), False, 200),
        (rpc("tools/list"), False, 200),
        (rpc("server/discover"), False, 503),
        (rest_tool(), False, 429),
        (rest_tool(), True, 200),
        (NOTHING, False, 429),
    ],
)
async def test_a_refusal_is_told_in_every_dialect(
    message: Message, always_200: bool, status: int
) -> None:
    """DESIGN section 5: `Retry-After`, and one object; the headers of the limit go with them."""
    bench = Bench(client="1/minute")
    rescue = Rescue(Style(always_200=always_200), bench.clock, bench.told)
    await bench.passed(asked(message), 1)
    await bench.clock.advance(29.5)
    answer = await within(
        rescue(asked(message), lambda on: bench.layer(on, Script(error_of(ProxyError))))
    )
    assert (answer.status, answer.error_code) == (status, "rate_limited")
    assert answer.headers["Retry-After"] == "31"
    assert answer.headers["RateLimit"] == '"client";r=0;t=31'
    assert answer.headers["RateLimit-Policy"] == '"client";q=1;w=60'
    assert isinstance(answer.body, Whole)
    assert b'"code":"rate_limited"' in answer.body.data
    assert b'"retryable":true,"retry_after_ms":30501' in answer.body.data
    assert b'"delivered":"no"' in answer.body.data


async def test_no_credential_is_told_or_kept() -> None:
    bench = Bench("1/minute", "1/minute", "1/minute")
    asking = asked(tool(), {"Authorization": "Bearer s3cret", "Cookie": "sid=s3cret"})
    await bench.passed(asking, 2)
    assert bench.layer._client is not None
    kept = [*bench.layer._client.own._counts, *map(str, bench.layer._met.values())]
    assert "s3cret" not in f"{bench.told.events}{kept}"


# --- memory


async def test_a_call_under_a_memory_limit_never_pauses() -> None:
    """edge/express answers in one step, and gives up on a road that waits."""
    bench = Bench("2/minute", "2/minute", "2/minute")
    assert not bench.layer.waits
    for _ in range(2):
        assert Begun(bench.layer(asked(tool()), Script(reply()))).result is not None
    with pytest.raises(RateLimitedError):
        Begun(bench.layer(asked(tool()), Script(reply())))
    assert asyncio.all_tasks() == {asyncio.current_task()}  # the package sweeps in one


async def test_whoever_comes_beyond_the_bound_shares_one_count() -> None:
    """F46: callers make up tokens; ten times the bound leave no more than it."""
    bench = Bench(client="2/minute", keys=100)
    assert await bench.passed(asked(headers=ANN), 1) == 1
    passed = 0
    for number in range(1000):
        made_up = asked(headers={"Authorization": f"Bearer {number}"})
        passed += await bench.passed(made_up, 1)
    assert passed == 99 + 2
    assert bench.layer._client is not None
    assert len(bench.layer._client.own._counts) == 101
    # those who were there keep their own
    assert await bench.passed(asked(headers=ANN), 2) == 1


def test_places_are_bounded_and_come_free_after_two_windows() -> None:
    """What is older counts no more; one that comes again in time keeps its place."""
    clock = FakeClock()
    clock._now = 1200.0
    counters = Counters(clock.now, 60, KEYS)
    assert sum(counters.has_place(f"{number}") for number in range(10 * KEYS)) == KEYS
    clock._now += 60
    assert not counters.has_place("new")
    assert counters.has_place("7")
    clock._now += 60
    assert counters.has_place("new")
    assert set(counters._counts) == {"7", "new"}
    clock._now += 120
    assert counters.has_place("newer")
    assert set(counters._counts) == {"newer"}


async def test_the_packages_own_strategy_can_count_here() -> None:
    """A storage of `limits`, which says by itself when it is enough."""
    clock = FakeClock()
    counting = SlidingWindowCounterRateLimiter(Counters(clock.now, 60, KEYS))
    three = RateLimitItemPerMinute(3)
    assert [await counting.hit(three, "a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert [await counting.hit(three, "b", cost=2) for _ in range(2)] == [True, False]
    assert (await counting.get_window_stats(three, "b")).remaining == 1
    clock._now += 60
    assert await counting.test(three, "a")


# --- Redis


class Remote(Counters):
    """A count somewhere else, whose trouble the test decides."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock.now, 60, KEYS)
        self.clock = clock
        self.asked = 0
        self.trouble: BaseException | None = None
        self.takes = 0.0  # seconds
        self.taken = False  # by somebody else, between look and take

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        if self.takes:
            await self.clock.sleep(self.takes)
        return await super().get_sliding_window(key, expiry)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        if self.taken:
            return False
        return await super().acquire_sliding_window_entry(key, limit, expiry, amount)


class Together(Bench):
    """Sidecars that count in one place."""

    def __init__(self, rate: str = "4/minute") -> None:
        super().__init__(client=rate)
        self.remote = Remote(self.clock)
        self.layer, self.other = (self.sidecar(rate) for _ in range(2))

    def sidecar(self, rate: str) -> RateLimit:
        return RateLimit(Rates(client=rate), self.clock, self.told, shared=self.remote)


async def test_sidecars_that_share_a_count_share_the_limit() -> None:
    bench = Together()
    assert bench.layer.waits
    assert await bench.passed(asked(), 3) == 3
    bench.layer = bench.other
    assert await bench.passed(asked(), 3) == 1
    assert bench.told.names() == ["ratelimit.rejected"] * 2


async def test_a_shared_count_that_is_in_trouble_leaves_each_its_own() -> None:
    """F24: it fails open to memory, says so once, and is left alone for a second."""
    bench = Together()
    assert await bench.passed(asked(), 4) == 4
    bench.remote.trouble = StorageError(ConnectionError("gone"))
    before = bench.remote.asked
    assert await bench.passed(asked(), 5) == 4
    assert bench.remote.asked == before + 1
    await bench.clock.advance(1)
    assert await bench.passed(asked(), 1) == 0
    assert bench.remote.asked == before + 2
    bench.remote.trouble = None
    await bench.clock.advance(1)
    assert await bench.passed(asked(address="192.0.2.2"), 2) == 2
    changes = [fields for event, _, fields in bench.told.events if event == "store.state_changed"]
    assert [(change["after"], change["reason"]) for change in changes] == [
        ("down", "ConnectionError"),
        ("up", None),
    ]
    assert [level for event, level, _ in bench.told.events if event == "store.state_changed"] == [
        "error",
        "info",
    ]


async def test_a_shared_count_that_is_slow_costs_50_ms_and_no_more() -> None:
    """One deadline for all that is asked, and not again within a second."""
    bench = Together()
    bench.remote.takes = 0.02  # to look, and again to take
    asking = spawn(bench.ask(asked()), "call")
    await bench.clock.advance(0.039)
    assert not asking.done()
    await bench.clock.advance(0.001)
    assert asking.done()
    assert bench.told.events == []
    bench.remote.takes = 0.03
    asking = spawn(bench.ask(asked()), "call")
    await bench.clock.advance(0.049)
    assert not asking.done()
    await bench.clock.advance(0.001)
    assert asking.done()
    assert bench.told.events[0][2]["reason"] == "TimeoutError"
    assert Begun(bench.layer(asked(), Script(reply()))).result is not None


async def test_a_departure_is_no_trouble_with_redis() -> None:
    bench = Together()
    bench.remote.takes = 10
    asking = spawn(bench.ask(asked()), "call")
    await settle()
    asking.cancel()
    await settle()
    assert asking.cancelled()
    assert bench.told.events == []


async def test_who_finds_the_last_one_taken_meanwhile_is_refused() -> None:
    """Between looking and taking, another sidecar may be quicker."""
    bench = Together()
    bench.remote.taken = True
    refused = await bench.refusal(asked())
    assert refused.headers["RateLimit"] == '"client";r=0;t=61'


async def test_a_redis_that_is_not_there_costs_nobody_a_call() -> None:
    pool, told = connections("redis://127.0.0.1:1"), Told()
    shared = in_redis(pool, prefix("old"))
    bench = Bench()
    bench.layer = RateLimit(Rates(client="2/minute"), bench.clock, told, shared=shared)
    assert await bench.passed(asked(), 3) == 2
    assert [fields["after"] for _, _, fields in told.events[:1]] == ["down"]
    await pool.aclose()


@pytest.fixture
def redis_server() -> Iterator[Server]:
    running = Server()
    running.start()
    yield running
    running.stop()


class InRedis:
    """Sidecars on a real Redis; more patient than they are, for the machine may be busy."""

    def __init__(self, server: Server) -> None:
        self.told = Told()
        self.server = server
        self.pool = connections(server.url, timeout=2.0)
        self.clock = SystemClock()

    def sidecar(self, upstream: str = "old", **rates: str) -> Bench:
        bench = Bench()
        bench.told = self.told
        # its time stands still: no deadline is ever over
        bench.layer = RateLimit(
            Rates(**rates), FakeClock(), self.told, shared=in_redis(self.pool, prefix(upstream))
        )
        return bench


@pytest.fixture
async def in_a_redis(redis_server: Server) -> AsyncIterator[InRedis]:
    made = InRedis(redis_server)
    yield made
    await within(made.pool.aclose())


real = [
    pytest.mark.redis,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="redis-server is not installed"
    ),
]


class TestWithRedis:
    """Against a real one."""

    pytestmark = real

    async def test_sidecars_of_one_upstream_share_and_those_of_others_do_not(
        self, in_a_redis: InRedis
    ) -> None:
        rates = {"client": "5/hour", "tool": "3/hour", "client_tool": "2/hour"}
        one, two = in_a_redis.sidecar(**rates), in_a_redis.sidecar(**rates)
        assert await one.passed(asked(tool(), ANN), 1) == 1
        answer = await two.ask(asked(tool(), ANN))
        assert answer.headers["RateLimit-Policy"] == (
            '"client";q=5;w=3600, "client-tool";q=2;w=3600, "tool";q=3;w=3600'
        )
        assert [part.partition(";t=")[0] for part in answer.headers["RateLimit"].split(", ")] == [
            '"client";r=3',
            '"client-tool";r=0',
            '"tool";r=1',
        ]
        assert await one.passed(asked(tool(), ANN), 1) == 0
        assert await two.passed(asked(tool(), BOB), 2) == 1
        assert await in_a_redis.sidecar("other", **rates).passed(asked(tool(), ANN), 3) == 2
        assert "store.state_changed" not in in_a_redis.told.names()

    async def test_a_refusal_says_when_redis_has_room_again(self, in_a_redis: InRedis) -> None:
        bench = in_a_redis.sidecar(client="2/hour")
        answer = await bench.ask(asked())
        assert answer.headers["RateLimit"] in {'"client";r=1;t=3601', '"client";r=1;t=3600'}
        await bench.ask(asked())
        refused = await bench.refusal(asked())
        assert refused.retry_after is not None
        assert 3590 < refused.retry_after <= 3600.001

    async def test_many_at_once_get_as_many_as_there_are(self, in_a_redis: InRedis) -> None:
        """More of them than there are connections."""
        sidecars = [in_a_redis.sidecar(client="10/hour") for _ in range(2)]
        passed = await within(
            asyncio.gather(*(sidecars[turn % 2].passed(asked(), 1) for turn in range(60)))
        )
        assert sum(passed) == 10
        assert "store.state_changed" not in in_a_redis.told.names()

    async def test_keys_are_ours_show_nothing_and_have_an_end(self, in_a_redis: InRedis) -> None:
        bench = in_a_redis.sidecar(client="1/minute", tool="1/minute", client_tool="1/minute")
        await bench.passed(asked(tool("look"), {"Authorization": "Bearer s3cret"}), 2)
        with in_a_redis.server.raw() as raw:
            kept: list[bytes] = raw.keys("*")
            assert len(kept) == 3
            for key in kept:
                assert key.startswith(f"{prefix('old')}limits:".encode())
                assert b"s3cret" not in key
                assert b"look" not in key
                assert 0 < raw.pttl(key) <= 120_000

    async def test_a_redis_that_forgets_its_scripts_is_no_trouble(
        self, in_a_redis: InRedis
    ) -> None:
        bench = in_a_redis.sidecar(client="3/hour")
        assert await bench.passed(asked(), 1) == 1
        with in_a_redis.server.raw() as raw:
            raw.script_flush()
        assert await bench.passed(asked(), 3) == 2
        assert "store.state_changed" not in in_a_redis.told.names()

    async def test_a_redis_that_freezes_dies_and_returns_costs_nobody_a_call(
        self, redis_server: Server
    ) -> None:
        """F24: with the deadline as it is, in real time."""
        told, clock, pool = Told(), SystemClock(), connections(redis_server.url)
        layer = RateLimit(
            Rates(client="1000/hour"), clock, told, shared=in_redis(pool, prefix("old"))
        )

        async def ask() -> float:
            began = clock.now()
            await within(layer(asked(), Script(reply())))
            return clock.now() - began

        async def until(state: str) -> None:
            while not told.events or told.events[-1][2]["after"] != state:
                layer._asked_again = 0.0
                await ask()

        async def down() -> None:
            await within(until("down"))
            # it is left alone for the moment
            assert await ask() < 0.05

        await ask()
        redis_server.send(signal.SIGSTOP)
        await down()
        redis_server.send(signal.SIGCONT)
        await within(until("up"))
        redis_server.stop()
        await down()
        redis_server.start()
        await within(until("up"))
        await pool.aclose()
