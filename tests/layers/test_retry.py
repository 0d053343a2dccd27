"""Ask again where that is safe."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest
from aiohttp_retry import ExponentialRetry, JitterRetry
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Delivery, Reply, Stream
from mcp_proxy.core.errors import (
    CircuitOpenError,
    InternalError,
    OverloadedError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.retry import Backoff, Retry, may_follow
from tests.fakes import (
    EPOCH,
    READ,
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    reply,
    rest_tool,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

OK = reply(body=b"ok")
DOWN = reply(503, b"down", Verdict.UPSTREAM_FAILED)


def unreachable(*, bridged: bool = False) -> UpstreamUnreachableError:
    error = UpstreamUnreachableError("Nobody there.")
    error.bridged = bridged
    return error


def silent() -> ProxyError:
    return error_of(UpstreamTimeoutError, delivered=Delivery.UNKNOWN)


def broken(delivered: Delivery = Delivery.UNKNOWN) -> ProxyError:
    return error_of(UpstreamBrokenError, delivered=delivered)


def busy(after: str, status: int = 503) -> Reply:
    return reply(status, b"busy", Verdict.BUSY, Retry_After=after)


class Restarts:
    """A presence whose answers stand in a list: does the server come back?"""

    def __init__(self, *returns: bool, seconds: float = 0.25, clock: FakeClock | None = None):
        self._returns = list(returns)
        self._seconds = seconds
        self._clock = clock
        self.waited = 0

    async def returned(self, target: str) -> bool:
        assert target == "", "an error of no target in particular waits for any"
        self.waited += 1
        if self._clock is not None:
            await self._clock.sleep(self._seconds)
        return bool(self._returns) and self._returns.pop(0)


class Bench:
    """A Retry on a fake clock; `rng` at 1 makes each wait its ceiling."""

    def __init__(
        self,
        *,
        retries: int = 3,
        base: float = 0.1,
        factor: float = 2.0,
        maximum: float = 5.0,
        rng: Callable[[], float] = lambda: 1.0,
        window: float = 45.0,
        attempt_timeout: float = 25.0,
        budget: Budget | None = None,
        presence: Restarts | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.retry = Retry(
            Backoff(retries, base, factor, maximum),
            budget or Budget(),
            presence or Restarts(),
            self.clock,
            self.told,
            rng=rng,
            window=window,
            attempt_timeout=attempt_timeout,
        )

    async def ask(self, origin: Script, asked: Call) -> Reply:
        return await self.clock.run(self.retry(asked, origin))

    async def fail(self, origin: Script, asked: Call) -> ProxyError:
        with pytest.raises(ProxyError) as raised:
            await self.ask(origin, asked)
        return raised.value


# --- which calls are asked again


async def test_a_good_answer_is_returned_as_it_is() -> None:
    bench = Bench()
    assert await bench.ask(origin := Script(OK), call(WRITE)) is OK
    assert len(origin.calls) == 1
    assert bench.told.events == []


@pytest.mark.parametrize(
    "outcome",
    [
        silent(),
        broken(),
        DOWN,
        busy("1"),
        busy("0", 429),
        reply(500, verdict=Verdict.UPSTREAM_FAILED),
        reply(200, b"not json", Verdict.UPSTREAM_FAILED),
    ],
    ids=["silent", "broken", "503", "503 busy", "429", "500", "unreadable"],
)
async def test_a_write_that_may_have_been_delivered_is_never_sent_again(
    outcome: Reply | ProxyError,
) -> None:
    """DESIGN section 4, last row but two; F2, F5: A(SE) = 1.00."""
    origin = Script(outcome, OK)
    bench = Bench()
    if isinstance(outcome, ProxyError):
        assert await bench.fail(origin, call(WRITE, tool())) is outcome
        assert outcome.delivered is Delivery.UNKNOWN
    else:
        assert await bench.ask(origin, call(WRITE, tool())) == outcome
    assert len(origin.calls) == 1


@pytest.mark.parametrize("asked", [call(WRITE, tool()), call(READ, tool()), call()])
async def test_any_call_that_was_not_delivered_is_sent_again(asked: Call) -> None:
    """DESIGN section 4: provably not delivered; F1."""
    origin = Script(unreachable(), broken(Delivery.NO), OK)
    answer = await Bench().ask(origin, asked)
    assert (answer.body, answer.attempts) == (OK.body, 3)
    assert len(origin.calls) == 3


@pytest.mark.parametrize(
    "outcome",
    [silent(), broken(), unreachable(), DOWN, busy("1"), busy("1", 429)],
    ids=["silent", "broken", "unreachable", "503", "busy", "429"],
)
async def test_a_read_is_sent_again_after_each_failure_that_may_pass(
    outcome: Reply | ProxyError,
) -> None:
    origin = Script(outcome, OK)
    assert (await Bench().ask(origin, call(READ))).attempts == 2
    if isinstance(outcome, ProxyError):
        assert outcome.__traceback__ is None, "it may hold the frame that holds it"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_the_statuses_of_a_server_that_may_recover_are_mended(status: int) -> None:
    """aiohttp-retry 2.9.1 repeats on every 5xx by default, and on no 429."""
    verdict = Verdict.BUSY if status == 429 else Verdict.UPSTREAM_FAILED
    assert (await Bench().ask(Script(reply(status, verdict=verdict), OK), call(READ))).attempts == 2


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (501, Verdict.UPSTREAM_FAILED),
        (505, Verdict.UPSTREAM_FAILED),
        (404, Verdict.CLIENT_FAULT),
        (401, Verdict.CLIENT_FAULT),
        (200, Verdict.TOOL_FAILED),
        (302, Verdict.OK),
    ],
)
async def test_an_answer_that_would_come_again_is_passed_on(status: int, verdict: Verdict) -> None:
    """F7: a failed tool is an answer; `retry_all_server_errors` of aiohttp-retry is off."""
    origin = Script(reply(status, verdict=verdict), OK)
    assert (await Bench().ask(origin, call(READ))).status == status
    assert len(origin.calls) == 1


@pytest.mark.parametrize(
    "error", [error_of(OverloadedError), error_of(InternalError), error_of(CircuitOpenError)]
)
async def test_our_own_refusals_are_not_asked_again(error: ProxyError) -> None:
    """House style, section 3: an open circuit ends the retries."""
    origin = Script(error, OK)
    assert await Bench().fail(origin, call(READ)) is error
    assert len(origin.calls) == 1


async def test_a_mistake_of_ours_is_not_asked_again() -> None:
    origin = Script(ValueError("a bug"), OK)
    with pytest.raises(ValueError, match="a bug"):
        await Bench().ask(origin, call(READ))
    assert len(origin.calls) == 1


async def test_a_body_that_was_read_from_a_stream_is_never_sent_again() -> None:
    """Libraries note 2: a generator body is sent empty on tries 2 … n."""
    asked = call(READ)._replace(body=Feed().body)
    origin = Script(unreachable(), OK)
    error = await Bench().fail(origin, asked)
    assert error.delivered is Delivery.NO
    assert len(origin.calls) == 1


async def test_a_streamed_body_is_not_given_up_early_for_a_try_that_cannot_follow() -> None:
    """DESIGN section 4: a try gives up after silence only if another may follow."""
    origin = Script(OK)
    await Bench().ask(origin, call(READ)._replace(body=Feed().body))
    assert origin.calls[0].silence is None


# --- what is told of the tries


async def test_the_tries_are_counted_in_the_answer_and_in_the_calls() -> None:
    origin = Script(DOWN, DOWN, OK)
    answer = await Bench().ask(origin, call(READ))
    assert answer.attempts == 3
    assert [seen.attempt for seen in origin.calls] == [1, 2, 3]


async def test_the_last_answer_passes_unchanged_when_tries_are_spent() -> None:
    """DESIGN section 5: 5xx after retries are spent passes through."""
    origin = Script(DOWN)
    answer = await Bench(retries=2).ask(origin, call(READ))
    assert (answer.status, answer.body, answer.attempts) == (503, DOWN.body, 3)
    assert len(origin.calls) == 3


async def test_the_tries_are_counted_in_the_error() -> None:
    assert (await Bench(retries=3).fail(Script(unreachable()), call(READ))).attempts == 4


async def test_a_refusal_of_the_circuit_is_no_try() -> None:
    """DESIGN section 5: `attempts` counts what went out."""
    error = await Bench().fail(Script(DOWN, error_of(CircuitOpenError)), call(READ))
    assert error.attempts == 1
    error = await Bench().fail(Script(error_of(CircuitOpenError)), call(READ))
    assert error.attempts == 0


async def test_one_delivered_try_makes_the_call_delivered() -> None:
    """DESIGN section 5: `delivered: no` only when it is proved, over all tries."""
    error = await Bench().fail(Script(silent(), error_of(CircuitOpenError)), call(READ))
    assert isinstance(error, CircuitOpenError)
    assert error.delivered is Delivery.UNKNOWN
    error = await Bench(retries=1).fail(Script(DOWN, unreachable()), call(READ))
    assert error.delivered is Delivery.UNKNOWN


async def test_a_call_none_of_whose_tries_went_out_is_not_delivered() -> None:
    error = await Bench().fail(Script(unreachable(), unreachable()), call(WRITE))
    assert error.delivered is Delivery.NO


async def test_a_write_stops_at_the_first_try_that_may_have_been_delivered() -> None:
    """A write repeated: the worst that this package can do."""
    origin = Script(unreachable(), broken(), OK)
    error = await Bench().fail(origin, call(WRITE))
    assert error.delivered is Delivery.UNKNOWN
    assert len(origin.calls) == 2


async def test_each_repeat_is_an_event_without_arguments() -> None:
    """DESIGN section 6: `retry.scheduled`; F42."""
    bench = Bench()
    await bench.ask(Script(silent(), DOWN, OK), call(READ, rest_tool(secret="s3cret")))
    common = {"request_id": "request-1", "service": "jira", "tool": "look", "method": ""}
    assert bench.told.events == [
        (
            "retry.scheduled",
            "info",
            {**common, "attempt": 1, "wait_ms": 100, "reason": "upstream_timeout"},
        ),
        ("retry.scheduled", "info", {**common, "attempt": 2, "wait_ms": 200, "reason": 503}),
    ]


# --- how long it waits


async def test_waits_grow_from_the_base_by_the_factor_up_to_the_maximum() -> None:
    """DESIGN section 4, Retries. The library's own first delay would be base x factor."""
    bench = Bench(retries=5, base=0.1, factor=3.0, maximum=1.0)
    await bench.ask(Script(DOWN), call(READ))
    assert bench.clock.slept == pytest.approx([0.1, 0.3, 0.9, 1.0, 1.0])


