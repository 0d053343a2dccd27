"""Answer from what we know: who gets which stored answer, and what is never kept."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import CacheNote, Call, Reply, Stream, Whole
from mcp_proxy.core.errors import (
    CircuitOpenError,
    DrainingError,
    OverloadedError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.frame import Frame, pack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.intent import OPAQUE, Keep
from mcp_proxy.core.keys import Keyring, credentials
from mcp_proxy.core.message import Message
from mcp_proxy.core.scopes import of_caller
from mcp_proxy.core.shelf import Edition
from mcp_proxy.core.traffic import Reading
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.cache import Cache
from mcp_proxy.stores.memory import MemoryShelf
from tests.fakes import (
    KEPT,
    READ,
    FakeClock,
    Feed,
    Script,
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

MISS = CacheNote(forwarded="miss")


def answer(request_id: str = "1", text: str = "x", **headers: str) -> Reply:
    body = f'{{"jsonrpc":"2.0","id":{request_id},"result":{{"text":"{text}"}}}}'
    return reply(body=body.encode(), **{"Content_Type": "application/json", **headers})


def data(told: Reply) -> bytes:
    assert isinstance(told.body, Whole)
    return told.body.data


class Shelf(MemoryShelf):
    """A shelf whose trouble the test decides."""

    known = True

    since = 0.0

    def glance(self, scopes: tuple[str, ...]) -> Edition:
        found = super().glance(scopes)
        if self.since:
            found = found._replace(since=self.since)
        return found if self.known else None  # type: ignore[return-value]


class Bench:
    """A Cache on a memory shelf."""

    def __init__(self, upstream: str = "old", shelf: Shelf | None = None) -> None:
        self.clock = FakeClock()
        self.shelf = shelf or Shelf(100, 1 << 20, self.clock.now, self.clock.epoch)
        self.cache = Cache(self.shelf, Keyring(upstream), self.clock, spawn, 1 << 20)

    async def ask(self, origin: Script, message: Message | None = None, **headers: str) -> Reply:
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        return await within(self.cache(call(KEPT, message or tool(), headers=spelled), origin))

    @property
    def entries(self) -> object:
        return self.shelf.snapshot()["entries"]


def bare(told: Reply) -> CacheNote:
    """Return how the cache took part, without the key's name."""
    assert told.cache is not None
    return told.cache._replace(key="")


# --- what was looked for in vain, and could not be had


@pytest.mark.parametrize(
    ("headers", "why"), [({}, "miss"), ({"Cache_Control": "no-cache"}, "request")]
)
async def test_a_failure_says_why_the_server_was_asked(headers: dict[str, str], why: str) -> None:
    """RFC 9211 section 2.2; docs/metrics.md: `bypass` never looks."""
    bench = Bench()
    with pytest.raises(UpstreamBrokenError) as failure:
        await bench.ask(Script(error_of(UpstreamBrokenError)), **headers)
    assert failure.value.cache == CacheNote(forwarded=why)


# --- hits


async def test_a_stored_answer_is_told_again_without_asking() -> None:
    """RFC 9211: hit, with what is left of its freshness; RFC 9111: its age."""
    bench, origin = Bench(), Script(answer())
    first = await bench.ask(origin)
    await bench.clock.advance(7.5)
    second = await bench.ask(origin)
    assert len(origin.calls) == 1
    assert bare(first) == CacheNote(forwarded="miss", stored=True, ttl=300.0)
    assert bare(second) == CacheNote(hit=True, ttl=292.5, age=7.5)
    assert (second.status, data(second), second.attempts) == (200, data(first), 0)


async def test_what_has_no_room_is_not_called_stored() -> None:
    """RFC 9211 section 2.5; MCP_CACHE_MAX_BYTES."""
    clock = FakeClock()
    bench = Bench(shelf=Shelf(100, 400, clock.now, clock.epoch))
    assert bare(await bench.ask(Script(answer(text="x" * 400)))) == MISS


