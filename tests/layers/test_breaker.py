"""Stop asking what keeps failing: which outcome counts for which circuit."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from mcp_proxy.core.call import Call, Delivery, Reply
from mcp_proxy.core.errors import (
    BadRequestError,
    CircuitOpenError,
    OverloadedError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.message import Message
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.breaker import Breaker
from mcp_proxy.layers.circuit import Limits
from tests.fakes import (
    WRITE,
    FakeClock,
    Script,
    Told,
    call,
    error_of,
    reply,
    rest_tool,
    rpc,
    settle,
    spawn,
    tool,
    within,
)

TARGET = "target http://old"
OK = reply()


def unreachable(*, bridged: bool = False) -> UpstreamUnreachableError:
    error = UpstreamUnreachableError("Nobody there.")
    error.bridged = bridged
    return error


def silent(delivered: Delivery = Delivery.UNKNOWN) -> ProxyError:
    return error_of(UpstreamTimeoutError, delivered=delivered)


def broken(delivered: Delivery = Delivery.UNKNOWN) -> ProxyError:
    return error_of(UpstreamBrokenError, delivered=delivered)


class Bench:
    """A Breaker on a fake clock."""

    def __init__(
        self, limits: Limits | None = None, deadline: float = 300.0, among: str = ""
    ) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.openings: list[bool] = []  # of the target's own circuit, or of another
        self.breaker = Breaker(
            "http://old",
            limits or Limits(),
            self.clock,
            self.told,
            opened=self.openings.append,
            rng=lambda: 0.5,
            deadline=deadline,
            among=among,
        )

    def call(self, message: Message) -> Call:
        return call(WRITE, message, arrived=self.clock.now())

    async def ask(
        self, outcome: Reply | BaseException | Callable[[Call], object], message: Message
    ) -> Reply:
        return await within(self.breaker(self.call(message), Script(outcome)))

    async def fail(
        self, outcome: Reply | ProxyError, message: Message | None = None, times: int = 5
    ) -> None:
        for _ in range(times):
            with suppress(ProxyError):
                await self.ask(outcome, message or tool())

    async def refusal(self, message: Message | None = None) -> CircuitOpenError:
        origin = Script(OK)
        with pytest.raises(CircuitOpenError) as raised:
            await within(self.breaker(self.call(message or tool()), origin))
        assert origin.calls == [], "a refused call does not go out"
        return raised.value

    def states(self) -> dict[str, object]:
        return {name: shown["state"] for name, shown in self.breaker.snapshot().items()}

    async def half_open(self, message: Message | None = None) -> None:
        """Open the tool's circuit and let its recovery time pass."""
        await self.fail(silent(), message)
        await self.clock.advance(60)


# --- whom a failure counts for


async def test_what_cannot_be_reached_counts_for_the_target_and_not_for_the_tool() -> None:
    """DESIGN section 4: one per target for the connect phase only."""
    bench = Bench()
    await bench.fail(unreachable())
    assert bench.states() == {TARGET: "open", "tool look": "closed"}
    assert "target" in (await bench.refusal(rpc("tools/list"))).message


@pytest.mark.parametrize(
    "outcome",
    [silent(), broken(), reply(500, verdict=Verdict.UPSTREAM_FAILED)],
    ids=["silent", "broken", "500"],
)
async def test_a_dead_tool_does_not_trouble_its_neighbours(outcome: Reply | ProxyError) -> None:
    """DESIGN section 4: other tools do not notice; F31."""
    bench = Bench()
    await bench.fail(outcome)
    error = await bench.refusal()
    assert (error.retry_after, error.circuit, error.delivered) == (60.0, "open", Delivery.NO)
    assert await bench.ask(OK, tool("other")) is OK
    assert await bench.ask(OK, rpc("tools/list")) is OK
    assert bench.states()[TARGET] == "closed"


async def test_a_tool_of_one_service_is_not_the_tool_of_another() -> None:
    bench = Bench()
    await bench.fail(silent(), rest_tool(service="jira"))
    await bench.refusal(rest_tool(service="jira"))
    await bench.ask(OK, rest_tool(service="salesforce"))
    await bench.ask(OK, tool())
    assert list(bench.states()) == [
        TARGET, "tool jira/look", "tool salesforce/look", "tool look",
    ]  # fmt: skip


async def test_each_other_method_has_a_circuit_of_its_own() -> None:
    bench = Bench()
    await bench.fail(silent(), rpc("resources/read"))
    await bench.refusal(rpc("resources/read"))
    await bench.ask(OK, rpc("tools/list"))


