"""No old answer after a write: what is dropped, when, and for how long nothing is kept."""

import asyncio
from dataclasses import replace

import pytest

from mcp_proxy.core.call import Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import (
    CircuitOpenError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.intent import LEGACY_POST, RESPONSE, SESSION_END
from mcp_proxy.core.keys import Keyring, credentials
from mcp_proxy.core.scopes import of_caller
from mcp_proxy.core.shelf import Edition
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.chain import join
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.deadline import Deadline
from mcp_proxy.layers.invalidate import Invalidate
from mcp_proxy.layers.rescue import Rescue, Style
from mcp_proxy.stores.memory import MemoryShelf
from tests.fakes import (
    KEPT,
    READ,
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    read,
    reply,
    rpc,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

QUARANTINE = 30.0


class Shelf(MemoryShelf):
    """A shelf that notes each invalidation, and takes until `let` to carry one out."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(100, 1 << 20, self.clock.now, self.clock.epoch)
        self.begun: list[float] = []  # the quarantines
        self.done: list[float] = []
        self.let = asyncio.Event()
        self.let.set()

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int:
        dropped: int = await asyncio.shield(spawn(self._slowly(scope, quarantine), "slowly"))
        return dropped

    async def _slowly(self, scope: str, quarantine: float) -> int:
        self.begun.append(quarantine)
        await self.let.wait()
        dropped = await super().invalidate(scope, quarantine)
        self.done.append(quarantine)
        return dropped


class Bench:
    """An Invalidate before a shelf that remembers."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.invalidate = Invalidate(self.shelf, QUARANTINE, spawn)

    async def ask(self, outcome: object, asked: Call | None = None) -> Reply:
        return await within(self.invalidate(asked or call(WRITE, tool()), Script(outcome)))


def data(answer: Reply) -> bytes:
    assert isinstance(answer.body, Whole)
    return answer.body.data


# --- answers


async def test_a_write_drops_all_answers_before_its_own_goes_out() -> None:
    """DESIGN section 4, Invalidation."""
    bench = Bench()
    bench.shelf.let.clear()
    task = spawn(bench.ask(reply()), "call")
    await settle()
    assert (bench.shelf.begun, task.done()) == ([0.0], False)
    bench.shelf.let.set()
    assert (await within(task)).status == 200
    assert bench.shelf.done == [0.0]


@pytest.mark.parametrize(
    ("repeatable", "attempts", "quarantine"),
    [(True, 2, QUARANTINE), (True, 1, 0.0), (False, 2, 0.0)],
    ids=["given up before", "one try", "not delivered before"],
)
async def test_a_try_of_a_write_that_was_given_up_may_still_be_at_work(
    repeatable: bool, attempts: int, quarantine: float
) -> None:
    """The fate of the first is unknown, though the second was answered."""
    bench = Bench()
    asked = call(replace(WRITE, repeatable=repeatable), tool())
    await bench.ask(reply()._replace(attempts=attempts), asked)
    assert bench.shelf.done == [quarantine]


def task(status: str, *, events: bool = False) -> Reply:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"%b"}}' % status.encode()
    if events:
        return reply(body=b"data: %b\n\n" % body, Content_Type="text/event-stream")
    return reply(body=body)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize(
    ("method", "status", "drops"),
    [
        ("tasks/get", "working", False),
        ("tasks/get", "completed", True),
        ("tasks/result", "completed", True),
        ("tasks/cancel", "cancelled", True),
        ("tasks/list", "completed", False),
    ],
)
async def test_who_sees_the_end_of_a_task_sees_its_effect(
    method: str, status: str, drops: bool, events: bool
) -> None:
    """MCP 2025-11-25, tasks: a call is answered when its work begins."""
    bench = Bench()
    await bench.ask(task(status, events=events), call(READ, rpc(method)))
    assert bench.shelf.done == [0.0] * drops


async def test_an_answer_that_is_no_look_at_a_task_ends_none() -> None:
    bench = Bench()
    await bench.ask(reply(502, verdict=Verdict.UPSTREAM_FAILED), call(READ, rpc("tasks/get")))
    assert bench.shelf.done == []