@pytest.mark.parametrize(
    ("asked", "spelled"), [(2, "2"), ("1", '"1"'), ('a"b', '"a\\"b"'), (0, "0"), (-5, "-5")]
)
async def test_a_hit_bears_the_callers_own_id_with_its_type(asked: Any, spelled: str) -> None:
    """F15."""
    bench, origin = Bench(), Script(answer())
    await bench.ask(origin)
    hit = await bench.ask(origin, tool(request_id=asked))
    assert data(hit) == data(answer(spelled))


async def test_what_speaks_of_one_exchange_is_not_told_again() -> None:
    bench = Bench()
    origin = Script(answer(Mcp_Session_Id="s", Age="9", X_Kept="yes", X_Request_Id="r"))
    await bench.ask(origin)
    hit = await bench.ask(origin)
    assert dict(hit.headers) == {"Content-Type": "application/json", "X-Kept": "yes"}


async def test_what_was_kept_on_its_way_here_is_fresh_for_less() -> None:
    """RFC 9111 section 4.2.3, RFC 9211 section 2.4: the first answer says what is left, too."""
    bench, origin = Bench(), Script(answer(Age="100"))
    first = await bench.ask(origin)
    assert bare(first) == CacheNote(forwarded="miss", stored=True, ttl=200.0)
    assert bare(await bench.ask(origin)) == CacheNote(hit=True, ttl=200.0, age=100.0)


async def test_a_rest_answer_is_told_again_byte_for_byte() -> None:
    bench = Bench()
    origin = Script(reply(body=b' {"success": true, "data": 1e400} '))
    for _ in range(2):
        assert data(await bench.ask(origin, rest_tool())) == b' {"success": true, "data": 1e400} '
    assert len(origin.calls) == 1


@pytest.mark.parametrize("size", [10, 100_000])
async def test_large_answers_are_told_again_as_small_ones_are(size: int) -> None:
    bench, origin = Bench(), Script(answer(text="x" * size))
    await bench.ask(origin)
    assert data(await bench.ask(origin)) == data(answer(text="x" * size))
    assert len(origin.calls) == 1


async def test_an_answer_that_came_as_an_event_is_kept_as_json() -> None:
    """DESIGN: MCP answers are never altered beyond the id; event ids belong to one stream."""
    bench = Bench()
    event = b"event: message\nid: 7\ndata: " + data(answer()) + b"\n\n"
    origin = Script(reply(body=event, Content_Type="text/event-stream", Cache_Control="no-store"))
    first = await bench.ask(origin, Accept="application/json, text/event-stream")
    assert data(first) == event, "the first caller gets what the server said"
    hit = await bench.ask(origin, Accept="application/json, text/event-stream")
    assert (data(hit), dict(hit.headers)) == (data(answer()), {"Content-Type": "application/json"})
    assert len(origin.calls) == 1


async def test_who_reads_events_only_gets_an_event() -> None:
    bench, origin = Bench(), Script(answer())
    await bench.ask(origin, Accept="text/event-stream")
    hit = await bench.ask(origin, tool(request_id=5), Accept="text/event-stream")
    assert data(hit) == b"event: message\r\ndata: " + data(answer("5")) + b"\r\n\r\n"
    assert hit.headers["Content-Type"] == "text/event-stream"


# --- whose answer it is


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        ({"Authorization": "a"}, {"Authorization": "b"}),
        ({"Authorization": "a"}, {}),
        ({"Cookie": "a"}, {"Cookie": "b"}),
        ({"Mcp_Session_Id": "a"}, {"Mcp_Session_Id": "b"}),
        ({"X_Api_Key": "a"}, {"X_Api_Key": "b"}),
        ({"X_Nobody_Knows": "a"}, {"X_Nobody_Knows": "b"}),
        ({"Accept_Language": "de"}, {"Accept_Language": "en"}),
        ({"MCP_Protocol_Version": "2025-11-25"}, {"MCP_Protocol_Version": "2025-06-18"}),
    ],
)
async def test_an_answer_belongs_to_the_one_who_asked(
    mine: dict[str, str], yours: dict[str, str]
) -> None:
    """DESIGN section 4, Key; F34: an unknown credential can never leak."""
    bench, origin = Bench(), Script(answer(text="mine"), answer(text="yours"))
    await bench.ask(origin, **mine)
    assert data(await bench.ask(origin, **yours)) == data(answer(text="yours"))
    assert data(await bench.ask(origin, **mine)) == data(answer(text="mine"))
    assert len(origin.calls) == 2