@pytest.mark.parametrize(("drawn", "waits"), [(0.0, []), (0.5, [0.05, 0.1, 0.2])])
async def test_jitter_is_full_below_the_ceiling(drawn: float, waits: list[float]) -> None:
    bench = Bench(rng=lambda: drawn)
    await bench.ask(Script(DOWN), call(READ))
    assert bench.clock.slept == pytest.approx(waits)


@given(st.integers(1, 10), st.floats(0.001, 5), st.floats(1, 10), st.floats(0, 1), st.floats(0, 60))
@settings(deadline=None)
def test_a_ceiling_never_exceeds_its_maximum_nor_falls_below_the_one_before(
    retries: int, base: float, factor: float, drawn: float, maximum: float
) -> None:
    """JitterRetry of aiohttp-retry waits longer than its own maximum (libraries note 2)."""
    policy = Backoff(retries, base, factor, maximum)
    ceilings = [policy.get_timeout(attempt) for attempt in range(1, retries + 1)]
    assert ceilings == sorted(ceilings)
    assert all(drawn * ceiling <= maximum for ceiling in ceilings)
    assert ceilings[0] == min(base, maximum)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_names_a_time_is_not_asked_earlier(status: int) -> None:
    """F6: never repeated earlier than asked."""
    bench = Bench(rng=lambda: 0.0)
    await bench.ask(Script(busy("7", status), OK), call(READ))
    assert bench.clock.slept == [7.0]


