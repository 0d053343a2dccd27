"""Let in only as many calls as may run; refuse the rest early."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from mcp_proxy.core.call import Call, Delivery, Reply, Stream
from mcp_proxy.core.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.gradient import Gradient
from mcp_proxy.core.intent import OPAQUE, RESPONSE, Intent, Stack
from mcp_proxy.core.message import NOTHING, Message
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.admit import QUEUE_FULL, SHARE, STANDS, TOO_LONG, Admit, Bounds, passes
from mcp_proxy.layers.deadline import Deadline
from mcp_proxy.layers.eager import Begun
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

PAGE = NOTHING


class Server:
    """An origin that answers a call when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._open: dict[str, asyncio.Future[Reply]] = {}

    async def __call__(self, asked: Call) -> Reply:
        self.asked.append(asked.request_id)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open[asked.request_id] = answer
        try:
            return await answer
        finally:
            del self._open[asked.request_id]

    @property
    def busy(self) -> int:
        return len(self._open)

    @property
    def here(self) -> list[str]:
        return list(self._open)

    async def answer(self, *names: str, outcome: Reply | BaseException | None = None) -> None:
        for name in names:
            if isinstance(outcome, BaseException):
                self._open[name].set_exception(outcome)
            else:
                self._open[name].set_result(outcome or reply())
            await settle()


class Bench:
    """An Admit before a server that answers when it is told to."""

    def __init__(
        self,
        limit: int = 2,
        per_tool: int = 100,
        queue: int = 100,
        *,
        deadline: float = 300.0,
        gradient: Gradient | None = None,
    ) -> None:
        self.restarting = False
        self.clock = FakeClock()
        self.told = Told()
        self.server = Server()
        self.admit = Admit(
            Bounds(limit, per_tool, queue),
            self.clock,
            self.told,
            deadline=deadline,
            gradient=gradient,
            restarting=lambda: self.restarting,
        )

    def ask(self, name: str, message: Message = PAGE, intent: Intent = WRITE) -> Any:
        asked = call(intent, message)._replace(request_id=name)
        task = spawn(self.admit(asked, self.server), name)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def asked(self, *names: str, message: Message = PAGE) -> list[asyncio.Task[Reply]]:
        """Send calls, one after the other."""
        tasks = []
        for name in names:
            tasks.append(self.ask(name, message))
            await settle()
        return tasks

    def shows(self, name: str) -> Any:
        return self.admit.snapshot()[name]

    @property
    def reasons(self) -> list[str]:
        return [fields["reason"] for _, _, fields in self.told.events]

    def assert_idle(self) -> None:
        shown = self.admit.snapshot()
        assert (shown["in_flight"], shown["waiting"], shown["busiest"]) == (0, 0, [])
        assert not self.admit._shares
        assert not self.admit._lines


async def refused(task: "asyncio.Task[Reply]") -> ProxyError:
    with pytest.raises(OverloadedError) as raised:
        await within(task)
    return raised.value


# --- the common case


async def test_a_call_that_finds_room_is_asked_in_the_same_step() -> None:
    """A layer that all calls walk through costs next to nothing: no task, no future, no pause."""
    bench, answer = Bench(), reply()
    begun = Begun(bench.admit(call(WRITE, tool()), Script(answer)))
    assert begun.result is answer
    bench.assert_idle()


async def test_no_more_calls_than_the_limit_are_with_the_server() -> None:
    bench = Bench(limit=2)
    tasks = await bench.asked("a", "b", "c")
    assert bench.server.asked == ["a", "b"]
    assert (bench.shows("in_flight"), bench.shows("waiting")) == (2, 1)
    await bench.server.answer("b")
    assert bench.server.asked == ["a", "b", "c"]
    await bench.server.answer("a", "c")
    assert [task.result().status for task in tasks] == [200, 200, 200]
    bench.assert_idle()
    assert bench.told.events == []