async def test_who_waits_on_a_stream_for_the_end_of_a_task_sees_its_effect() -> None:
    bench = Bench()
    feed = Feed()
    answer = await bench.ask(streamed(feed), call(READ, rpc("tasks/result")))
    assert isinstance(answer.body, Stream)
    feed.give(b"progress")
    pieces = aiter(answer.body)
    assert await within(anext(pieces)) == b"progress"
    assert bench.shelf.done == []
    feed.give(b"the end", verdict=Verdict.OK)
    assert await within(anext(pieces)) == b"the end"
    assert bench.shelf.done == [0.0]
    await answer.body.aclose()


@pytest.mark.parametrize("whole", [True, False])
async def test_a_task_that_was_begun_may_still_be_at_work(whole: bool) -> None:
    bench = Bench()
    feed = Feed()
    feed.give(b"begun", verdict=Verdict.OK)
    message = tool()
    asked = call(WRITE, message._replace(params={**message.params, "task": {"ttl": 60000}}))
    answer = await bench.ask(reply() if whole else streamed(feed), asked)
    if isinstance(answer.body, Stream):
        assert await within(anext(aiter(answer.body))) == b"begun"
        await answer.body.aclose()
    assert bench.shelf.done == [QUARANTINE]


async def test_a_write_is_told_of_with_what_it_dropped() -> None:
    """DESIGN section 6: cache.invalidated."""
    told: list[tuple[Call, int, bool]] = []
    bench = Bench()
    bench.invalidate = Invalidate(
        bench.shelf, QUARANTINE, spawn, lambda *invalidated: told.append(invalidated)
    )
    await bench.shelf.put("jira/look\n1", b"value", 10.0)
    await bench.shelf.put("jira/find\n1", b"value", 10.0)
    asked = call(replace(WRITE, invalidates=("jira/look", "jira/find")), tool())
    await bench.ask(reply(), asked)
    await bench.ask(reply(502, verdict=Verdict.UPSTREAM_FAILED), asked)
    await bench.ask(reply(), call(READ, tool("look")))
    assert told == [(asked, 2, False), (asked, 0, True)]


@pytest.mark.parametrize(
    ("answer", "quarantine"),
    [
        (reply(verdict=Verdict.TOOL_FAILED), 0.0),
        (reply(404, verdict=Verdict.CLIENT_FAULT), 0.0),
        (reply(429, verdict=Verdict.BUSY), 0.0),
        (reply(502, verdict=Verdict.UPSTREAM_FAILED), QUARANTINE),
        (reply(202), QUARANTINE),
    ],
    ids=["isError", "404", "429", "502", "202"],
)
async def test_whatever_the_verdict_of_a_write_answers_are_dropped(
    answer: Reply, quarantine: float
) -> None:
    """DESIGN section 4: whatever its verdict; when its fate is unknown, nothing is stored."""
    bench = Bench()
    assert await bench.ask(answer) is answer
    assert bench.shelf.done == [quarantine]


async def test_a_legacy_post_is_a_write_whose_work_is_still_to_come() -> None:
    """RFC 9110 section 15.3.3: 202 is noncommittal; the answer comes on another stream."""
    bench = Bench()
    await bench.ask(reply(202), call(LEGACY_POST))
    assert bench.shelf.done == [QUARANTINE]


async def test_a_read_drops_nothing() -> None:
    bench = Bench()
    await bench.ask(reply(), call(READ))
    await bench.ask(reply(), call(KEPT))
    assert bench.shelf.begun == []


# --- errors


@pytest.mark.parametrize("kind", [UpstreamUnreachableError, CircuitOpenError, UpstreamBrokenError])
async def test_a_write_that_was_not_delivered_drops_nothing(kind: type[ProxyError]) -> None:
    bench = Bench()
    with pytest.raises(kind):
        await bench.ask(error_of(kind))
    assert bench.shelf.begun == []