async def test_a_server_that_names_a_date_is_not_asked_earlier() -> None:
    bench = Bench()
    date = format_datetime(EPOCH + timedelta(seconds=9), usegmt=True)
    await bench.ask(Script(busy(date), OK), call(READ))
    assert bench.clock.slept == [9.0]


@pytest.mark.parametrize("hint", ["soon", "-5", "1.5", "", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_time_that_makes_no_sense_or_has_passed_counts_as_absent(hint: str) -> None:
    """F6: garbage and negative values."""
    bench = Bench()
    await bench.ask(Script(busy(hint), OK), call(READ))
    assert bench.clock.slept == pytest.approx([0.1])


@pytest.mark.parametrize("hint", ["45", "3600", "1000000000", "Fri, 01 Jan 2027 00:00:00 GMT"])
async def test_a_time_beyond_the_window_is_passed_on_at_once(hint: str) -> None:
    """DESIGN section 4: `Retry-After` is passed on at once when it reaches beyond the window."""
    bench = Bench()
    origin = Script(busy(hint), OK)
    answer = await bench.ask(origin, call(READ))
    assert (answer.status, answer.headers["Retry-After"]) == (503, hint)
    assert bench.clock.now() == 1000.0
    assert len(origin.calls) == 1


async def test_a_hint_on_an_answer_that_is_no_refusal_is_obeyed_too() -> None:
    """A 502 with Retry-After is a failure that names its time."""
    bench = Bench()
    failed = reply(502, verdict=Verdict.UPSTREAM_FAILED, Retry_After="2")
    await bench.ask(Script(failed, OK), call(READ))
    assert bench.clock.slept == [2.0]


# --- where it ends


async def test_no_try_starts_after_the_window() -> None:
    """DESIGN section 4: no new try starts later than MCP_RETRY_WINDOW after the call came."""
    bench = Bench(retries=10, base=4.0, maximum=4.0, window=10.0)
    starts: list[float] = []

    async def down(_: Call) -> Reply:
        starts.append(bench.clock.now() - 1000.0)
        return DOWN

    await bench.ask(Script(down), call(READ))
    assert starts == [0.0, 4.0, 8.0]


async def test_the_window_counts_from_the_arrival_of_the_call() -> None:
    origin = Script(DOWN, OK)
    await Bench(window=10.0).ask(origin, call(READ, arrived=989.0))
    assert len(origin.calls) == 1


async def test_a_spent_budget_ends_the_repeats() -> None:
    """F32: in a total outage the repeats add a tenth."""
    bench = Bench(budget=Budget(share=0.0, floor_per_second=0.3))  # 3 in its 10 s
    origin = Script(DOWN)
    first = await bench.ask(origin, call(READ))
    second = await bench.ask(origin, call(READ))
    assert (first.attempts, second.attempts) == (4, 1)


async def test_a_storm_is_repeated_by_a_tenth_only() -> None:
    """F32: A ≤ 1.1 while everything fails."""
    bench = Bench(base=0.0, budget=Budget(share=0.1, floor_per_second=0.0))
    origin = Script(DOWN)
    for _ in range(2000):
        await bench.retry(call(READ), origin)
    assert len(origin.calls) <= 2200


async def test_a_wait_that_is_too_long_costs_no_budget() -> None:
    budget = Budget(share=0.0, floor_per_second=0.1)  # one
    bench = Bench(budget=budget)
    await bench.ask(Script(busy("100")), call(READ))
    assert budget.take(bench.clock.now())


async def test_a_caller_that_leaves_ends_the_repeats() -> None:
    bench = Bench()
    origin = Script(DOWN, OK)
    task = spawn(bench.retry(call(READ), origin), "call")
    await settle()
    task.cancel()
    await settle()
    await bench.clock.advance(60)
    assert task.cancelled()
    assert len(origin.calls) == 1


# --- how long a try may be silent


async def test_a_try_is_given_up_after_silence_only_while_another_may_follow() -> None:
    """DESIGN section 4: the last try has the rest."""
    origin = Script(DOWN)
    await Bench(retries=2).ask(origin, call(READ))
    assert [seen.silence for seen in origin.calls] == [25.0, 25.0, None]


async def test_a_write_has_all_the_time_there_is() -> None:
    """A slow tool that worked before still works."""
    origin = Script(unreachable(), OK)
    await Bench().ask(origin, call(WRITE))
    assert [seen.silence for seen in origin.calls] == [None, None]


async def test_a_try_after_whose_silence_the_window_is_over_is_the_last() -> None:
    origin = Script(OK)
    await Bench(window=45.0).ask(origin, call(READ, arrived=980.0))
    assert origin.calls[0].silence is None


@pytest.mark.parametrize("intent", [READ, WRITE])
async def test_a_rule_may_name_the_silence_of_its_tool(intent: object) -> None:
    """DESIGN section 4: per-tool rules may narrow or widen each."""
    origin = Script(OK)
    asked = call(replace(READ if intent is READ else WRITE, attempt_timeout=3.0))
    await Bench().ask(origin, asked)
    assert origin.calls[0].silence == 3.0


# --- connections


async def test_a_failed_stream_is_released_before_the_wait() -> None:
    """aiohttp-retry sleeps on the answer that failed: a pool of 10 and 20 calls dead-lock."""
    bench, feed = Bench(), Feed()
    origin = Script(streamed(feed, 503, Verdict.UPSTREAM_FAILED), OK)
    task = spawn(bench.retry(call(READ), origin), "call")
    await settle()
    assert feed.released == 1
    assert len(origin.calls) == 1, "it still waits"
    await bench.clock.advance(1)
    assert (await within(task)).body == OK.body


async def test_a_stream_that_is_passed_on_is_left_open() -> None:
    """House style, section 5.2: returning the reply is the commit point."""
    feed = Feed()
    answer = await Bench(retries=1).ask(
        Script(DOWN, streamed(feed, 503, Verdict.UPSTREAM_FAILED)), call(READ)
    )
    assert isinstance(answer.body, Stream)
    assert feed.released == 0
    await answer.body.aclose()


# --- restarts


async def test_bridging_a_restart_costs_neither_tries_nor_budget() -> None:
    """DESIGN section 4, Restart grace; F23."""
    budget = Budget(share=0.0, floor_per_second=0.0)
    presence = Restarts(True, True, True, True, True)
    bench = Bench(retries=1, budget=budget, presence=presence)
    origin = Script(*(unreachable(bridged=True) for _ in range(5)), OK)
    answer = await bench.ask(origin, call(WRITE, tool()))
    assert answer.attempts == 6
    assert presence.waited == 5
    assert bench.told.events == []


async def test_a_bridged_try_does_not_shorten_the_patience_of_the_next() -> None:
    presence = Restarts(True)
    origin = Script(unreachable(bridged=True), OK)
    await Bench(retries=1, presence=presence).ask(origin, call(READ))
    assert [seen.silence for seen in origin.calls] == [25.0, 25.0]


async def test_a_server_that_does_not_return_is_retried_as_any_other_failure() -> None:
    presence = Restarts(False)
    bench = Bench(retries=1, presence=presence)
    error = await bench.fail(Script(unreachable(bridged=True)), call(WRITE))
    assert isinstance(error, UpstreamUnreachableError)
    assert error.attempts == 2
    assert bench.told.names() == ["retry.scheduled"]


@pytest.mark.parametrize("outcome", [unreachable(), silent(), broken(Delivery.NO)])
async def test_only_a_refused_connection_looks_like_a_restart(outcome: ProxyError) -> None:
    presence = Restarts(True, True)
    await Bench(presence=presence).ask(Script(outcome, OK), call(READ))
    assert presence.waited == 0


async def test_a_restart_is_not_waited_for_beyond_the_window() -> None:
    presence = Restarts(True)
    origin = Script(unreachable(bridged=True), OK)
    await Bench(presence=presence, window=10.0).fail(origin, call(WRITE, arrived=990.0))
    assert presence.waited == 0
    assert len(origin.calls) == 1


async def test_a_restart_that_ends_after_the_window_comes_too_late() -> None:
    """DESIGN section 4: no new try starts later than MCP_RETRY_WINDOW after the call came."""
    presence = Restarts(True, seconds=3.0)
    bench = Bench(presence=presence, window=10.0)
    presence._clock = bench.clock
    origin = Script(unreachable(bridged=True), OK)
    await bench.fail(origin, call(WRITE, arrived=992.0))
    assert len(origin.calls) == 1


async def test_a_streamed_body_is_not_bridged() -> None:
    presence = Restarts(True)
    asked = call(WRITE)._replace(body=Feed().body)
    await Bench(presence=presence).fail(Script(unreachable(bridged=True), OK), asked)
    assert presence.waited == 0


# --- the policy


def test_retries_come_after_the_first_try() -> None:
    """MCP_MAX_RETRIES=3 is four tries; `attempts` of aiohttp-retry counts the first too."""
    assert Backoff(3, 0.1, 2.0, 5.0).attempts == 4


def test_the_librarys_defaults_are_not_ours() -> None:
    """Libraries note 2: each line fails when a default comes back."""
    ours, theirs = Backoff(3, 0.1, 2.0, 5.0), ExponentialRetry()
    assert theirs.retry_all_server_errors
    assert not ours.retry_all_server_errors
    assert theirs.exceptions == set(), "the comment there says: all"
    assert UpstreamUnreachableError in ours.exceptions
    assert theirs.get_timeout(1) == 0.1 * 2
    assert ours.get_timeout(1) == 0.1
    assert theirs.statuses == set()
    assert 503 in ours.statuses
    assert JitterRetry(random_interval_size=9.0, max_timeout=1.0).get_timeout(9) != 1.0
    assert ours.get_timeout(9) == 5.0


def test_post_is_never_repeated_because_of_its_method() -> None:
    """The default `methods` contain POST; whether a call may be repeated is for its intent."""
    assert "POST" in ExponentialRetry().methods
    assert not may_follow(call(WRITE), Delivery.UNKNOWN)
    assert may_follow(call(READ), Delivery.UNKNOWN)
    assert may_follow(call(WRITE), Delivery.NO)


async def test_concurrent_calls_do_not_share_their_tries() -> None:
    """FibonacciRetry keeps its state in shared options; ours keeps none."""
    bench = Bench(retries=2)
    together = await bench.clock.run(
        asyncio.wait([spawn(bench.retry(call(READ), Script(DOWN)), "call") for _ in range(5)])  # type: ignore[arg-type]
    )
    assert [task.result().attempts for task in together[0]] == [3] * 5
    assert sorted(bench.clock.slept) == pytest.approx([0.1] * 5 + [0.2] * 5)
