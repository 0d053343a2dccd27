"""How each call ended: one outcome for each, one event for each tool call."""

import asyncio

import pytest

from mcp_proxy.core import capture
from mcp_proxy.core.call import CacheNote, Call, Reply, Stream
from mcp_proxy.core.errors import ProxyError, UpstreamBrokenError, UpstreamTimeoutError
from mcp_proxy.core.message import Message
from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.trace import Trace
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Layer, join
from mcp_proxy.layers.observe import Observe, cache_part
from mcp_proxy.layers.rescue import Rescue, Style
from tests.fakes import (
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    read,
    reply,
    rest_tool,
    rpc,
    settle,
    spawn,
    streamed,
    tool,
    within,
)


class Counts:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun = 0
        self.outcomes: list[Outcome] = []

    def began(self) -> None:
        self.begun += 1

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Bench:
    """An Observe, and the rescue that always stands behind it."""

    def __init__(self, *inner: Layer) -> None:
        self.clock = FakeClock()
        self.counts = Counts()
        self.told = Told()
        self._inner = inner

    async def ask(
        self, origin: object, message: Message | None = None, trace: Trace | None = None
    ) -> Reply:
        layers = [
            Observe(self.counts, self.clock, self.told, "http://a"),
            Rescue(Style(), self.clock, Told()),
            *self._inner,
        ]
        asked = call(WRITE, message or tool())._replace(trace=trace)
        return await within(join(layers, Script(origin))(asked))

    @property
    def verdicts(self) -> list[Verdict]:
        assert self.counts.begun == len(self.counts.outcomes)
        return [outcome.verdict for outcome in self.counts.outcomes]


# --- one of each


async def test_a_tool_call_is_counted_once_and_told_once() -> None:
    """DESIGN section 6: `tool.call.completed`, one for every tool call, flat fields."""
    bench = Bench()

    async def slow(_: Call) -> Reply:
        bench.clock._now += 1.23456
        return reply()

    await bench.ask(slow, rest_tool(secret="s3cret"))
    [outcome] = bench.counts.outcomes
    assert outcome == Outcome("jira", "look", Verdict.OK, pytest.approx(1.23456), 1, "bypass", None)
    assert bench.told.events == [
        (
            "tool.call.completed",
            "info",
            {
                "request_id": "request-1",
                "service": "jira",
                "tool": "look",
                "dialect": "rest",
                "verdict": "ok",
                "status": 200,
                "code": None,
                "cache": "bypass",
                "attempts": 1,
                "upstream": "http://a",
                "duration_ms": 1234.56,
            },
        )
    ]


async def test_arguments_are_told_only_where_that_is_switched_on() -> None:
    """DESIGN section 6; MCP_CAPTURE=redacted."""
    told = Told()
    observe = Observe(Counts(), FakeClock(), told, captured=capture.arguments)
    message = rest_tool(q="Acme", password="hunter2")
    await within(join([observe], Script(reply()))(call(WRITE, message)))
    [(_, _, fields)] = told.events
    assert fields["arguments"] == '{"q":"Acme","password":"[redacted]"}'


@pytest.mark.parametrize(
    ("message", "name"),
    [(rpc("tools/list"), "tools/list"), (Message(), "http"), (rpc("tools/call"), "tools/call")],
)
async def test_what_is_no_tool_call_is_counted_and_not_told(message: Message, name: str) -> None:
    bench = Bench()
    await bench.ask(reply(), message)
    assert [outcome.tool for outcome in bench.counts.outcomes] == [name]
    assert bench.told.events == []


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        (Verdict.OK, "info"),
        (Verdict.TOOL_FAILED, "warning"),
        (Verdict.BUSY, "warning"),
        (Verdict.UPSTREAM_FAILED, "warning"),
        (Verdict.CLIENT_FAULT, "warning"),
    ],
)
async def test_a_failed_call_is_a_warning(verdict: Verdict, level: str) -> None:
    """DESIGN section 6: levels escalate."""
    bench = Bench()
    await bench.ask(reply(verdict=verdict))
    assert [(said, fields["verdict"]) for _, said, fields in bench.told.events] == [
        (level, verdict.value)
    ]


async def test_an_error_that_was_answered_for_is_counted_with_its_code() -> None:
    bench = Bench()
    error = error_of(UpstreamTimeoutError)
    error.attempts = 3
    await bench.ask(error)
    [outcome] = bench.counts.outcomes
    assert (outcome.code, outcome.attempts) == ("upstream_timeout", 3)
    assert bench.verdicts == [Verdict.UPSTREAM_FAILED]


async def test_a_caller_that_leaves_before_the_answer_has_left() -> None:
    """F27: neutral, and counted all the same."""
    bench = Bench()
    task = spawn(bench.ask(lambda _: asyncio.Event().wait()), "call")
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert bench.verdicts == [Verdict.LEFT]
    [(_, level, fields)] = bench.told.events
    assert (level, fields["verdict"], fields["status"], fields["attempts"]) == (
        "info", "left", None, 0,
    )  # fmt: skip


