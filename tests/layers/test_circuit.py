"""One circuit on pybreaker's state machine: against a model, and against pybreaker's own ways."""

import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pybreaker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.errors import CircuitOpenError
from mcp_proxy.layers.circuit import Circuit, Limits, Ticket
from tests.fakes import FakeClock
from tests.garbage import uncollected

LIMITS = Limits(failures=5, recovery=60.0, rate=0.5, volume=20, window=10.0)


class Bench:
    """A circuit, its clock, and what it told."""

    def __init__(self, limits: Limits = LIMITS, rng: Callable[[], float] = lambda: 0.5) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[str, str, str]] = []
        self.circuit = Circuit("tool look", limits, self.clock, rng, self._tell)

    def _tell(self, *change: str) -> None:
        self.told.append(change)

    def pass_time(self, seconds: float) -> None:
        self.clock._now += seconds

    def attempt(self, *, failed: bool | None) -> None:
        ticket = self.circuit.enter()
        if failed is not None:
            self.circuit.record(ticket, failed=failed)
        self.circuit.leave(ticket)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.attempt(failed=True)

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.attempt(failed=False)

    def opened(self) -> "Bench":
        self.fail(LIMITS.failures)
        assert self.circuit.state == "open"
        return self

    def half_open(self) -> Ticket:
        """Open the circuit, wait, and return the probe's ticket."""
        self.opened()
        self.pass_time(60)
        return self.circuit.enter()

    def refused(self) -> CircuitOpenError:
        with pytest.raises(CircuitOpenError) as raised:
            self.circuit.enter()
        return raised.value


# --- when it opens


def test_it_opens_at_the_threshold_and_not_before() -> None:
    """DESIGN section 4: consecutive failed tries."""
    bench = Bench()
    bench.fail(4)
    assert (bench.circuit.state, bench.circuit.failures) == ("closed", 4)
    bench.fail()
    assert (bench.circuit.state, bench.circuit.opened) == ("open", 1)


def test_a_success_begins_the_count_anew() -> None:
    bench = Bench()
    bench.fail(4)
    bench.succeed()
    bench.fail(4)
    assert (bench.circuit.state, bench.circuit.failures) == ("closed", 4)


def test_half_of_the_tries_failing_opens_it_once_there_are_enough() -> None:
    """F33: 50 % failures over 200 calls never opened pybreaker, which counts runs only."""
    bench = Bench()
    for _ in range(9):
        bench.fail()
        bench.succeed()
    bench.succeed()
    assert bench.circuit.state == "closed", "nine of nineteen: too few to judge"
    bench.fail()
    assert bench.circuit.state == "open", "ten of twenty"


def test_less_than_half_failing_never_opens_it() -> None:
    bench = Bench()
    for _ in range(200):
        bench.succeed(2)
        bench.fail()
    assert bench.circuit.state == "closed"


def test_failures_older_than_the_window_do_not_count_for_the_share() -> None:
    bench = Bench()
    for _ in range(10):
        bench.fail()
        bench.succeed()
        bench.pass_time(1.1)
    assert bench.circuit.state == "closed"


def test_a_circuit_that_closes_forgets_the_share_of_before() -> None:
    bench = Bench(Limits(failures=5, recovery=1.0, window=1000.0))
    bench.fail(5)
    bench.pass_time(1)
    bench.succeed()
    for _ in range(7):
        bench.fail()
        bench.succeed()
    assert bench.circuit.state == "closed"


# --- while it is open


def test_an_open_circuit_refuses_and_says_for_how_long() -> None:
    """DESIGN section 5: `circuit_open`, nothing was delivered."""
    bench = Bench().opened()
    bench.pass_time(20)
    error = bench.refused()
    assert (error.retry_after, error.circuit, error.delivered.value) == (40.0, "open", "no")
    assert bench.circuit.time_left() == 40.0


def test_the_wall_clock_is_never_consulted() -> None:
    """F49; pybreaker compares datetime.now with `opened_at`."""
    bench = Bench().opened()
    bench.circuit._storage.opened_at = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251
    bench.refused()
    bench.circuit._storage.opened_at = datetime.now(UTC) + timedelta(days=1)  # noqa: TID251
    bench.pass_time(60)
    bench.succeed()
    assert bench.circuit.state == "closed"


def test_an_outcome_that_arrives_late_is_no_trial_call() -> None:
    """pybreaker takes an outcome told after its recovery time as the trial, and closes."""
    bench = Bench()
    late = bench.circuit.enter()
    bench.opened()
    bench.pass_time(1000)
    bench.circuit.record(late, failed=False)
    assert bench.circuit.state == "open"
    bench.circuit.enter()
    bench.circuit.record(late, failed=True)
    assert (bench.circuit.state, bench.circuit.opened) == ("half_open", 1)