async def test_what_changes_no_answer_keeps_nobody_from_it() -> None:
    bench, origin = Bench(), Script(answer())
    await bench.ask(origin, User_Agent="a", Traceparent="1", X_Forwarded_For="::1")
    hit = await bench.ask(origin, User_Agent="b", Traceparent="2", X_Forwarded_For="::2")
    assert hit.cache is not None
    assert hit.cache.hit


async def test_other_questions_have_other_answers() -> None:
    bench = Bench()
    origin = Script(*(answer(text=str(number)) for number in range(9)))
    questions = [
        tool("look"), tool("look", arguments={"a": 1}), tool("look", arguments={"a": "1"}),
        tool("find"), rpc("tools/list"), rpc("tools/list", cursor="2"), rpc("prompts/list"),
    ]  # fmt: skip
    told = [data(await bench.ask(origin, question)) for question in questions]
    assert len(set(told)) == len(questions)
    again = [data(await bench.ask(origin, question)) for question in questions]
    assert (again, len(origin.calls)) == (told, len(questions))


async def test_the_order_of_arguments_is_no_other_question() -> None:
    bench, origin = Bench(), Script(answer())
    await bench.ask(origin, tool(arguments={"a": 1, "b": 2}))
    await bench.ask(origin, tool(arguments={"b": 2, "a": 1}))
    assert len(origin.calls) == 1


async def test_two_upstreams_on_one_shelf_share_nothing() -> None:
    """DESIGN section 4: unrelated sidecars on one Redis never share."""
    bench = Bench("one")
    other = Bench("two", bench.shelf)
    origin = Script(answer())
    await bench.ask(origin)
    await other.ask(origin)
    assert len(origin.calls) == 2


# --- what is kept


async def test_what_may_not_be_kept_passes_by() -> None:
    bench, origin = Bench(), Script(told := answer())
    for _ in range(2):
        assert await within(bench.cache(call(READ, tool()), origin)) is told
    assert (len(origin.calls), bench.entries) == (2, 0)
    assert [seen.key for seen in origin.calls] == [None, None]


@pytest.mark.parametrize(
    "told",
    [
        answer()._replace(verdict=Verdict.TOOL_FAILED),
        answer()._replace(status=500, verdict=Verdict.UPSTREAM_FAILED),
        answer()._replace(status=203),
        answer(Set_Cookie="a=b"),
        answer(Cache_Control="private"),
        answer(Content_Encoding="gzip"),
        answer("2"),
        reply(body=b"not json"),
        reply(body=b'{"jsonrpc":"2.0","id":1,"id":1,"result":{}}'),
        reply(body=b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}'),
    ],
    ids=[
        "isError", "500", "203", "cookie", "private", "encoded", "other id", "no JSON",
        "doubled key", "asks back",
    ],
)  # fmt: skip
async def test_what_may_mislead_others_is_never_kept(told: Reply) -> None:
    """DESIGN section 4, last row; F7, F34, F35: 0 cached errors."""
    bench, origin = Bench(), Script(told)
    for _ in range(2):
        assert (await bench.ask(origin)).cache == MISS
    assert (len(origin.calls), bench.entries) == (2, 0)


async def test_a_stream_is_never_kept() -> None:
    bench, feed = Bench(), Feed()
    told = await bench.ask(Script(streamed(feed)))
    assert isinstance(told.body, Stream)
    assert (told.cache, bench.entries) == (MISS, 0)
    await told.body.aclose()


async def test_an_error_keeps_nothing() -> None:
    bench = Bench()
    with pytest.raises(UpstreamBrokenError):
        await bench.ask(Script(error_of(UpstreamBrokenError)))
    assert bench.entries == 0


@pytest.mark.parametrize(
    ("hint", "seconds"), [("5000", 5.0), ("0", 0.0), ("-1", 0.0), ("null", 0.0), ("1e99", 0.0)]
)
async def test_a_server_names_the_lifetime_of_its_lists(hint: str, seconds: float) -> None:
    """DESIGN section 4: `ttlMs` where the answer has it; F49: odd ones count as 0."""
    bench = Bench()
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"ttlMs":%b}}' % hint.encode()
    origin = Script(reply(body=body))
    asked = call(replace(KEPT, keep=Keep(300.0, obeys_hint=True)), rpc())
    told = await within(bench.cache(asked, origin))
    assert bare(told) == CacheNote(forwarded="miss", stored=seconds > 0, ttl=seconds or None)
    await bench.clock.advance(5)
    await within(bench.cache(asked, origin))
    assert len(origin.calls) == 2