@pytest.mark.parametrize("kind", [UpstreamTimeoutError, UpstreamBrokenError])
async def test_a_write_of_unknown_fate_drops_all_and_keeps_nothing_for_a_while(
    kind: type[ProxyError],
) -> None:
    bench = Bench()
    with pytest.raises(kind):
        await bench.ask(error_of(kind, delivered=Delivery.UNKNOWN))
    assert bench.shelf.done == [QUARANTINE]


async def test_a_mistake_of_ours_leaves_the_fate_unknown() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="a bug"):
        await bench.ask(ValueError("a bug"))
    assert bench.shelf.done == [QUARANTINE]


# --- departures


async def test_a_caller_that_leaves_during_a_write_leaves_its_fate_unknown() -> None:
    bench = Bench()
    task = spawn(bench.ask(lambda _: asyncio.Event().wait()), "call")
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert bench.shelf.done == [QUARANTINE]


async def test_a_caller_that_leaves_while_answers_are_dropped_does_not_stop_that() -> None:
    """A cancelled write to Redis may never have reached it."""
    bench = Bench()
    bench.shelf.let.clear()
    task = spawn(bench.ask(reply()), "call")
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    bench.shelf.let.set()
    await settle()
    assert bench.shelf.done == [0.0]


async def test_a_write_beyond_its_deadline_is_answered_after_the_answers_are_dropped() -> None:
    """DESIGN section 4: before its answer goes out, also when that is our own error."""
    bench = Bench()
    bench.shelf.let.clear()
    clock = FakeClock()
    forward = join(
        [Deadline(10.0, clock, spawn), bench.invalidate], lambda _: asyncio.Event().wait()
    )
    task = spawn(forward(call(WRITE)), "call")
    await clock.advance(10)
    assert (bench.shelf.begun, task.done()) == ([QUARANTINE], False)
    bench.shelf.let.set()
    await settle()
    assert isinstance(task.exception(), ProxyError)


# --- streams


async def test_a_streamed_answer_drops_before_the_piece_that_holds_it_is_passed_on() -> None:
    """DESIGN section 4: before its answer goes out."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    assert isinstance(answer.body, Stream)
    pieces = aiter(answer.body)
    feed.give(b"progress")
    assert await within(anext(pieces)) == b"progress"
    assert bench.shelf.begun == []
    bench.shelf.let.clear()
    feed.give(b"answer", verdict=Verdict.OK)
    task = spawn(anext(pieces), "read")  # type: ignore[arg-type]
    await settle()
    assert (bench.shelf.begun, task.done()) == ([0.0], False)
    bench.shelf.let.set()
    assert await within(task) == b"answer"
    feed.give(b"more")
    feed.end()
    assert await within(read(answer)) == b"more"
    assert bench.shelf.done == [0.0], "once is enough"


async def test_a_reader_that_leaves_while_answers_are_dropped_does_not_stop_that() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    bench.shelf.let.clear()
    feed.give(b"answer", verdict=Verdict.OK)
    task = spawn(read(answer), "read")
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    bench.shelf.let.set()
    await settle()
    assert bench.shelf.done == [0.0]


@pytest.mark.parametrize(
    ("status", "verdict", "quarantine"),
    [
        (200, Verdict.OK, 0.0),
        (202, Verdict.OK, QUARANTINE),
        (500, Verdict.UPSTREAM_FAILED, QUARANTINE),
    ],
)
async def test_a_stream_without_an_answer_of_its_own_is_done_with_its_last_byte(
    status: int, verdict: Verdict, quarantine: float
) -> None:
    """A page, a download, a large answer: judged by its status, as a whole one would be."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed, status, verdict, Content_Type="text/html"))
    feed.give(b"a page")
    feed.end()
    assert await within(read(answer)) == b"a page"
    assert bench.shelf.done == [quarantine]


@pytest.mark.parametrize("begun", [True, False], ids=["in its middle", "unread"])
async def test_a_stream_that_is_left_alone_leaves_the_fate_unknown(*, begun: bool) -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    assert isinstance(answer.body, Stream)
    if begun:
        feed.give(b"progress")
        await within(anext(aiter(answer.body)))
    await answer.body.aclose()
    await settle()
    assert bench.shelf.done == [QUARANTINE]
    assert feed.released == 1