def test_the_open_time_grows_with_jitter_up_to_five_minutes() -> None:
    """F33: repeats grow with jitter; the first is exactly the recovery timeout."""
    bench = Bench(rng=lambda: 1.0)
    bench.fail(5)
    waits = []
    for _ in range(5):
        waits.append(bench.circuit.time_left())
        bench.pass_time(bench.circuit.time_left())
        bench.fail()
    assert waits == pytest.approx([60, 132, 264, 330, 330])
    bench = Bench(rng=lambda: 0.0)
    bench.fail(5)
    bench.pass_time(60)
    bench.fail()
    assert bench.circuit.time_left() == pytest.approx(108)


def test_a_success_ends_the_growth() -> None:
    bench = Bench().opened()
    bench.pass_time(60)
    bench.fail()
    bench.pass_time(120)
    bench.succeed()
    bench.opened()
    assert bench.circuit.time_left() == 60
    assert bench.circuit.opened == 3


def test_a_recovery_time_beyond_five_minutes_is_kept_as_it_is() -> None:
    bench = Bench(Limits(failures=1, recovery=900.0))
    bench.fail()
    bench.pass_time(900)
    bench.fail()
    assert bench.circuit.time_left() == 900


# --- half-open


def test_one_of_five_hundred_that_wait_goes_through() -> None:
    """F33. pybreaker 1.4.1 lets all 500 through."""
    bench = Bench().opened()
    bench.pass_time(60)
    probe = bench.circuit.enter()
    assert probe.probe
    errors = [bench.refused() for _ in range(499)]
    assert {(error.retry_after, error.circuit) for error in errors} == {(1.0, "half_open")}


def test_an_answered_probe_closes_and_all_may_pass() -> None:
    bench = Bench()
    probe = bench.half_open()
    bench.circuit.record(probe, failed=False)
    bench.circuit.leave(probe)
    assert bench.circuit.state == "closed"
    assert [bench.circuit.enter().probe for _ in range(500)] == [False] * 500


def test_a_failed_probe_opens_again() -> None:
    bench = Bench()
    probe = bench.half_open()
    bench.circuit.record(probe, failed=True)
    bench.circuit.leave(probe)
    assert (bench.circuit.state, bench.circuit.time_left()) == ("open", 120)


def test_a_probe_that_says_nothing_gives_its_place_to_the_next() -> None:
    """House style, section 4: a probe that ends neutral hands its permit back."""
    bench = Bench()
    bench.circuit.leave(bench.half_open())
    assert bench.circuit.state == "half_open"
    assert bench.circuit.enter().probe


def test_one_who_is_no_probe_frees_no_place() -> None:
    bench = Bench()
    late = bench.circuit.enter()
    bench.half_open()
    bench.circuit.leave(late)
    bench.refused()


def test_a_probe_of_a_past_state_holds_no_place_in_the_present_one() -> None:
    """A probe may hang for as long as a call may take; another state has its own probe."""
    bench = Bench()
    hanging = bench.half_open()
    bench.circuit.reset()
    probe = bench.half_open()
    assert probe.probe
    bench.circuit.leave(hanging)
    bench.refused()
    bench.circuit.leave(probe)
    assert bench.circuit.enter().probe


# --- told from outside


def test_tripping_opens_at_once_and_only_once() -> None:
    bench = Bench()
    bench.circuit.trip()
    bench.circuit.trip()
    assert (bench.circuit.state, bench.circuit.opened) == ("open", 1)
    assert bench.circuit.time_left() == 60


def test_resetting_closes_at_once() -> None:
    """DESIGN section 4: the health monitor may close a target's circuit early."""
    bench = Bench().opened()
    bench.circuit.reset()
    bench.circuit.reset()
    assert not bench.circuit.enter().probe
    assert bench.told[-1] == ("tool look", "open", "closed")
    assert len(bench.told) == 2


def test_an_allowed_probe_does_not_wait_for_the_recovery_time() -> None:
    bench = Bench().opened()
    bench.circuit.allow_probe()
    assert bench.circuit.enter().probe
    bench.refused()


def test_each_change_is_told_once_with_both_names() -> None:
    bench = Bench()
    probe = bench.half_open()
    bench.circuit.record(probe, failed=False)
    assert bench.told == [
        ("tool look", "closed", "open"),
        ("tool look", "open", "half_open"),
        ("tool look", "half_open", "closed"),
    ]


# --- pybreaker's own ways, kept from it


def test_pybreaker_is_never_handed_a_coroutine() -> None:
    """`call` counts a coroutine object as a success; `call_async` needs tornado (#7, #102)."""
    plain = pybreaker.CircuitBreaker(fail_max=1)

    async def fails() -> None:
        raise ValueError

    plain.call(fails).close()
    assert plain.current_state == "closed", "the trap is still there"
    with pytest.raises((NameError, ImportError)):
        plain.call_async(fails)
    bench = Bench()
    bench.fail(5)
    assert bench.circuit.state == "open"


def test_tripping_raises_no_error_of_pybreaker() -> None:
    """The default replaces the outcome by CircuitBreakerError when it trips."""
    bench = Bench()
    ticket = bench.circuit.enter()
    for _ in range(4):
        bench.circuit.record(ticket, failed=True)
    bench.circuit.record(ticket, failed=True)
    assert bench.circuit.state == "open"