async def test_what_is_no_message_has_the_targets_circuit_only() -> None:
    """A page or /api/chat: after it was sent, nothing is known to be dead."""
    bench = Bench()
    await bench.fail(silent(), Message(), times=20)
    assert bench.states() == {TARGET: "closed"}
    await bench.fail(unreachable(), Message())
    await bench.refusal(Message())


async def test_a_timeout_before_anything_was_delivered_is_no_fault_of_the_tool() -> None:
    bench = Bench()
    await bench.fail(broken(Delivery.NO), times=20)
    assert bench.states() == {TARGET: "closed", "tool look": "closed"}


async def test_connections_that_are_made_end_the_run_of_those_that_are_not() -> None:
    bench = Bench()
    await bench.fail(unreachable(), times=4)
    await bench.fail(silent(), tool("other"), times=1)
    await bench.fail(unreachable(), times=4)
    assert bench.states()[TARGET] == "closed"


# --- what breaks together


async def broken_together(bench: Bench, tries: int) -> None:
    """Let so many tries be under way when their server dies."""
    dying = asyncio.Event()

    async def cut(_: Call) -> Reply:
        await dying.wait()
        raise broken()

    calls = [bench.call(tool()) for _ in range(tries)]
    under_way = [spawn(bench.breaker(one, cut), "a try") for one in calls]
    await settle()
    dying.set()
    outcomes = await asyncio.gather(*under_way, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UpstreamBrokenError}


async def test_a_server_that_dies_under_many_calls_has_failed_once() -> None:
    """F23: it is the server that is away; its tools are sound, and are asked when it is back."""
    bench = Bench()
    await broken_together(bench, 100)
    assert bench.breaker.snapshot()["tool look"]["failures"] == 1
    assert await bench.ask(OK, tool()) is OK


async def test_a_tool_that_breaks_again_and_again_is_left_alone_all_the_same() -> None:
    """F31: each round began after the break before it, so it is another event."""
    bench = Bench()
    for _ in range(5):
        await broken_together(bench, 20)
    await bench.refusal()


async def test_what_is_no_message_may_break_together_too() -> None:
    bench = Bench()
    await bench.fail(broken(), Message(), times=20)
    assert bench.states() == {TARGET: "closed"}


# --- what is neutral


@pytest.mark.parametrize(
    "outcome",
    [
        reply(verdict=Verdict.TOOL_FAILED),
        reply(429, verdict=Verdict.BUSY),
        reply(404, verdict=Verdict.CLIENT_FAULT),
        error_of(OverloadedError),
        error_of(BadRequestError),
    ],
    ids=["isError", "429", "404", "overloaded", "bad request"],
)
async def test_what_says_nothing_of_the_server_is_neutral(outcome: Reply | ProxyError) -> None:
    """DESIGN section 4, Verdict; F7."""
    bench = Bench()
    await bench.fail(silent(), times=4)
    await bench.fail(outcome, times=100)
    assert bench.breaker.snapshot()["tool look"]["failures"] == 4
    assert bench.states() == {TARGET: "closed", "tool look": "closed"}


async def test_a_mistake_of_ours_is_neutral() -> None:
    bench = Bench()
    for _ in range(20):
        with pytest.raises(ValueError, match="a bug"):
            await bench.ask(ValueError("a bug"), tool())
    assert bench.states() == {TARGET: "closed", "tool look": "closed"}


async def test_a_thousand_departures_leave_it_closed() -> None:
    """F33: eight departing clients opened a plain pybreaker."""
    bench = Bench()
    gate = asyncio.Event()

    async def hang(_: Call) -> Reply:
        await gate.wait()
        return OK

    tasks = [spawn(bench.ask(hang, tool()), "call") for _ in range(1000)]
    await settle()
    for task in tasks:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)
    assert bench.states() == {TARGET: "closed", "tool look": "closed"}
    assert bench.breaker.snapshot()["tool look"]["failures"] == 0


async def test_a_server_that_outlasts_the_deadline_has_failed() -> None:
    """F2: counts for the tool's circuit, though all that happens here is a cancellation."""
    bench = Bench(deadline=300.0)
    for _ in range(5):
        task = spawn(bench.ask(lambda _: asyncio.Event().wait(), tool()), "call")
        await bench.clock.advance(300)
        task.cancel()
        await settle()
    assert bench.states() == {TARGET: "closed", "tool look": "open"}


