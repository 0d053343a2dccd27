"""Reads that take unusually long are asked for a second time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Reply
from mcp_proxy.core.errors import UpstreamBrokenError
from mcp_proxy.core.intent import STREAM
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.hedge import Delay, Hedge
from tests.fakes import (
    READ,
    WRITE,
    FakeClock,
    Feed,
    Told,
    call,
    error_of,
    reply,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

SLOW, QUICK = reply(body=b"slow"), reply(body=b"quick")
DOWN = reply(502, verdict=Verdict.UPSTREAM_FAILED)


class Origin:
    """Answers each call when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []
        self.left = 0

    async def __call__(self, _: Call) -> Reply:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        try:
            outcome = await answer
        except asyncio.CancelledError:
            self.left += 1
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Reply)
        return outcome


class Bench:
    def __init__(self, delay: Delay = 0.5, budget: Budget | None = None) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.origin = Origin()
        self.hedge = Hedge(delay, budget or Budget(), self.clock, spawn, self.told)

    def ask(self, asked: Call | None = None) -> "asyncio.Task[Reply]":
        return spawn(self.hedge(asked or call(READ, tool()), self.origin), "caller")

    async def late(self, asked: Call | None = None) -> "asyncio.Task[Reply]":
        """Ask, and let more time pass than an answer should take."""
        task = self.ask(asked)
        await settle()
        await self.clock.advance(0.6)
        return task

    async def say(self, which: int, outcome: object) -> None:
        self.origin.asked[which].set_result(outcome)
        await settle()


async def test_an_answer_in_time_is_asked_for_once() -> None:
    bench = Bench()
    task = bench.ask()
    await settle()
    await bench.clock.advance(0.4)
    await bench.say(0, QUICK)
    assert await within(task) is QUICK
    await bench.clock.advance(10.0)
    assert (len(bench.origin.asked), bench.told.events) == (1, [])


@pytest.mark.parametrize("first", [0, 1])
async def test_the_first_answer_wins_and_the_other_call_is_let_go_of(first: int) -> None:
    bench = Bench()
    task = await bench.late()
    assert len(bench.origin.asked) == 2
    await bench.say(first, QUICK)
    assert await within(task) is QUICK
    await settle()
    assert bench.origin.left == 1
    ((event, _, fields),) = bench.told.events
    assert (event, fields["reason"], fields["wait_ms"]) == ("retry.scheduled", "no answer yet", 500)


async def test_a_failing_answer_in_time_is_the_answer() -> None:
    bench = Bench()
    task = bench.ask()
    await settle()
    await bench.say(0, DOWN)
    assert await within(task) is DOWN
    assert len(bench.origin.asked) == 1


@pytest.mark.parametrize("failure", [DOWN, error_of(UpstreamBrokenError)])
async def test_a_failure_waits_for_the_other_one(failure: object) -> None:
    bench = Bench()
    task = await bench.late()
    await bench.say(1, failure)
    assert not task.done()
    await bench.say(0, SLOW)
    assert await within(task) is SLOW


async def test_where_both_fail_the_first_call_says_how() -> None:
    bench = Bench()
    task = await bench.late()
    await bench.say(1, DOWN)
    await bench.say(0, error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(task)


async def test_an_error_in_time_is_not_asked_about_again() -> None:
    """That is for retry to decide, with its pauses."""
    bench = Bench()
    task = bench.ask()
    await settle()
    await bench.say(0, error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(task)
    assert len(bench.origin.asked) == 1


def a_stream_body() -> Call:
    body: Any = streamed(Feed()).body
    return call(READ, tool())._replace(body=body)


@pytest.mark.parametrize(
    "asked",
    [
        lambda: call(WRITE, tool()),
        lambda: call(replace(WRITE, repeatable=True), tool()),
        lambda: call(STREAM),
        lambda: call(READ, tool(), headers={"mcp-session-id": "s"}),
        a_stream_body,
    ],
    ids=["a write", "an idempotent write", "a stream", "a session's", "a body that is gone"],
)
async def test_nothing_else_is_ever_asked_twice(asked: Callable[[], Call]) -> None:
    """Issue 5: never for anything else; protocol.md: never two in flight with one (session, id)."""
    bench = Bench()
    task = await bench.late(asked())
    await bench.clock.advance(100.0)
    assert len(bench.origin.asked) == 1
    await bench.say(0, QUICK)
    assert await within(task) is QUICK


async def test_without_budget_the_first_one_is_waited_for() -> None:
    bench = Bench(budget=Budget(share=0.0, floor_per_second=0.0))
    task = await bench.late()
    assert len(bench.origin.asked) == 1
    await bench.say(0, SLOW)
    assert await within(task) is SLOW


@pytest.mark.parametrize("late", [False, True])
async def test_a_caller_who_leaves_takes_all_of_it_along(late: bool) -> None:
    """F27."""
    bench = Bench()
    task = await bench.late() if late else bench.ask()
    await settle()
    task.cancel()
    await settle()
    assert bench.origin.left == len(bench.origin.asked) == 1 + late


async def test_a_stream_that_lost_is_closed() -> None:
    feed = Feed()
    bench = Bench()
    task = await bench.late()
    bench.origin.asked[1].set_result(streamed(feed))
    bench.origin.asked[0].set_result(QUICK)
    assert await within(task) is QUICK
    await settle()
    assert feed.released == 1


async def test_the_delay_may_be_the_tools_own_percentile() -> None:
    """Issue 5: or the tool's own p95; while too little is known, nothing is asked twice."""
    bench = Bench("p95")
    for number in range(20):
        task = bench.ask()
        await settle()
        await bench.clock.advance(0.1 if number < 19 else 9.0)
        await bench.say(number, QUICK)
        await within(task)
    assert len(bench.origin.asked) == 20
    task = bench.ask()
    await settle()
    await bench.clock.advance(0.05)
    assert len(bench.origin.asked) == 21
    await bench.clock.advance(0.06)
    assert len(bench.origin.asked) == 22
    await bench.say(21, QUICK)
    assert await within(task) is QUICK