def test_a_failure_waits_for_no_collector() -> None:
    """pybreaker's frames hold what they raise, when it opens and when a probe fails."""
    before = Bench()
    before.half_open()
    with uncollected() as ours:
        bench = Bench()
        bench.circuit.record(bench.half_open(), failed=True)
    assert ours == []


def test_a_circuit_that_never_failed_is_gone_when_it_is_forgotten() -> None:
    """Names come from callers: what waits for the collector adds up between its visits."""
    bench = Bench()
    bench.succeed(3)
    forgotten = weakref.ref(bench.circuit._storage)
    gc.disable()
    try:
        del bench.circuit
        assert forgotten() is None
    finally:
        gc.enable()


def test_nothing_is_excluded_since_that_counts_as_success() -> None:
    """An excluded exception closes a half-open circuit; neutral outcomes are not told at all."""
    bench = Bench()
    assert bench.circuit._breaker.excluded_exceptions == ()
    assert bench.circuit._breaker.listeners == (), "one that raises prevents the change"


# --- against a model


class Model:
    """The circuit as DESIGN section 4 tells it, without pybreaker, jitter at its middle."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = "closed"
        self.generation = 0
        self.run = 0
        self.seen: list[tuple[float, bool]] = []
        self.until = 0.0
        self.in_a_row = 0
        self.opened = 0
        self.probe: object = None

    def _to(self, state: str, now: float) -> None:
        if state == "open":
            growth = min(2**self.in_a_row, max(300.0, self.limits.recovery) / self.limits.recovery)
            self.until = now + self.limits.recovery * growth
            self.in_a_row += 1
            self.opened += 1
        elif state == "closed":
            self.in_a_row = self.run = 0
        self.state, self.probe, self.seen = state, None, []
        self.generation += 1

    def enter(self, now: float) -> tuple[int, bool] | None:
        if self.state == "closed":
            return (self.generation, False)
        if self.state == "open":
            if now < self.until:
                return None
            self._to("half_open", now)
        if self.probe is not None:
            return None
        self.probe = self.generation
        return (self.generation, True)

    def record(self, generation: int, now: float, *, failed: bool) -> None:
        if generation != self.generation:
            return
        self.run = self.run + 1 if failed else 0
        if self.state == "half_open":
            self._to("open" if failed else "closed", now)
            return
        self.seen = [(when, bad) for when, bad in self.seen if when > now - self.limits.window]
        self.seen.append((now, failed))
        bad = sum(failure for _, failure in self.seen)
        enough = len(self.seen) >= self.limits.volume
        too_many = enough and bad >= self.limits.rate * len(self.seen)
        if failed and (self.run >= self.limits.failures or too_many):
            self._to("open", now)

    def leave(self, generation: int, *, probe: bool) -> None:
        if probe and generation == self.generation:
            self.probe = None


# Steps of time are either none or longer than the window, so that its tenths play no part.
ACTS = st.one_of(
    st.just(("enter", 0)),
    st.tuples(st.sampled_from(["ok", "fail", "leave"]), st.integers(0, 7)),
    st.tuples(st.just("wait"), st.sampled_from([30, 60, 130, 400])),
    st.tuples(st.sampled_from(["trip", "reset", "allow_probe"]), st.just(0)),
)
MODEL_LIMITS = Limits(failures=3, recovery=60.0, rate=0.5, volume=5, window=10.0)


@given(st.lists(ACTS, max_size=80))
@settings(deadline=None, max_examples=300)
def test_it_behaves_as_its_model(acts: list[tuple[str, int]]) -> None:
    """DESIGN section 4, Circuits."""
    bench, model = Bench(MODEL_LIMITS), Model(MODEL_LIMITS)
    out: list[Ticket] = []
    for act, value in acts:
        now = bench.clock.now()
        if act == "enter":
            expected = model.enter(now)
            try:
                ticket = bench.circuit.enter()
            except CircuitOpenError:
                assert expected is None
            else:
                assert expected is not None
                assert expected[1] is ticket.probe
                out.append(ticket)
        elif act == "wait":
            bench.pass_time(value)
        elif act in {"trip", "reset", "allow_probe"}:
            getattr(bench.circuit, act)()
            if act == "trip" and model.state != "open":
                model._to("open", now)
            elif act == "reset" and model.state != "closed":
                model._to("closed", now)
            elif act == "allow_probe":
                model.until = now
        elif out:
            ticket = out.pop(value % len(out))
            if act != "leave":
                bench.circuit.record(ticket, failed=act == "fail")
                model.record(ticket.generation, now, failed=act == "fail")
            bench.circuit.leave(ticket)
            model.leave(ticket.generation, probe=ticket.probe)
        assert bench.circuit.state == model.state
        assert bench.circuit.opened == model.opened
        if model.state == "open":
            left = max(0.0, model.until - bench.clock.now())
            assert bench.circuit.time_left() == pytest.approx(left)