async def test_an_answer_ends_with_its_lifetime() -> None:
    bench, origin = Bench(), Script(answer(text="old"), answer(text="new"))
    await bench.ask(origin)
    await bench.clock.advance(299.9)
    assert data(await bench.ask(origin)) == data(answer(text="old"))
    await bench.clock.advance(0.1)
    assert data(await bench.ask(origin)) == data(answer(text="new"))


async def test_an_answer_that_a_store_keeps_too_long_is_judged_by_its_own_age() -> None:
    """Freshness is judged from the frame; F49: clocks of several machines."""
    bench, origin = Bench(), Script(answer(text="new"))
    await bench.ask(Script(answer(text="old")))
    [key] = bench.shelf._memory.keys()
    stored = bench.clock.wall().timestamp()
    old = Frame(CIMultiDict(), data(answer(text="old")), stored, Terms(5.0), (22, 23))
    await bench.shelf.put(key, pack(old), 1000.0)
    await bench.clock.advance(4)
    assert data(await bench.ask(origin)) == data(answer(text="old"))
    await bench.clock.advance(1)
    assert data(await bench.ask(origin)) == data(answer(text="new"))


@pytest.mark.parametrize("garbage", [b"", b"mcs1", b"mcs0\0\0\0\2[]", b"\x80\x04pickle" * 2000])
async def test_a_garbled_frame_is_a_miss_and_is_deleted(garbage: bytes) -> None:
    """F24: bad value = miss + delete."""
    bench = Bench()
    await bench.ask(Script(answer()))
    [key] = bench.shelf._memory.keys()
    await bench.shelf.put(key, garbage, 100.0)
    origin = Script(error_of(UpstreamBrokenError), answer(text="new"))
    with pytest.raises(UpstreamBrokenError):
        await bench.ask(origin)
    assert bench.entries == 0
    assert data(await bench.ask(origin)) == data(answer(text="new"))


# --- what callers ask for


@pytest.mark.parametrize("header", [{"Cache_Control": "no-cache"}, {"Pragma": "no-cache"}])
async def test_a_caller_that_wants_a_fresh_answer_gets_one_and_renews_it(
    header: dict[str, str],
) -> None:
    """RFC 9111 section 5.2.1.4."""
    bench, origin = Bench(), Script(answer(text="old"), answer(text="new"))
    await bench.ask(origin)
    fresh = await bench.ask(origin, **header)
    assert bare(fresh) == CacheNote(forwarded="request", stored=True, ttl=300.0)
    assert origin.calls[1].key is None, "it joins no flight of others"
    assert data(await bench.ask(origin)) == data(answer(text="new"))


async def test_a_caller_that_wants_nothing_kept_leaves_nothing() -> None:
    """RFC 9111 section 5.2.1.5."""
    bench, origin = Bench(), Script(answer(text="old"), answer(text="secret"))
    await bench.ask(origin)
    told = await bench.ask(origin, Cache_Control="no-store")
    assert bare(told) == CacheNote(forwarded="request")
    assert data(await bench.ask(origin)) == data(answer(text="old"))


async def test_a_miss_names_the_place_for_those_who_ask_the_same() -> None:
    bench, origin = Bench(), Script(answer()._replace(verdict=Verdict.TOOL_FAILED))
    for request_id in (1, "x"):
        await bench.ask(origin, tool(request_id=request_id))
    await bench.ask(origin, tool("other"))
    first, second, other = (seen.key for seen in origin.calls)
    assert first is not None
    assert first == second != other


async def test_a_follower_does_not_store_what_its_leader_stores() -> None:
    bench = Bench()
    shared = answer()._replace(cache=CacheNote(collapsed=True))
    told = await bench.ask(Script(shared))
    assert bare(told) == CacheNote(forwarded="miss", collapsed=True)
    assert bench.entries == 0