async def test_a_stream_that_is_cut_leaves_the_fate_unknown() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    feed.give(b"progress", error_of(UpstreamBrokenError, delivered=Delivery.UNKNOWN))
    bench.shelf.let.clear()
    task = spawn(read(answer), "read")
    await settle()
    assert not task.done(), "the error does not go out before the answers are dropped"
    bench.shelf.let.set()
    await settle()
    assert isinstance(task.exception(), UpstreamBrokenError)
    assert bench.shelf.done == [QUARANTINE]


async def test_a_stream_that_is_cut_and_rescued_leaves_the_fate_unknown_all_the_same() -> None:
    """The final error event that rescue adds is no answer of the server."""
    bench, feed = Bench(), Feed()
    rescue = Rescue(Style(), bench.shelf.clock, Told())
    forward = join([rescue, bench.invalidate], Script(streamed(feed)))
    answer = await forward(call(WRITE, tool()))
    feed.give(b"progress", error_of(UpstreamBrokenError, delivered=Delivery.UNKNOWN))
    assert b"isError" in await within(read(answer))
    await settle()
    assert bench.shelf.done == [QUARANTINE]


async def test_a_stream_that_is_cut_after_its_answer_was_answered() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    feed.give(b"answer", verdict=Verdict.OK)
    feed.give(error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(read(answer))
    assert bench.shelf.done == [0.0]


async def test_a_stream_that_is_judged_already_is_dropped_for_at_once() -> None:
    bench, feed = Bench(), Feed()
    feed.body.verdict = Verdict.TOOL_FAILED
    answer = await bench.ask(streamed(feed))
    assert bench.shelf.done == [0.0]
    feed.end()
    await within(read(answer))
    assert bench.shelf.done == [0.0]


# --- together with the cache


class Road:
    """The three layers that share answers, before one server with one value."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        clock = self.shelf.clock
        self.value = 1
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.forward = join(
            [
                Cache(self.shelf, Keyring("old"), clock, spawn, 1 << 20),
                Coalesce(300.0, clock, spawn, 1 << 20),
                Invalidate(self.shelf, QUARANTINE, spawn),
            ],
            self._server,
        )

    async def _server(self, asked: Call) -> Reply:
        if asked.intent.writes:
            self.value += 1
            return reply(202) if asked.body == Whole(b"later") else reply()
        self.reads += 1
        seen = self.value
        await self.gate.wait()
        return reply(body=b'{"jsonrpc":"2.0","id":1,"result":{"value":%d}}' % seen)

    async def read(self) -> bytes:
        return data(await self.forward(call(KEPT, tool())))

    async def write(self, body: bytes = b"{}") -> None:
        await self.forward(call(WRITE, tool("set"), body=body))


def shows(value: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":{"value":%d}}' % value


async def test_after_a_write_the_old_answer_is_gone() -> None:
    """F36."""
    road = Road()
    assert await road.read() == shows(1)
    await road.write()
    assert await road.read() == shows(2)
    assert await road.read() == shows(2)
    assert road.reads == 2


async def test_a_fill_that_began_before_a_write_is_thrown_away() -> None:
    """F36: a fill begun before the clear is thrown away."""
    road = Road()
    road.gate.clear()
    early = spawn(road.read(), "early")
    await settle()
    await road.write()
    road.gate.set()
    assert await within(early) == shows(1), "it asked before the write was done"
    assert await road.read() == shows(2)


async def test_nobody_joins_a_flight_that_began_before_a_write() -> None:
    road = Road()
    road.gate.clear()
    early = spawn(road.read(), "early")
    await settle()
    await road.write()
    late = spawn(road.read(), "late")
    await settle()
    assert road.reads == 2
    road.gate.set()
    assert (await within(early), await within(late)) == (shows(1), shows(2))
    assert await road.read() == shows(2)


async def test_after_a_write_of_unknown_fate_nothing_is_kept_for_the_quarantine() -> None:
    """DESIGN section 4: MCP_CACHE_QUARANTINE."""
    road = Road()
    await road.write(b"later")
    await road.read()
    await road.read()
    assert road.reads == 2
    road.value = 7  # the work that was to come
    await road.shelf.clock.advance(QUARANTINE)
    assert await road.read() == shows(7)
    await road.read()
    assert road.reads == 3


async def test_a_read_that_began_in_the_quarantine_is_not_kept_after_it() -> None:
    road = Road()
    await road.write(b"later")
    road.gate.clear()
    early = spawn(road.read(), "early")
    await settle()
    road.value = 7
    await road.shelf.clock.advance(QUARANTINE)
    road.gate.set()
    await within(early)
    assert await road.read() == shows(7)


async def test_no_old_value_in_a_thousand_races() -> None:
    """F36: 0 old values in races after the write returned."""
    road = Road()

    async def race(number: int) -> None:
        for _ in range(number % 5):
            await road.shelf.clock.sleep(0)
        if number % 7 == 0:
            await road.write()
        else:
            before = road.value
            assert int((await road.read()).split(b":")[-1].rstrip(b"}")) >= before

    await within(asyncio.gather(*(race(number) for number in range(1000))))


async def test_an_edition_names_what_may_be_stored() -> None:
    shelf = Shelf()
    before = await shelf.edition(())
    await shelf.invalidate(quarantine=1.0)
    after = await shelf.edition(())
    assert isinstance(after, Edition)
    assert (before.storable, after.storable) == (True, False)
    assert before.token != after.token
    assert before._replace(storable=False) != after


async def test_an_answer_to_the_server_quarantines_nothing() -> None:
    """The call that asked goes on, and shows in the end what came of it."""
    bench = Bench()
    await bench.ask(reply(202, b""), call(RESPONSE))
    assert bench.shelf.done == [0.0]
    await bench.ask(reply(202, b""), call(WRITE))
    assert bench.shelf.done == [0.0, QUARANTINE]


# --- one caller's answers


@pytest.mark.parametrize(
    ("asked", "answered", "dropped"),
    [
        (call(READ, tool()), reply(401), True),
        (call(READ, tool()), reply(403), True),
        (call(WRITE, tool()), reply(401), True),
        (call(SESSION_END), reply(204), True),
        (call(READ, tool(), headers={"Mcp-Session-Id": "s"}), reply(404), True),
        (call(READ, tool()), reply(404), False),
        (call(READ, tool()), reply(), False),
    ],
)
async def test_what_a_caller_was_told_ends_with_its_leave(
    asked: Call, answered: Reply, dropped: bool
) -> None:
    """DESIGN section 4: a 401 or 403 drops that identity's entries; F20: so does a session's end."""
    bench = Bench()
    mine, others = of_caller(credentials(asked.headers)), "caller:other"
    before = [await bench.shelf.edition((scope,)) for scope in (mine, others)]
    await bench.ask(answered, asked)
    if asked.intent.writes:
        return  # all were dropped
    after = [await bench.shelf.edition((scope,)) for scope in (mine, others)]
    assert [old.token != new.token for old, new in zip(before, after, strict=True)] == [
        dropped,
        False,
    ]


async def test_a_rule_may_narrow_what_a_write_drops() -> None:
    """DESIGN section 4: `invalidates = ["jira/*"]`."""
    bench = Bench()
    named = ("service:jira", "service:salesforce", "tool:look")
    before = [await bench.shelf.edition((scope,)) for scope in named]
    await bench.ask(reply(), call(replace(WRITE, invalidates=("jira/*", "look")), tool()))
    after = [await bench.shelf.edition((scope,)) for scope in named]
    changed = [old.token != new.token for old, new in zip(before, after, strict=True)]
    assert changed == [True, False, True]


async def test_a_rule_may_say_that_a_write_changes_nothing_that_is_stored() -> None:
    bench = Bench()
    await bench.ask(reply(), call(replace(WRITE, invalidates=()), tool()))
    assert bench.shelf.done == []