# --- half-open


async def test_one_of_five_hundred_that_wait_goes_through() -> None:
    """F33."""
    bench = Bench()
    await bench.half_open()
    gate, asked = asyncio.Event(), []

    async def slow(call: Call) -> Reply:
        asked.append(call)
        await gate.wait()
        return OK

    tasks = [spawn(bench.ask(slow, tool()), "call") for _ in range(500)]
    await settle()
    assert len(asked) == 1
    assert sum(task.done() and isinstance(task.exception(), CircuitOpenError) for task in tasks)
    gate.set()
    outcomes = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert [isinstance(outcome, CircuitOpenError) for outcome in outcomes].count(True) == 499
    assert bench.states()["tool look"] == "closed"


async def test_a_probe_whose_caller_leaves_frees_its_place() -> None:
    bench = Bench()
    await bench.half_open()
    probe = spawn(bench.ask(lambda _: asyncio.Event().wait(), tool()), "probe")
    await settle()
    await bench.refusal()
    probe.cancel()
    await settle()
    assert bench.states()["tool look"] == "half_open"
    assert await bench.ask(OK, tool()) is OK


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.TOOL_FAILED, Verdict.CLIENT_FAULT])
async def test_any_answer_to_a_probe_proves_life(verdict: Verdict) -> None:
    """A tool that always answers `isError` would stay half-open for ever (libraries note 3)."""
    bench = Bench()
    await bench.half_open()
    await bench.ask(reply(verdict=verdict), tool())
    assert bench.states()["tool look"] == "closed"


async def test_a_busy_answer_to_a_probe_says_nothing() -> None:
    bench = Bench()
    await bench.half_open()
    await bench.ask(reply(503, verdict=Verdict.BUSY), tool())
    assert bench.states()["tool look"] == "half_open"
    await bench.ask(OK, tool())


async def test_an_outcome_of_before_the_trip_changes_nothing() -> None:
    """House style, section 7: outcomes of calls that left before the trip are not recorded."""
    bench = Bench()
    gate = asyncio.Event()

    async def slow(_: Call) -> Reply:
        await gate.wait()
        return OK

    late = spawn(bench.ask(slow, tool()), "late")
    await settle()
    await bench.half_open()
    probe = spawn(bench.ask(lambda _: asyncio.Event().wait(), tool()), "probe")
    await settle()
    gate.set()
    assert await within(late) is OK
    assert bench.states()["tool look"] == "half_open"
    await bench.refusal()
    probe.cancel()
    await settle()


async def test_a_call_that_its_tool_refuses_gives_the_targets_probe_back() -> None:
    bench = Bench(Limits(failures=1, recovery=60.0))
    await bench.fail(silent(), times=1)
    await bench.fail(unreachable(), tool("other"), times=1)
    await bench.clock.advance(59)
    bench.breaker._target.allow_probe()
    assert "tool look" in (await bench.refusal()).message
    assert await bench.ask(OK, tool("other")) is OK
    assert bench.states()[TARGET] == "closed"


# --- the server's presence


async def test_a_refused_connection_is_no_failure_while_a_restart_is_bridged() -> None:
    """DESIGN section 4: spending neither retry budget nor threshold."""
    bench = Bench()
    await bench.fail(unreachable(bridged=True), times=50)
    assert bench.states()[TARGET] == "closed"
    await bench.fail(unreachable())
    assert bench.states()[TARGET] == "open"


async def test_each_opening_is_told() -> None:
    """So that a target's return is noticed, and that it is asked whether it is not the target."""
    bench = Bench()
    await bench.fail(silent(), times=4)
    await bench.fail(unreachable(), tool("other"), times=4)
    assert bench.openings == []
    await bench.fail(unreachable(), tool("other"), times=1)
    assert bench.openings == [True]
    bench.breaker.returned()
    await bench.fail(silent(), times=5)
    assert bench.openings == [True, False]


async def test_the_tools_of_one_target_are_told_from_those_of_another() -> None:
    bench = Bench(among=" of http://b")
    await bench.fail(silent())
    assert bench.states() == {TARGET: "closed", "tool look of http://b": "open"}


async def test_a_lost_server_opens_the_targets_circuit_at_once() -> None:
    """DESIGN section 4: then the target's circuit opens and the monitor probes every second.

    So who asks again soon may find it back.
    """
    bench = Bench()
    bench.breaker.lost()
    assert (await bench.refusal()).retry_after == 5.0