async def test_arguments_that_are_too_deep_to_be_compared_pass_by() -> None:
    """F17: depth bombs."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    bench, origin = Bench(), Script(told := answer())
    for _ in range(2):
        assert await bench.ask(origin, tool(arguments=deep)) is told
    assert len(origin.calls) == 2


# --- invalidation and trouble


async def test_while_the_store_is_in_trouble_it_is_not_asked() -> None:
    """DESIGN section 4: None means that an old answer could be read."""
    bench, origin = Bench(), Script(told := answer())
    await bench.ask(origin)
    bench.shelf.known = False
    assert await bench.ask(origin) is told
    assert len(origin.calls) == 2


async def test_a_fill_that_began_before_an_invalidation_is_thrown_away() -> None:
    """F36."""
    bench, gate = Bench(), asyncio.Event()

    async def slow(_: Call) -> Reply:
        await gate.wait()
        return answer(text="old")

    origin = Script(slow, answer(text="new"))
    early = spawn(bench.ask(origin), "early")
    await settle()
    await bench.shelf.invalidate()
    gate.set()
    assert data(await within(early)) == data(answer(text="old"))
    assert data(await bench.ask(origin)) == data(answer(text="new"))


async def test_in_a_quarantine_answers_pass_and_are_not_kept() -> None:
    bench, origin = Bench(), Script(answer())
    await bench.shelf.invalidate(quarantine=30.0)
    assert (await bench.ask(origin)).cache == MISS
    await bench.clock.advance(30)
    assert bare(await bench.ask(origin)) == CacheNote(forwarded="miss", stored=True, ttl=300.0)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ("", set()),
        ("service:jira", {"salesforce/look"}),
        ("tool:look", {"jira/find"}),
        ("jira/look", {"jira/find", "salesforce/look"}),
        ("tool:nothing", {"jira/find", "jira/look", "salesforce/look"}),
    ],
)
async def test_a_narrow_clear_drops_what_it_names(scope: str, left: set[str]) -> None:
    """DESIGN section 6: POST /api/cache/clear may be narrowed by tool and service."""
    bench = Bench()
    origin = Script(reply(body=b'{"success":true}'))
    pairs = [("jira", "look"), ("jira", "find"), ("salesforce", "look")]
    for service, name in pairs:
        await bench.ask(origin, rest_tool(name, service))
    await bench.shelf.invalidate(scope)
    hits = {
        f"{service}/{name}"
        for service, name in pairs
        if (told := (await bench.ask(origin, rest_tool(name, service))).cache) and told.hit
    }
    assert hits == left


async def test_a_request_that_is_recognised_is_looked_up_as_another_like_it() -> None:
    """`same` spares the work of making the key; it is one object for one spelling."""
    bench, origin = Bench(), Script(answer(), answer())
    same, other = (Reading(tool(), KEPT) for _ in range(2))
    asked = call(KEPT, tool())._replace(same=same)
    for _ in range(3):
        await within(bench.cache(asked, origin))
    await within(bench.cache(call(KEPT, tool()), origin))
    assert len(origin.calls) == 1
    await within(bench.cache(asked._replace(same=other, target="/mcp/"), origin))
    assert len(origin.calls) == 2


# --- at hand


async def test_what_is_at_hand_is_told_without_waiting() -> None:
    bench, origin = Bench(), Script(answer())
    asked = call(KEPT, tool())
    assert bench.cache.known(asked) is None
    await bench.ask(origin)
    found = bench.cache.known(asked)
    assert found is not None
    assert found.cache is not None
    assert found.cache.hit
    assert await within(bench.cache(asked._replace(known=found), origin)) is found
    assert bench.cache.known(asked._replace(intent=OPAQUE)) is None
    fresh = CIMultiDict({"Cache-Control": "no-cache"})
    assert bench.cache.known(asked._replace(headers=fresh)) is None


async def test_what_is_at_hand_ends_with_its_time() -> None:
    """Before the last moments, in which an answer is refreshed: that is the usual way's work."""
    bench, origin = Bench(), Script(answer())
    asked = call(KEPT, tool())
    await bench.ask(origin)
    await bench.clock.advance(284.0)
    assert bench.cache.known(asked) is not None
    await bench.clock.advance(2.0)
    assert bench.cache.known(asked) is None