@pytest.mark.parametrize(
    "error",
    [
        error_of(UpstreamBrokenError),
        error_of(CircuitOpenError),
        error_of(DeadlineExceededError),
        ValueError("a mistake"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_gives_its_place_back(error: Exception) -> None:
    bench = Bench(limit=1)
    first, _ = await bench.asked("a", "b")
    await bench.server.answer("a", outcome=error)
    assert first.exception() is error
    assert bench.server.here == ["b"]
    await bench.server.answer("b")
    bench.assert_idle()


async def test_who_leaves_while_asked_gives_its_place_back() -> None:
    bench = Bench(limit=1)
    first, _ = await bench.asked("a", "b")
    first.cancel()
    await settle()
    assert bench.server.here == ["b"]
    await bench.server.answer("b")
    bench.assert_idle()


# --- streams


async def test_a_stream_holds_its_place_until_its_end() -> None:
    """House style, section 5: permits of a stream end at the body's end."""
    bench, feed = Bench(limit=1), Feed()
    first, second = await bench.asked("a", "b")
    await bench.server.answer("a", outcome=streamed(feed))
    reading = spawn(read(first.result()), "read")
    feed.give(b"half")
    await settle()
    assert bench.server.here == []
    assert bench.shows("in_flight") == 1
    feed.end()
    assert await within(reading) == b"half"
    assert bench.server.here == ["b"]
    await bench.server.answer("b")
    assert second.result().status == 200
    bench.assert_idle()


@pytest.mark.parametrize("closings", [1, 2])
async def test_a_stream_that_is_left_alone_gives_its_place_back_once(closings: int) -> None:
    bench, feed = Bench(limit=1), Feed()
    first, *_ = await bench.asked("a", "b", "c")
    await bench.server.answer("a", outcome=streamed(feed))
    body = first.result().body
    assert isinstance(body, Stream)
    for _ in range(closings):
        await within(body.aclose())
    await settle()
    assert bench.server.here == ["b"]
    assert (bench.shows("in_flight"), bench.shows("waiting")) == (1, 1)


async def test_a_stream_that_is_cut_gives_its_place_back() -> None:
    bench, feed = Bench(limit=1), Feed()
    (first,) = await bench.asked("a")
    await bench.server.answer("a", outcome=streamed(feed))
    feed.give(b"half", error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(read(first.result()))
    bench.assert_idle()


# --- the queue


async def test_those_who_wait_are_let_in_in_the_order_in_which_they_came() -> None:
    bench = Bench(limit=1)
    for number in range(6):
        await bench.asked(f"{number}", message=tool(f"tool-{number % 3}"))
    for number in range(6):
        assert bench.server.here == [f"{number}"]
        await bench.server.answer(f"{number}")
    bench.assert_idle()


async def test_nobody_waits_longer_than_a_second() -> None:
    """F48: a bounded queue with a deadline."""
    bench = Bench(limit=1)
    _, second = await bench.asked("a", "b", message=rest_tool("look", "jira"))
    await bench.clock.advance(0.999)
    assert not second.done()
    await bench.clock.advance(0.001)
    error = await refused(second)
    assert (error.code, error.status, error.delivered) == ("overloaded", 503, Delivery.NO)
    assert (error.retryable(repeatable=False), error.retry_after) == (True, 1.0)
    assert error.message == "There are too many calls at once; this one was not sent."
    assert bench.told.events == [
        (
            "load.shed",
            "warning",
            {
                "request_id": "b",
                "service": "jira",
                "tool": "look",
                "reason": TOO_LONG,
                "in_flight": 1,
                "waiting": 0,
            },
        )
    ]
    await bench.server.answer("a")
    bench.assert_idle()
    assert bench.shows("shed") == {TOO_LONG: 1}


async def test_nobody_waits_for_more_than_half_of_its_own_time() -> None:
    """Whoever is let in must have time left to be answered."""
    bench = Bench(limit=1, deadline=0.5)
    _, second = await bench.asked("a", "b")
    await bench.clock.advance(0.25)
    await refused(second)


async def test_a_call_within_a_deadline_is_refused_by_us_and_known_not_to_be_delivered() -> None:
    bench = Bench(limit=1, deadline=0.5)
    await bench.asked("a")
    deadline = Deadline(0.5, bench.clock, spawn)

    async def on(asked: Call) -> Reply:
        return await bench.admit(asked, bench.server)

    task = spawn(deadline(call(), on), "b")
    await bench.clock.advance(0.5)
    assert (await refused(task)).delivered is Delivery.NO


async def test_a_call_that_finds_the_queue_full_is_refused_at_once() -> None:
    """F48: the newest is shed first; those who wait keep their place."""
    bench = Bench(limit=1, queue=2)
    *_, fourth = await bench.asked("a", "b", "c", "d")
    await refused(fourth)
    assert bench.reasons == [QUEUE_FULL]
    assert bench.clock.now() == 1000.0
    await bench.server.answer("a", "b", "c")
    assert bench.server.asked == ["a", "b", "c"]
    bench.assert_idle()


async def test_without_a_queue_what_finds_no_place_is_refused_at_once() -> None:
    bench = Bench(limit=1, queue=0)
    _, second = await bench.asked("a", "b", message=tool())
    await refused(second)
    assert bench.reasons == [QUEUE_FULL]


async def test_a_refused_name_is_not_remembered() -> None:
    """Names of tools come from callers: nothing may grow with them."""
    bench = Bench(limit=1, queue=1)
    await bench.asked("a", "b", message=tool("known"))
    for number in range(20):
        (task,) = await bench.asked(f"{number}", message=tool(f"tool-{number}"))
        await refused(task)
    assert len(bench.admit._shares) == 1
    await bench.clock.advance(1)
    assert bench.shows("busiest") == [
        {"service": "", "tool": "known", "in_flight": 1, "waiting": 0, "limit": 100}
    ]
    await bench.server.answer("a")
    bench.assert_idle()


async def test_who_leaves_the_queue_gives_up_its_place() -> None:
    bench = Bench(limit=1, queue=2)
    _, second, third = await bench.asked("a", "b", "c", message=tool())
    second.cancel()
    await settle()
    assert second.cancelled()
    assert bench.shows("waiting") == 1
    await bench.server.answer("a")
    assert bench.server.here == ["c"]
    await bench.server.answer("c")
    assert third.result().status == 200
    bench.assert_idle()
    assert bench.told.events == []


async def test_the_last_of_a_tool_that_leaves_the_queue_is_forgotten() -> None:
    bench = Bench(limit=1)
    await bench.asked("a")
    (second,) = await bench.asked("b", message=tool("odd"))
    second.cancel()
    await settle()
    assert list(bench.admit._shares) == [("", "", "")]
    assert not bench.admit._lines


async def test_a_place_given_to_one_who_is_leaving_goes_to_the_next() -> None:
    """Both in one step of the loop: the place is given, and the caller is gone."""
    bench = Bench(limit=1)
    first, second, _ = await bench.asked("a", "b", "c")
    first.cancel()
    second.cancel()
    await settle()
    assert first.cancelled()
    assert second.cancelled()
    assert bench.server.asked == ["a", "c"]
    await bench.server.answer("c")
    bench.assert_idle()


async def test_one_who_leaves_before_a_place_is_given_does_not_take_it_along() -> None:
    bench = Bench(limit=1)
    first, second, _ = await bench.asked("a", "b", "c")
    second.cancel()
    first.cancel()
    await settle()
    assert bench.server.asked == ["a", "c"]
    await bench.server.answer("c")
    bench.assert_idle()


async def test_a_place_that_comes_in_the_last_moment_is_taken() -> None:
    """Both in one step of the loop: the patience ends, and the place is given."""
    bench, feed = Bench(limit=1), Feed()
    first, second = await bench.asked("a", "b")
    await bench.server.answer("a", outcome=streamed(feed))
    body = first.result().body
    assert isinstance(body, Stream)
    (patience,) = bench.clock._due
    _, _, end_patience = patience
    end_patience()
    await body.aclose()
    await settle()
    assert bench.server.here == ["b"]
    await bench.server.answer("b")
    assert second.result().status == 200
    bench.assert_idle()
    assert bench.told.events == []


# --- a queue that stands


async def test_a_burst_may_wait_behind_one_who_has_waited_for_long() -> None:
    bench = Bench(limit=1)
    await bench.asked("a", "b")
    await bench.clock.advance(0.99)
    await bench.asked("c")
    await bench.server.answer("a", "b", "c")
    assert bench.server.asked == ["a", "b", "c"]
    assert bench.told.events == []


async def overrun(bench: Bench, message: Message = PAGE) -> None:
    """Let one call be with the server, and another wait for its place in vain."""
    _, late = await bench.asked("a", "late", message=message)
    await bench.clock.advance(1)
    await refused(late)


async def test_a_call_that_would_wait_in_vain_is_refused_at_once() -> None:
    """F48: in an overload refusals are quick, and no place stays free."""
    bench = Bench(limit=1)
    await overrun(bench)
    await bench.asked("b")
    await bench.clock.advance(0.05)
    await bench.asked("c")
    await bench.clock.advance(0.01)
    fourth, fifth = await bench.asked("d", "e", message=tool())
    error = await refused(fourth)
    await refused(fifth)
    assert (error.delivered, error.retry_after) == (Delivery.NO, 1.0)
    assert error.message == "There are too many calls at once; this one was not sent."
    assert bench.reasons == [TOO_LONG, STANDS, STANDS]
    await bench.server.answer("a")
    await bench.asked("f")
    await bench.server.answer("b", "c", "f")
    assert bench.server.asked == ["a", "b", "c", "f"]
    bench.assert_idle()


@pytest.mark.parametrize(("calm", "waited"), [(1.0, 0.15), (4.0, 0.45), (20.0, 0.999)])
async def test_what_may_be_waited_for_grows_back(calm: float, waited: float) -> None:
    bench = Bench(limit=1)
    await overrun(bench)
    await bench.clock.advance(calm - waited)
    await bench.asked("b")
    await bench.clock.advance(waited - 0.001)
    await bench.asked("c")
    assert (bench.shows("waiting"), bench.reasons) == (2, [TOO_LONG])


async def test_a_tool_whose_line_stands_is_refused_alone() -> None:
    """F31: its neighbours may still wait, for a place with the server."""
    bench = Bench(limit=2, per_tool=1)
    await overrun(bench, tool("dead"))
    await bench.asked("dead-1", message=tool("dead"))
    await bench.asked("page-1", "page-2")
    await bench.clock.advance(0.1)
    (dead,) = await bench.asked("dead-2", message=tool("dead"))
    error = await refused(dead)
    assert error.message == "There are too many calls of dead at once; this one was not sent."
    await bench.asked("page-3")
    await bench.asked("other", message=tool("other"))
    await bench.server.answer("page-1", "page-2", "page-3")
    assert bench.server.asked == ["a", "page-1", "page-2", "page-3", "other"]
    assert bench.reasons == [SHARE, SHARE]


async def test_a_queue_that_stands_leaves_a_tools_own_line_alone() -> None:
    """A tool that takes one call at a time may have others waiting for their turn."""
    bench = Bench(limit=2, per_tool=1)
    await bench.asked("one-1", message=tool("one"))
    await overrun(bench)
    await bench.asked("page")
    await bench.asked("one-2", message=tool("one"))
    await bench.clock.advance(0.5)
    await bench.asked("one-3", message=tool("one"))
    (page,) = await bench.asked("other page")
    await refused(page)
    assert (bench.reasons, bench.shows("waiting")) == ([TOO_LONG, STANDS], 3)


@pytest.mark.parametrize(("places", "takes"), [(4, 0.2), (1, 0.05), (1, 0.6)])
async def test_in_an_overload_as_much_is_done_as_before(places: int, takes: float) -> None:
    """F48: three times what the server can do, for twelve seconds."""
    bench = Bench(limit=places)
    clock, done, refusals = bench.clock, [0.0], [(0.0, 0.0)]  # when; how long after what time

    async def work(_: Call) -> Reply:
        await clock.sleep(takes)
        return reply()

    async def ask() -> None:
        came = clock.now()
        try:
            await bench.admit(call(WRITE, tool()), work)
            done.append(clock.now() - began)
        except OverloadedError:
            refusals.append((came - began, clock.now() - came))

    began = clock.now()
    for number in range(int(3 * 12 * places / takes)):
        spawn(ask(), f"{number}")
        await clock.advance(takes / places / 3)
    assert len(done) >= 0.9 * 12 * places / takes
    waited = [seconds for came, seconds in refusals if came > 2]
    assert len(waited) > 0.6 * 3 * 10 * places / takes
    # but for the one at the head of a line that a slow server leaves standing
    assert sum(seconds > 0 for seconds in waited) <= 0.1 * len(waited)


# --- a tool's share


async def test_a_tool_that_has_its_share_holds_up_nobody_else() -> None:
    """F31: one dead tool among healthy ones."""
    bench = Bench(limit=10, per_tool=2)
    await bench.asked("dead-1", "dead-2", "dead-3", "dead-4", message=tool("dead"))
    assert bench.server.asked == ["dead-1", "dead-2"]
    await bench.asked("other-1", "other-2", message=tool("other"))
    await bench.asked("page-1", "page-2", "page-3")
    assert bench.server.busy == 7
    await bench.clock.advance(1)
    assert bench.reasons == [SHARE, SHARE]
    assert bench.shows("shed") == {SHARE: 2}


async def test_a_waiting_call_of_a_full_tool_is_passed_by_those_behind_it() -> None:
    bench = Bench(limit=3, per_tool=2)
    await bench.asked("x-1", "x-2", message=tool("x"))
    await bench.asked("y-1", message=tool("y"))
    await bench.asked("x-3", message=tool("x"))
    await bench.asked("y-2", message=tool("y"))
    await bench.server.answer("y-1")
    assert bench.server.asked[3:] == ["y-2"]
    await bench.server.answer("x-1")
    assert bench.server.asked[4:] == ["x-3"]


async def test_the_oldest_of_those_that_may_run_comes_first() -> None:
    """The place of a tool that has just come free is not for whoever asked last."""
    bench = Bench(limit=3, per_tool=2)
    await bench.asked("x-1", "x-2", message=tool("x"))
    await bench.asked("y-1", message=tool("y"))
    await bench.asked("x-3", message=tool("x"))
    await bench.asked("z-1", message=tool("z"))
    await bench.asked("x-4", message=tool("x"))
    await bench.server.answer("x-2")
    assert bench.server.asked[3:] == ["x-3"]
    await bench.server.answer("x-1")
    assert bench.server.asked[4:] == ["z-1"]
    await bench.server.answer("y-1")
    assert bench.server.asked[5:] == ["x-4"]


async def test_a_refusal_for_the_tools_share_names_the_tool() -> None:
    bench = Bench(limit=10, per_tool=1)
    _, second = await bench.asked("a", "b", message=tool("slow"))
    await bench.clock.advance(1)
    error = await refused(second)
    assert error.message == "There are too many calls of slow at once; this one was not sent."


async def test_a_tool_cannot_fill_the_queue() -> None:
    """It gets the same part of it as of the limit; a call beyond that is refused at once."""
    bench = Bench(limit=8, per_tool=2, queue=8)
    await bench.asked("1", "2", "3", "4", message=tool("dead"))
    (fifth,) = await bench.asked("5", message=tool("dead"))
    await refused(fifth)
    assert bench.reasons == [SHARE]
    assert bench.shows("waiting") == 2


async def test_a_full_queue_is_told_from_a_tools_share() -> None:
    bench = Bench(limit=2, per_tool=1, queue=2)
    await bench.asked("x-1", "x-2", message=tool("x"))
    await bench.asked("y-1", "y-2", message=tool("y"))
    (third,) = await bench.asked("x-3", message=tool("x"))
    (page,) = await bench.asked("page")
    await refused(third)
    await refused(page)
    assert bench.reasons == [SHARE, QUEUE_FULL]


@pytest.mark.parametrize(("most", "busy"), [(1, 1), (None, 4), (6, 6), (100, 8)])
async def test_a_rule_narrows_or_widens_a_tools_share(most: int | None, busy: int) -> None:
    """`[tools."…"] max_concurrency`; the limit of all still holds."""
    bench = Bench(limit=8, per_tool=4, queue=8)
    for number in range(20):
        bench.ask(f"{number}", tool(), Intent(Stack.FULL, max_concurrency=most))
    await settle()
    assert bench.server.busy == busy


async def test_a_narrow_share_leaves_the_queue_as_it_is() -> None:
    """A tool that takes one call at a time may have others waiting for their turn."""
    bench = Bench(limit=8, per_tool=4, queue=8)
    for number in range(6):
        bench.ask(f"{number}", tool(), Intent(Stack.FULL, max_concurrency=1))
    await settle()
    assert (bench.shows("in_flight"), bench.shows("waiting")) == (1, 4)
    assert bench.reasons == [SHARE]


async def test_a_method_has_a_share_and_other_http_has_none() -> None:
    """As it has a circuit; pages are not one thing that can hang."""
    bench = Bench(limit=20, per_tool=2)
    await bench.asked("1", "2", "3", message=rpc("resources/read"))
    await bench.asked("4", "5", "6", message=rpc("prompts/get"))
    await bench.asked("7", "8", "9")
    assert bench.server.asked == ["1", "2", "4", "5", "7", "8", "9"]


async def test_tools_of_one_name_behind_two_services_are_two() -> None:
    bench = Bench(limit=20, per_tool=1)
    await bench.asked("1", message=rest_tool("look", "jira"))
    await bench.asked("2", message=rest_tool("look", "salesforce"))
    await bench.asked("3", message=tool("look"))
    assert bench.server.busy == 3


# --- what needs no permit


@pytest.mark.parametrize(
    ("message", "intent", "free"),
    [
        (NOTHING, RESPONSE, True),
        (NOTHING, OPAQUE, False),
        (rpc("notifications/cancelled", None), WRITE, True),
        (rpc("notifications/initialized", None), WRITE, True),
        (rpc("initialize"), WRITE, True),
        (rpc("ping"), WRITE, True),
        (rpc("tasks/cancel"), WRITE, True),
        (rpc("tasks/update"), WRITE, True),
        (rpc("tasks/result"), WRITE, False),
        (rpc("tools/list"), WRITE, False),
        (tool(), WRITE, False),
        (tool(request_id=0), WRITE, False),
        (tool(request_id=None), WRITE, False),
        (rest_tool(), WRITE, False),
    ],
)
async def test_what_a_waiting_call_may_wait_for_needs_no_permit(
    message: Message, intent: Intent, free: bool
) -> None:
    """A tool that asks its user something holds its place until the answer is posted."""
    assert passes(call(intent, message)) is free
    bench = Bench(limit=1, queue=0)
    await bench.asked("call", message=tool())
    bench.ask("next", message, intent)
    await settle()
    assert bench.server.asked == ["call", "next"][: 1 + free]
    assert bench.shows("in_flight") == 1


async def test_an_elicitation_ends_though_all_places_are_taken() -> None:
    bench, feed = Bench(limit=1, queue=1), Feed()
    (first,) = await bench.asked("call", message=tool())
    await bench.server.answer("call", outcome=streamed(feed))
    reading = spawn(read(first.result()), "read")
    feed.give(b"question", asking=True)
    await bench.asked("behind", message=tool())
    bench.ask("the user's answer", NOTHING, RESPONSE)
    await settle()
    assert bench.server.asked == ["call", "the user's answer"]
    await bench.server.answer("the user's answer")
    feed.give(b"result", asking=False, verdict=Verdict.OK)
    feed.end()
    await within(reading)
    assert bench.server.here == ["behind"]


# --- the adaptive limit


class Seen(Gradient):
    """A gradient whose limit the test sets, and that remembers what it is told."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.told: list[tuple[str, float, int]] = []
        self.set = limit

    @property
    def limit(self) -> int:
        return self.set

    def answered(self, seconds: float, in_flight: int) -> None:
        self.told.append(("answered", round(seconds, 3), in_flight))

    def failed(self, in_flight: int) -> None:
        self.told.append(("failed", 0.0, in_flight))

    def refused(self) -> None:
        self.told.append(("refused", 0.0, 0))


def answer(verdict: Verdict = Verdict.OK, seconds: float | None = 0.25) -> Reply:
    return reply(verdict=verdict)._replace(upstream_seconds=seconds)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (answer(), [("answered", 0.25, 1)]),
        (answer(Verdict.TOOL_FAILED), [("answered", 0.25, 1)]),
        (answer(Verdict.UPSTREAM_FAILED), [("failed", 0.0, 1)]),
        (answer(Verdict.BUSY), [("failed", 0.0, 1)]),
        (answer(Verdict.CLIENT_FAULT), []),
        (answer(seconds=None), []),
        (error_of(UpstreamUnreachableError), [("failed", 0.0, 1)]),
        (error_of(UpstreamTimeoutError), [("failed", 0.0, 1)]),
        (error_of(UpstreamBrokenError), [("failed", 0.0, 1)]),
        (error_of(CircuitOpenError), []),
        (ValueError("a mistake"), []),
    ],
    ids=lambda value: getattr(value, "verdict", None) or type(value).__name__,
)
async def test_the_gradient_hears_what_the_server_took_and_where_it_failed(
    outcome: Reply | BaseException, told: list[tuple[str, float, int]]
) -> None:
    """Pauses between tries are not the server's; a refused client or an open circuit say nothing."""
    gradient = Seen(5)
    bench = Bench(gradient=gradient)
    await bench.asked("a")
    await bench.clock.advance(7)
    await bench.server.answer("a", outcome=outcome)
    assert gradient.told == told
    bench.assert_idle()


async def test_the_gradient_hears_how_many_were_in_flight_when_a_call_was_sent() -> None:
    gradient = Seen(5)
    bench = Bench(gradient=gradient)
    await bench.asked("a", "b", "c")
    await bench.server.answer("c", "a", "b", outcome=answer())
    assert [crowd for _, _, crowd in gradient.told] == [3, 1, 2]


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([(1, {}), (2, {"verdict": Verdict.OK}), (60, {})], [("answered", 3.0, 1)]),
        ([(1, {}), (2, {"verdict": Verdict.TOOL_FAILED})], [("answered", 3.0, 1)]),
        ([(1, {"verdict": Verdict.UPSTREAM_FAILED})], [("failed", 0.0, 1)]),
        ([(1, {"verdict": Verdict.CLIENT_FAULT})], []),
        ([(1, {}), (60, {})], []),
        ([(1, {"asking": True}), (60, {"asking": False, "verdict": Verdict.OK})], []),
    ],
    ids=["answered", "tool failed", "failed", "client's fault", "no answer", "asked the client"],
)
async def test_a_stream_is_timed_until_its_answer(
    pieces: list[tuple[float, dict[str, Any]]], told: list[tuple[str, float, int]]
) -> None:
    """Its head comes before the work, its end when the client has read it, and people are slow."""
    gradient, feed = Seen(5), Feed()
    bench = Bench(gradient=gradient)
    (task,) = await bench.asked("a")
    await bench.server.answer("a", outcome=streamed(feed))
    reading = spawn(read(task.result()), "read")
    for seconds, shown in pieces:
        await bench.clock.advance(seconds)
        feed.give(b".", **shown)
    feed.end()
    assert await within(reading) == b"." * len(pieces)
    assert gradient.told == told
    bench.assert_idle()


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({}, [("failed", 0.0, 1)]),
        ({"verdict": Verdict.OK}, [("answered", 0.0, 1)]),
        ({"asking": True}, []),
    ],
    ids=["unanswered", "answered", "asked the client"],
)
async def test_a_stream_that_is_cut_without_its_answer_is_a_failure(
    shown: dict[str, Any], told: list[tuple[str, float, int]]
) -> None:
    gradient, feed = Seen(5), Feed()
    bench = Bench(gradient=gradient)
    (task,) = await bench.asked("a")
    await bench.server.answer("a", outcome=streamed(feed))
    feed.give(b".", **shown)
    feed.give(error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(read(task.result()))
    assert gradient.told == told
    bench.assert_idle()


async def test_a_stream_with_a_failing_head_is_a_failure() -> None:
    gradient, feed = Seen(5), Feed()
    bench = Bench(gradient=gradient)
    failing = streamed(feed, 500, Verdict.UPSTREAM_FAILED)._replace(upstream_seconds=0.1)
    await bench.asked("a")
    await bench.server.answer("a", outcome=failing)
    assert gradient.told == [("failed", 0.0, 1)]


async def test_the_limit_follows_the_gradient() -> None:
    gradient = Seen(1)
    bench = Bench(limit=100, gradient=gradient)
    await bench.asked("a", "b", "c", "d")
    assert bench.server.asked == ["a"]
    gradient.set = 3
    await bench.server.answer("a", outcome=answer())
    assert bench.server.asked == ["a", "b", "c", "d"]
    assert bench.shows("limit") == 3
    gradient.set = 1
    await bench.asked("e")
    await bench.server.answer("b", "c", outcome=answer(Verdict.BUSY))
    assert bench.server.here == ["d"]
    await bench.server.answer("d", outcome=answer())
    assert bench.server.here == ["e"]


async def test_a_limit_that_grows_on_a_refusal_lets_in_who_waits() -> None:
    """A look of the gradient's ends when it lets nobody through."""
    gradient = Seen(1)
    bench = Bench(limit=100, queue=1, gradient=gradient)
    await bench.asked("a", "b")
    gradient.set = 2
    (third,) = await bench.asked("c")
    await refused(third)
    assert gradient.told == [("refused", 0.0, 0)]
    assert bench.server.asked == ["a", "b"]


async def test_a_failure_moves_a_real_gradient() -> None:
    gradient = Gradient(16, least=1)
    bench = Bench(limit=16, gradient=gradient)
    for number in range(20):
        await bench.asked(f"{number}")
        await bench.server.answer(f"{number}", outcome=answer(Verdict.BUSY))
    assert bench.shows("limit") == gradient.limit < 16


# --- what it shows


async def test_the_snapshot_shows_the_busiest_tools() -> None:
    bench = Bench(limit=100, per_tool=3, queue=200)
    for number in range(1, 8):
        names = (f"{number}-{i}" for i in range(number))
        await bench.asked(*names, message=rest_tool(f"tool-{number}", "jira"))
    await bench.asked("list", message=rpc("tools/list"))
    await bench.asked("page-1", "page-2", "page-3", "page-4")
    shown = bench.admit.snapshot()
    assert (shown["in_flight"], shown["waiting"], shown["limit"]) == (23, 10, 100)
    assert bench.shows("busiest") == [
        {"service": "jira", "tool": f"tool-{n}", "in_flight": 3, "waiting": n - 3, "limit": 3}
        for n in (7, 6, 5, 4, 3)
    ]


async def test_the_snapshot_calls_a_method_by_its_name() -> None:
    bench = Bench()
    await bench.asked("list", message=rpc("tools/list"))
    assert bench.shows("busiest")[0]["tool"] == "tools/list"


# --- all of it together


class Model:
    """What must hold in each moment, whatever happens."""

    LIMIT, SHARE_OF_EACH, QUEUE = 5, 2, 6

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = Bench(self.LIMIT, self.SHARE_OF_EACH, self.QUEUE)
        self.tasks: dict[str, asyncio.Task[Reply]] = {}
        self.tools: dict[str, str] = {}

    async def step(self) -> None:
        act: Callable[[], Any] = self.rng.choice(
            [self._arrive, self._arrive, self._arrive, self._answer, self._leave, self._wait]
        )
        await act()
        await settle()
        self.tasks = {name: task for name, task in self.tasks.items() if not task.done()}
        self.check()

    async def _arrive(self) -> None:
        name, kind = f"{len(self.tools)}", self.rng.choice("xyz")
        self.tools[name] = kind
        self.tasks[name] = self.bench.ask(name, tool(kind))

    async def _answer(self) -> None:
        if self.bench.server.here:
            await self.bench.server.answer(self.rng.choice(self.bench.server.here))

    async def _leave(self) -> None:
        for name in self.rng.sample(list(self.tasks), min(len(self.tasks), self.rng.randint(0, 3))):
            self.tasks[name].cancel()

    async def _wait(self) -> None:
        await self.bench.clock.advance(self.rng.choice([0.1, 0.4, 1.0]))

    def check(self) -> None:
        here = self.bench.server.here
        waiting = [name for name in self.tasks if name not in here]
        shown = self.bench.admit.snapshot()
        assert (shown["in_flight"], shown["waiting"]) == (len(here), len(waiting))
        assert len(here) <= self.LIMIT
        assert len(waiting) <= self.QUEUE
        of_each = {kind: sum(self.tools[name] == kind for name in here) for kind in "xyz"}
        assert max(of_each.values()) <= self.SHARE_OF_EACH
        if len(here) < self.LIMIT:  # nobody waits for a place that is free
            assert all(of_each[self.tools[name]] == self.SHARE_OF_EACH for name in waiting)
        for kind in "xyz":  # first come, first served
            asked = [int(name) for name in self.bench.server.asked if self.tools[name] == kind]
            assert all(earlier < later for earlier, later in pairwise(asked))


@pytest.mark.parametrize("seed", range(8))
async def test_the_bounds_hold_whatever_comes(seed: int) -> None:
    model = Model(seed)
    for _ in range(150):
        await model.step()
    for task in model.tasks.values():
        task.cancel()
    await settle()
    model.bench.assert_idle()
    assert sum(model.bench.shows("shed").values()) == len(model.bench.told.events)


# --- while the server restarts


async def test_who_waits_while_the_server_restarts_waits_on() -> None:
    """F23: no call ends then, and that says nothing of the load."""
    bench = Bench(limit=1)
    bench.restarting = True
    [held, waiting] = await bench.asked("held", "waiting")
    await bench.clock.advance(2.5)
    assert not waiting.done()
    [late] = await bench.asked("late")
    assert not late.done(), "nobody waits in vain"
    bench.restarting = False
    await bench.clock.advance(4)
    assert not waiting.done(), "it has to catch up"
    await bench.server.answer("held")
    assert bench.server.asked == ["held", "waiting"]
    await bench.clock.advance(1.9)
    assert not late.done()
    await bench.clock.advance(1.2)
    assert isinstance(late.exception(), OverloadedError), "by now it is too slow, and not late"
    await bench.server.answer("waiting")
    await within(asyncio.gather(held, waiting))


async def test_a_restart_is_waited_for_half_the_deadline_at_most() -> None:
    """Whoever is let in must have time left to be answered."""
    bench = Bench(limit=1, deadline=6.0)
    bench.restarting = True
    _, waiting = await bench.asked("held", "waiting")
    await bench.clock.advance(2.9)
    assert not waiting.done()
    await bench.clock.advance(0.2)
    assert isinstance(waiting.exception(), OverloadedError)