async def test_when_the_server_returns_each_open_tool_may_prove_itself_at_once() -> None:
    """DESIGN section 4: the health monitor may close a target's circuit early."""
    bench = Bench()
    await bench.fail(silent())
    bench.breaker.lost()
    bench.breaker.returned()
    assert bench.states()[TARGET] == "closed"
    gate, asked = asyncio.Event(), []

    async def slow(call: Call) -> Reply:
        asked.append(call)
        await gate.wait()
        return OK

    probe = spawn(bench.ask(slow, tool()), "probe")
    await settle()
    await bench.refusal()
    gate.set()
    await within(probe)
    assert await bench.ask(OK, tool()) is OK


# --- what is shown


async def test_an_open_circuit_is_an_error_event_and_a_closed_one_information() -> None:
    """DESIGN section 6: `circuit.state_changed`; levels escalate."""
    bench = Bench()
    await bench.half_open()
    await bench.ask(OK, tool())
    change = {"circuit": "tool look"}
    assert bench.told.events == [
        ("circuit.state_changed", "error", {**change, "before": "closed", "after": "open"}),
        ("circuit.state_changed", "info", {**change, "before": "open", "after": "half_open"}),
        ("circuit.state_changed", "info", {**change, "before": "half_open", "after": "closed"}),
    ]


async def test_the_snapshot_shows_each_circuit() -> None:
    bench = Bench()
    await bench.fail(silent())
    await bench.clock.advance(12.3456)
    assert bench.breaker.snapshot() == {
        TARGET: {"state": "closed", "failures": 0, "opened": 0, "retry_after_s": None},
        "tool look": {"state": "open", "failures": 5, "opened": 1, "retry_after_s": 47.654},
    }


async def test_names_that_callers_invent_do_not_grow_it_for_ever() -> None:
    """F46; the least recently used circuit is forgotten, the others keep their state."""
    bench = Bench()
    await bench.fail(silent(), tool("dead"))
    for number in range(3000):
        await bench.ask(OK, tool(f"tool-{number}"))
        if number % 500 == 0:
            await bench.refusal(tool("dead"))
    assert len(bench.states()) == 1001
    await bench.refusal(tool("dead"))


@pytest.mark.parametrize(("slow", "took", "state"), [(2.0, 2.1, "open"), (2.0, 2.0, "closed")])
async def test_a_tool_that_is_too_slow_is_given_a_rest(
    slow: float, took: float, state: str
) -> None:
    """F2: it answers, and holds up everybody who asks; off by default."""
    for limits, expected in ((Limits(slow=slow), state), (Limits(), "closed")):
        bench = Bench(limits)

        async def answers_late(_: Call, bench: Bench = bench) -> Reply:
            await bench.clock.sleep(took)
            return reply()

        for _ in range(5):
            await bench.clock.run(bench.breaker(bench.call(tool()), answers_late))
        assert bench.breaker.snapshot()["tool look"]["state"] == expected


async def test_a_call_hears_how_its_circuits_stand() -> None:
    """A span says it; of a tool's and the target's circuit, the one that is not closed."""
    bench = Bench()

    def state(message: Message) -> str:
        return bench.breaker.state(bench.call(message))

    assert [state(tool()), state(Message())] == ["closed", "closed"]
    await bench.half_open()
    seen: list[str] = []

    async def probed(_: Call) -> Reply:
        seen.append(state(tool()))
        return OK

    await bench.ask(probed, tool())
    assert seen == ["half_open"]
    bench.breaker.lost()
    assert [state(tool()), state(Message())] == ["open", "open"]


# --- reset


async def test_a_reset_closes_what_is_not_closed() -> None:
    bench = Bench()
    await bench.fail(silent())
    await bench.fail(silent(), tool("other"))
    assert bench.breaker.reset("tool look") == ["tool look"]
    assert await bench.ask(OK, tool()) is OK
    await bench.refusal(tool("other"))
    bench.told.events.clear()
    assert bench.breaker.reset() == ["tool other"]
    assert bench.told.names() == ["circuit.state_changed"]
    assert bench.breaker.reset() == []
    assert await bench.ask(OK, tool("other")) is OK


async def test_a_reset_of_an_unknown_name_closes_nothing() -> None:
    bench = Bench()
    await bench.fail(silent())
    with pytest.raises(KeyError):
        bench.breaker.reset("tool nothing")
    await bench.refusal()