async def test_what_was_made_invalid_is_not_at_hand() -> None:
    """F36."""
    bench, origin = Bench(), Script(answer(), answer())
    asked = call(KEPT, tool())
    await bench.ask(origin)
    await bench.shelf.invalidate()
    assert bench.cache.known(asked) is None


async def test_what_is_void_or_unreadable_is_not_at_hand() -> None:
    """F24; a clear by age leaves it in the other tier."""
    bench, origin = Bench(), Script(answer())
    asked = call(KEPT, tool())
    await bench.ask(origin)
    bench.shelf.since = bench.clock.epoch() + 1
    assert bench.cache.known(asked) is None
    bench.shelf.since = 0.0
    (key,) = bench.shelf._memory.keys()
    await bench.shelf.put(key, b"garbage", 100.0)
    assert bench.cache.known(asked) is None
    bench.shelf.known = False
    assert bench.cache.known(asked) is None


# --- stale

STALE = replace(KEPT, keep=Keep(100.0, obeys_hint=True, revalidate=30.0, on_error=600.0))


class Slow:
    """An origin that answers when it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def __call__(self, call: Call) -> Reply:
        self.calls += 1
        return await self.told

    def answers(self, outcome: Reply | ProxyError) -> None:
        told, self.told = self.told, asyncio.get_running_loop().create_future()
        if isinstance(outcome, Reply):
            told.set_result(outcome)
        else:
            told.set_exception(outcome)


async def stored(bench: Bench, text: str = "old") -> None:
    await within(bench.cache(call(STALE, tool()), Script(answer(text=text))))


async def test_an_old_answer_is_told_while_one_refresh_runs() -> None:
    """DESIGN section 4, Stale; RFC 9211: below zero is what is left of its freshness."""
    bench, slow = Bench(), Slow()
    await stored(bench)
    await bench.clock.advance(110)
    for _ in range(5):
        told = await within(bench.cache(call(STALE, tool()), slow))
        assert b"old" in data(told)
        assert bare(told) == CacheNote(hit=True, stale="stale-while-revalidate", ttl=-10, age=110)
    await settle()
    assert slow.calls == 1
    slow.answers(answer(text="new"))
    await settle()
    told = await within(bench.cache(call(STALE, tool()), slow))
    assert b"new" in data(told)
    assert slow.calls == 1


async def test_a_refresh_that_fails_is_tried_again_by_the_next() -> None:
    bench, slow = Bench(), Slow()
    await stored(bench)
    await bench.clock.advance(110)
    for number in (1, 2):
        await within(bench.cache(call(STALE, tool()), slow))
        await settle()
        assert slow.calls == number
        slow.answers(UpstreamBrokenError("broken"))
        await settle()


async def test_a_refresh_that_is_streamed_is_let_go() -> None:
    bench, feed = Bench(), Feed()
    await stored(bench)
    await bench.clock.advance(110)
    await within(bench.cache(call(STALE, tool()), Script(streamed(feed))))
    await settle()
    assert feed.released == 1


async def test_each_key_is_fetched_anew_at_its_own_moment_before_its_end() -> None:
    """Answers that were stored together are not asked for again together."""
    bench, names = Bench(), "abcdefghijklmnop"
    for name in names:
        await within(bench.cache(call(STALE, tool(name)), Script(answer())))
    await bench.clock.advance(94)
    fetched, slow = [], Slow()
    for _ in range(6):
        before = slow.calls
        for name in names:
            told = await within(bench.cache(call(STALE, tool(name)), slow))
            assert told.cache is not None
            assert (told.cache.hit, told.cache.stale) == (True, "")
        await settle()
        fetched.append(slow.calls - before)
        await bench.clock.advance(0.99)
    slow.answers(answer())
    await settle()
    assert fetched[0] == 0
    assert sum(fetched) <= len(names)
    assert sum(map(bool, fetched)) >= 3


async def test_a_call_with_a_progress_token_waits_for_its_own_answer() -> None:
    """It names one client's stream, so nobody fetches for it."""
    bench = Bench()
    asked = call(replace(STALE, collapsible=False), tool())
    await within(bench.cache(asked, Script(answer(text="old"))))
    await bench.clock.advance(110)
    assert b"new" in data(await within(bench.cache(asked, Script(answer(text="new")))))