# --- the cache's part


@pytest.mark.parametrize(
    ("note", "word"),
    [
        (None, "bypass"),
        (CacheNote(hit=True), "hit"),
        (CacheNote(hit=True, stale="stale-if-error"), "stale"),
        (CacheNote(forwarded="stale"), "expired"),
        (CacheNote(collapsed=True, forwarded="miss"), "collapsed"),
        (CacheNote(forwarded="miss", stored=True), "miss"),
        (CacheNote(forwarded="request"), "request"),
    ],
)
def test_the_caches_part_is_told_in_one_word(note: CacheNote | None, word: str) -> None:
    answer = reply()._replace(cache=note)
    assert cache_part(answer) == word


def test_a_departure_has_no_part_of_the_cache() -> None:
    assert cache_part(None) == "bypass"


async def test_a_hit_is_told_as_any_other_call() -> None:
    """DESIGN section 6: hits too."""
    bench = Bench()
    answer = Reply(200, reply().headers, reply().body, cache=CacheNote(hit=True))
    await bench.ask(answer)
    assert [fields["cache"] for _, _, fields in bench.told.events] == ["hit"]
    assert bench.counts.outcomes[0].attempts == 0


# --- streams


async def test_a_stream_is_told_at_the_end_of_its_body() -> None:
    """House style, section 5.3."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    bench.clock._now += 60
    feed.give(b"answer", verdict=Verdict.TOOL_FAILED)
    feed.end()
    assert bench.counts.outcomes == []
    assert await within(read(answer)) == b"answer"
    assert bench.verdicts == [Verdict.TOOL_FAILED]
    assert bench.counts.outcomes[0].seconds == pytest.approx(60)
    assert isinstance(answer.body, Stream)
    await answer.body.aclose()
    assert len(bench.told.events) == 1, "exactly once"


@pytest.mark.parametrize("begun", [True, False], ids=["in its middle", "unread"])
async def test_a_stream_that_is_left_alone_is_a_departure(*, begun: bool) -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    assert isinstance(answer.body, Stream)
    if begun:
        feed.give(b"progress")
        await within(anext(aiter(answer.body)))
    await answer.body.aclose()
    assert bench.verdicts == [Verdict.LEFT]


async def test_a_stream_that_is_left_after_its_answer_is_judged_by_the_answer() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    assert isinstance(answer.body, Stream)
    feed.give(b"answer", verdict=Verdict.OK)
    await within(anext(aiter(answer.body)))
    await answer.body.aclose()
    assert bench.verdicts == [Verdict.OK]


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.UPSTREAM_FAILED, Verdict.CLIENT_FAULT])
async def test_a_body_that_is_streamed_to_its_end_is_judged_by_its_status(verdict: Verdict) -> None:
    """A download or an error page holds no answer that could judge it otherwise."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed, verdict=verdict, Content_Type="text/html"), Message())
    feed.give(b"a page")
    feed.end()
    await within(read(answer))
    assert bench.verdicts == [verdict]


async def test_a_body_that_is_cut_has_failed() -> None:
    """F3: no cut body is taken for whole, nor for a departure of the client."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed, Content_Type="application/json"))
    feed.give(b"{", error_of(UpstreamBrokenError))
    with pytest.raises(ProxyError):
        await within(read(answer))
    assert bench.verdicts == [Verdict.UPSTREAM_FAILED]


async def test_an_event_stream_that_is_cut_has_failed() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    feed.give(b"progress", error_of(UpstreamBrokenError))
    await within(read(answer))
    assert bench.verdicts == [Verdict.UPSTREAM_FAILED]


async def test_an_error_that_ends_a_stream_is_told_with_its_code() -> None:
    """docs/events.md, docs/metrics.md: of an error that the sidecar made."""
    bench, feed = Bench(), Feed()
    answer = await bench.ask(streamed(feed))
    feed.give(error_of(UpstreamTimeoutError))
    assert b"upstream_timeout" in await within(read(answer))
    assert [outcome.code for outcome in bench.counts.outcomes] == ["upstream_timeout"]
    assert [fields["code"] for _, _, fields in bench.told.events] == ["upstream_timeout"]


# --- traces


@pytest.mark.parametrize(("flags", "exemplar"), [(1, "4bf92f3577b34da6a3ce929d0e0e4736"), (0, "")])
async def test_an_event_names_the_trace_and_a_count_only_one_that_is_recorded(
    flags: int, exemplar: str
) -> None:
    """DESIGN section 6; an exemplar of a trace that nobody keeps would lead nowhere."""
    bench = Bench()
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", flags)
    await bench.ask(reply(), trace=trace)
    assert bench.counts.outcomes[0].trace_id == exemplar
    [(_, _, fields)] = bench.told.events
    assert list(fields)[:2] == ["request_id", "trace_id"]
    assert fields["trace_id"] == trace.trace_id