async def test_when_the_time_for_that_is_over_the_server_is_waited_for() -> None:
    bench = Bench()
    await stored(bench)
    await bench.clock.advance(131)
    told = await within(bench.cache(call(STALE, tool()), Script(answer(text="new"))))
    assert b"new" in data(told)
    assert bare(told) == CacheNote(forwarded="stale", stored=True, ttl=100.0)


async def test_a_failure_to_fetch_anew_says_that_the_old_answer_is_over() -> None:
    """RFC 9211 section 2.2."""
    bench = Bench()
    await stored(bench)
    await bench.clock.advance(131)
    with pytest.raises(DrainingError) as failure:
        await within(bench.cache(call(STALE, tool()), Script(DrainingError("bye"))))
    assert failure.value.cache == CacheNote(forwarded="stale")


FAILING = [
    UpstreamUnreachableError("refused"),
    CircuitOpenError("open"),
    OverloadedError("full"),
    reply(500, verdict=Verdict.UPSTREAM_FAILED),
    reply(503, verdict=Verdict.BUSY),
]


@pytest.mark.parametrize("outcome", FAILING)
async def test_an_old_answer_is_told_while_the_server_fails(outcome: Reply | ProxyError) -> None:
    """RFC 5861 section 4."""
    bench = Bench()
    await stored(bench)
    await bench.clock.advance(600)
    told = await within(bench.cache(call(STALE, tool()), Script(outcome)))
    assert b"old" in data(told)
    assert bare(told) == CacheNote(hit=True, stale="stale-if-error", ttl=-500, age=600)
    await bench.clock.advance(101)
    if isinstance(outcome, ProxyError):
        assert outcome.__traceback__ is None, "it holds the frame that holds it"
        with pytest.raises(type(outcome)):
            await within(bench.cache(call(STALE, tool()), Script(outcome)))
    else:
        assert (await within(bench.cache(call(STALE, tool()), Script(outcome)))).status >= 500


async def test_a_failure_that_comes_as_a_stream_is_let_go() -> None:
    bench, feed = Bench(), Feed()
    await stored(bench)
    await bench.clock.advance(600)
    failed = streamed(feed, status=500, verdict=Verdict.UPSTREAM_FAILED)
    assert b"old" in data(await within(bench.cache(call(STALE, tool()), Script(failed))))
    assert feed.released == 1


async def test_nothing_is_stale_after_an_invalidation() -> None:
    """DESIGN section 4."""
    bench = Bench()
    await stored(bench)
    await bench.clock.advance(110)
    await bench.shelf.invalidate()
    with pytest.raises(UpstreamUnreachableError):
        await within(bench.cache(call(STALE, tool()), Script(UpstreamUnreachableError("refused"))))


async def test_what_is_never_fresh_may_be_kept_for_an_outage() -> None:
    """DESIGN section 4: `ttlMs: 0` is never stored, but for `server/discover` during an outage."""
    bench = Bench()
    keep = Keep(0.0, obeys_hint=True, on_error=600.0, in_outage=True)
    asked = call(replace(KEPT, keep=keep), rpc("server/discover"))
    origin = Script(answer(), answer(), UpstreamUnreachableError("refused"))
    for _ in range(2):
        told = await within(bench.cache(asked, origin))
        assert told.cache is not None
        assert not told.cache.hit
    told = await within(bench.cache(asked, origin))
    assert told.cache is not None
    assert told.cache.stale == "stale-if-error"


async def test_an_error_that_says_nothing_of_the_server_is_no_reason() -> None:
    bench = Bench()
    await stored(bench)
    await bench.clock.advance(600)
    with pytest.raises(DrainingError):
        await within(bench.cache(call(STALE, tool()), Script(DrainingError("ends"))))


async def test_an_old_answer_is_not_told_if_it_was_made_invalid_meanwhile() -> None:
    """DESIGN section 4, Stale: never after an invalidation, also one that came while we waited."""
    bench, slow = Bench(), Slow()
    await stored(bench)
    await bench.clock.advance(600)
    asking = spawn(bench.cache(call(STALE, tool()), slow), "asking")
    await settle()
    await bench.shelf.invalidate()
    slow.answers(UpstreamBrokenError("broken"))
    with pytest.raises(UpstreamBrokenError):
        await within(asking)


# --- public

LISTED = replace(KEPT, keep=Keep(300.0, obeys_hint=True))


def scoped(scope: str) -> Reply:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"cacheScope":"%s"}}'
    return reply(body=body % scope.encode())


@pytest.mark.parametrize(
    ("share", "scope", "asked"), [(True, "public", 1), (True, "private", 2), (False, "public", 2)]
)
async def test_an_answer_is_everybodys_if_server_and_operator_say_so(
    share: bool, scope: str, asked: int
) -> None:
    """DESIGN section 4, Key: only `cacheScope: public` plus MCP_CACHE_SHARE_PUBLIC."""
    bench = Bench()
    bench.cache = Cache(
        bench.shelf, Keyring("old", share_public=share), bench.clock, spawn, 1 << 20
    )
    origin = Script(scoped(scope), scoped(scope))
    for who in "ab":
        headers = {"Authorization": who}
        told = await within(bench.cache(call(LISTED, rpc("tools/list"), headers=headers), origin))
    assert len(origin.calls) == asked
    assert told.cache is not None
    assert told.cache.hit == (asked == 1)
    newer = {"MCP-Protocol-Version": "2026-07-28"}
    await within(bench.cache(call(LISTED, rpc("tools/list"), headers=newer), origin))
    assert len(origin.calls) == asked + 1, "each era has its own shape"


async def test_what_headers_say_to_one_caller_is_told_to_nobody_else() -> None:
    """MCP 2026-07-28, caching: `cacheScope` is a field of the result."""
    bench = Bench()
    bench.cache = Cache(bench.shelf, Keyring("old", share_public=True), bench.clock, spawn, 1 << 20)
    said = scoped("public")
    of_alice = {"Content-Type": "application/json", "X-Auth-Token": "alice", "ETag": "x"}
    origin = Script(said._replace(headers=CIMultiDict(of_alice)))
    asked = [call(LISTED, rpc("tools/list"), headers={"Authorization": who}) for who in "ab"]
    alice, bob = [await within(bench.cache(one, origin)) for one in asked]
    assert alice.headers == of_alice
    assert bob.headers == {"Content-Type": "application/json"}
    assert data(bob) == data(said)
    assert len(origin.calls) == 1


async def test_a_public_answer_survives_what_one_caller_loses() -> None:
    bench = Bench()
    bench.cache = Cache(bench.shelf, Keyring("old", share_public=True), bench.clock, spawn, 1 << 20)
    origin = Script(scoped("public"))
    asked = call(LISTED, rpc("tools/list"))
    await within(bench.cache(asked, origin))
    await bench.shelf.invalidate(of_caller(credentials(asked.headers)))
    told = await within(bench.cache(asked, origin))
    assert told.cache is not None
    assert told.cache.hit


async def test_a_tools_answer_is_never_everybodys() -> None:
    """`cacheScope` is of lists and resources."""
    bench = Bench()
    bench.cache = Cache(bench.shelf, Keyring("old", share_public=True), bench.clock, spawn, 1 << 20)
    origin = Script(scoped("public"), scoped("public"))
    for who in "ab":
        await within(bench.cache(call(KEPT, tool(), headers={"Authorization": who}), origin))
    assert len(origin.calls) == 2


async def test_what_is_for_everybody_is_at_hand_for_everybody() -> None:
    bench = Bench()
    bench.cache = Cache(bench.shelf, Keyring("old", share_public=True), bench.clock, spawn, 1 << 20)
    asked = call(LISTED, rpc("tools/list"), headers={"Authorization": "a"})
    await within(bench.cache(asked, Script(scoped("public"))))
    other = call(LISTED, rpc("tools/list"), headers={"Authorization": "b"})
    found = bench.cache.known(other)
    assert found is not None
    assert data(found) == data(scoped("public"))
    await bench.shelf.invalidate()
    assert bench.cache.known(other) is None
