"""How many calls a server bears at once, learnt from how long it takes to answer."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.gradient import Gradient

# --- a server that can do so much at once, and queues the rest

PATIENCE, QUEUE = 1.0, 1024  # as in layers/admit
Draw = Callable[[random.Random, float], float]


def exponential(rng: random.Random, seconds: float) -> float:
    return rng.expovariate(1 / seconds)


def heavy(rng: random.Random, seconds: float) -> float:
    """As scattered as the answers of real tools: the mean is `seconds`, one in a hundred is 6 x."""
    return seconds * rng.lognormvariate(-0.5, 1.0)


def steady(rng: random.Random, seconds: float) -> float:
    return seconds * rng.uniform(0.9, 1.1)


class Fixed:
    """What MCP_CONCURRENCY_LIMIT does alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def answered(self, seconds: float, in_flight: int) -> None: ...
    def failed(self, in_flight: int) -> None: ...
    def refused(self) -> None: ...


@dataclass
class World:
    """Calls that come at random, an admission in front, and a server with so many workers.

    All numbers may change while it runs. The time is its own.
    """

    gate: Gradient | Fixed
    workers: int = 20
    seconds: float = 0.1  # that a worker takes, in the mean
    rate: float = 600.0  # calls a second
    draw: Draw = exponential
    failing: float = 0.0  # share of the answers
    thrash: float = 0.0  # how much slower a worker gets with each call that is there beyond them
    seed: int = 1
    now: float = 0.0
    refusals: int = 0
    stuck: int = 0  # calls that never end
    answers: list[tuple[float, float, float]] = field(default_factory=list)  # when, server, in all
    limits: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: deque[float] = deque()
        self._queued: deque[tuple[float, float, int]] = deque()  # at the server
        self._busy = 0
        self.in_flight = self.stuck
        self._at(0.0, self._arrive)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), act))

    def run(self, seconds: float) -> "World":
        until = self.now + seconds
        while self._due[0][0] < until:
            self.now, _, act = heapq.heappop(self._due)
            act()
            if not self.limits or self.limits[-1][1] != self.gate.limit:
                self.limits.append((self.now, self.gate.limit))
        self.now = until
        return self

    def _arrive(self) -> None:
        self._at(self.now + self._rng.expovariate(self.rate), self._arrive)
        if self.in_flight < self.gate.limit:
            self._send(self.now)
        elif len(self._waiting) < QUEUE:
            self._waiting.append(self.now)
        else:
            self._refuse()
        self._let_in()

    def _refuse(self) -> None:
        self.refusals += 1
        self.gate.refused()

    def _let_in(self) -> None:
        while self._waiting and self.now - self._waiting[0] > PATIENCE:
            self._waiting.popleft()
            self._refuse()
        while self._waiting and self.in_flight < self.gate.limit:
            self._send(self._waiting.popleft())

    def _send(self, arrived: float) -> None:
        self.in_flight += 1
        self._queued.append((arrived, self.now, self.in_flight))
        self._work()

    def _work(self) -> None:
        while self._queued and self._busy < self.workers:
            call = self._queued.popleft()
            self._busy += 1
            slower = 1 + self.thrash * max(0, self.in_flight - self.workers)
            took = self.draw(self._rng, self.seconds * slower)
            self._at(self.now + took, lambda call=call: self._answer(*call))  # type: ignore[misc]

    def _answer(self, arrived: float, sent: float, crowd: int) -> None:
        self._busy -= 1
        self.in_flight -= 1
        if self._rng.random() < self.failing:
            self.gate.failed(crowd)
        else:
            self.gate.answered(self.now - sent, crowd)
            self.answers.append((self.now, self.now - sent, self.now - arrived))
        self._work()
        self._let_in()

    def goodput(self, since: float) -> float:
        """Return answers a second."""
        return sum(when >= since for when, _, _ in self.answers) / (self.now - since)

    def at_the_server(self, since: float) -> float:
        """Return the p99 of the seconds that an answer took from the server."""
        return quantiles([took for when, took, _ in self.answers if when >= since], n=100)[98]

    def limit_since(self, since: float) -> float:
        """Return the mean limit over time, looks included."""
        begun = [limit for when, limit in self.limits if when <= since][-1:]
        points = [
            (since, *begun),
            *((when, limit) for when, limit in self.limits if when > since),
        ]
        ends = [*(point[0] for point in points[1:]), self.now]
        areas = [(end - point[0]) * point[1] for point, end in zip(points, ends, strict=True)]
        return sum(areas) / (self.now - since)


# --- what it finds


@pytest.mark.parametrize("draw", [exponential, heavy, steady])
@pytest.mark.parametrize(("workers", "load", "seconds"), [(20, 3.0, 40), (100, 1.5, 20)])
def test_it_finds_a_limit_near_what_the_server_can_do(
    draw: Draw, workers: int, load: float, seconds: float
) -> None:
    """All workers are busy (goodput >= 90 % of the most, F48), and the queue behind them is short."""
    capacity = workers / 0.1
    world = World(Gradient(1024), workers, rate=load * capacity, draw=draw).run(seconds)
    assert workers < world.limit_since(seconds / 2) < 3 * workers
    assert world.goodput(seconds / 2) > 0.93 * capacity


def test_it_does_not_climb_under_an_overload_that_lasts() -> None:
    """Gradient2's long-term average takes a queue that lasts for the usual thing (see the module)."""
    world = World(Gradient(1024), rate=300).run(200)
    assert world.limit_since(150) < 60
    assert world.at_the_server(150) < 1.0


def test_it_comes_down_from_a_first_guess_that_was_too_high() -> None:
    world = World(Gradient(1024, first=100), rate=300, draw=steady).run(240)
    assert world.limit_since(200) < 60
    assert world.goodput(200) > 0.93 * 200


@pytest.mark.parametrize("draw", [exponential, heavy])
@pytest.mark.parametrize("load", [0.5, 0.9])
def test_noise_alone_does_not_bring_it_down(draw: Draw, load: float) -> None:
    """No collapse to the minimum: a server with room for all refuses nobody."""
    world = World(Gradient(1024), rate=load * 200, draw=draw).run(90)
    assert world.limit_since(20) > 30
    assert world.refusals <= 0.001 * len(world.answers)
    assert world.goodput(20) > 0.95 * load * 200


def test_it_follows_a_server_that_loses_workers_and_gets_them_back() -> None:
    world = World(Gradient(1024), rate=300).run(40)
    world.workers = 5
    world.run(80)
    assert world.limit_since(90) < 20
    assert world.goodput(90) > 0.85 * 50
    world.workers = 20
    world.run(40)
    assert world.limit_since(140) > 20
    assert world.goodput(140) > 0.93 * 200


def test_it_learns_that_a_server_has_become_slow_for_good_and_forgets_it_again() -> None:
    """Four times the time for each answer is no queue: the limit comes back."""
    world = World(Gradient(1024), rate=300).run(40)
    world.seconds = 0.4
    world.run(160)
    assert world.goodput(160) > 0.85 * 50
    world.seconds = 0.1
    world.run(60)
    assert world.goodput(230) > 0.93 * 200
    assert world.at_the_server(230) < 1.0


def test_failures_lower_it_and_their_end_raises_it_again() -> None:
    world = World(Gradient(1024), rate=300).run(30)
    world.failing = 1.0
    world.run(30)
    assert world.gate.limit <= 10
    world.failing = 0.0
    world.run(40)
    assert world.goodput(80) > 0.93 * 200


def test_some_failures_cost_no_goodput() -> None:
    """A broken tool among healthy ones is no overload."""
    world = World(Gradient(1024), rate=300, failing=0.05).run(60)
    assert world.goodput(20) > 0.93 * 0.95 * 200


def test_it_is_better_than_a_fixed_limit_where_a_crowd_makes_the_server_slow() -> None:
    """The reason for it (issue 5, admit): measured against the fixed limit in the same world."""
    fixed, found = (
        World(gate, rate=600, thrash=0.01).run(40) for gate in (Fixed(1024), Gradient(1024))
    )
    assert found.goodput(20) > 4 * fixed.goodput(20)
    assert found.at_the_server(20) < fixed.at_the_server(20) / 10


def test_calls_that_never_end_do_not_shut_the_door_in_a_look() -> None:
    """A quarter of the limit may be less than what hangs; then the look is given up."""
    world = World(Gradient(1024), stuck=14, rate=300).run(120)
    pauses = [later[0] - earlier[0] for earlier, later in itertools.pairwise(world.answers)]
    assert world.limit_since(20) > 20
    assert max(pauses) < 2.0


# --- its parts


def feed(gradient: Gradient, times: int, seconds: float, in_flight: int) -> None:
    for _ in range(times):
        gradient.answered(seconds, in_flight)


def fail(gradient: Gradient, times: int, in_flight: int) -> None:
    for _ in range(times):
        gradient.failed(in_flight)


def refuse(gradient: Gradient, times: int) -> None:
    for _ in range(times):
        gradient.refused()


def warm(usual: float = 0.1) -> Gradient:
    """Return one with a limit of 100 that has seen how long an answer usually takes."""
    gradient = Gradient(1024, first=100)
    feed(gradient, 1000, usual, 10)
    assert gradient._usual == pytest.approx(usual)
    return gradient


def test_it_begins_low_and_within_its_bounds() -> None:
    assert Gradient(1024).limit == 32
    assert Gradient(5).limit == 5
    assert Gradient(1024, first=64).limit == 64


def test_it_moves_once_in_a_window_and_by_a_part_of_its_root() -> None:
    """Gradient2: sqrt(limit) for the queue, a fifth of it in each step."""
    gradient = warm()
    feed(gradient, 99, 0.1, 100)
    assert gradient.limit == 100
    feed(gradient, 1, 0.1, 100)
    assert gradient.limit == 102


@pytest.mark.parametrize(
    ("recent", "limit"),
    [
        (0.05, 102),  # faster
        (0.1, 102),  # as ever
        (0.149, 102),  # half as slow again: within the tolerance
        (0.2, 97),  # three quarters, and the root
        (10.0, 92),  # no less than half
    ],
)
def test_slower_answers_lower_it(recent: float, limit: int) -> None:
    gradient = warm()
    feed(gradient, 100, recent, 100)
    assert gradient.limit == limit


def test_little_in_use_neither_raises_nor_lowers_it() -> None:
    """Gradient2: "app limited"."""
    gradient = warm()
    feed(gradient, 300, 5.0, 49)
    assert gradient.limit == 100
    gradient = warm()
    feed(gradient, 100, 0.1, 50)
    assert gradient.limit == 102


def test_failures_lower_it_also_while_little_is_in_use() -> None:
    gradient = warm()
    fail(gradient, 100, in_flight=1)
    assert gradient.limit == 90
    fail(gradient, 3000, in_flight=1)
    assert gradient.limit == 8


def test_a_share_of_failures_lowers_it_by_that_share() -> None:
    gradient = warm()
    feed(gradient, 80, 0.1, 100)
    fail(gradient, 20, in_flight=100)
    assert gradient.limit == 98  # to 100 x 0.8 + 10, a fifth of the way


def test_the_time_of_a_failure_says_nothing() -> None:
    gradient = warm()
    fail(gradient, 50, in_flight=10)
    feed(gradient, 50, 0.1, 10)
    assert gradient._usual == pytest.approx(0.1)


def test_the_first_windows_count_alike() -> None:
    """The very first answers are those of the quickest calls, and no measure."""
    gradient = Gradient(1024, first=100)
    for seconds in (0.01, 0.1, 0.1, 0.1):
        feed(gradient, max(20, gradient.limit), seconds, gradient.limit)
    assert gradient._usual == pytest.approx(0.31 / 4)


def test_what_is_usual_is_learnt_while_little_is_in_use() -> None:
    gradient = warm()
    feed(gradient, 100, 0.4, 10)
    assert gradient._usual == pytest.approx(0.13)
    feed(gradient, 100 * 60, 0.4, 10)
    assert gradient._usual == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize(("recent", "usual"), [(0.4, 0.1), (0.06, 0.1), (0.04, 0.094)])
def test_a_full_limit_teaches_only_that_things_are_much_faster(recent: float, usual: float) -> None:
    """A queue is not the usual thing, and chance is no change."""
    gradient = warm()
    feed(gradient, 100, recent, 100)
    assert gradient._usual == pytest.approx(usual)


def looks(gradient: Gradient) -> bool:
    return gradient.looking


def look(gradient: Gradient) -> int:
    """Bring a gradient to the beginning of a look; return its limit before."""
    for _ in range(50):
        if looks(gradient):
            break
        feed(gradient, max(20, gradient.limit), 0.1, gradient.limit)
    assert looks(gradient)
    return int(gradient._estimate)


def test_a_look_comes_after_ten_full_windows_and_then_after_fifty() -> None:
    gradient = warm()
    for windows in (10, 50, 50):
        for _ in range(windows):
            assert not looks(gradient)
            feed(gradient, gradient.limit, 0.1, gradient.limit)
        before = look(gradient)
        feed(gradient, before + 1 + max(20, before // 4), 0.1, before)


def test_a_look_quarters_the_limit_for_two_windows() -> None:
    gradient = warm()
    before = look(gradient)
    assert gradient.limit == before // 4
    feed(gradient, before + 1, 0.5, before)  # those who stood in the crowd
    assert gradient.limit == before // 4
    feed(gradient, before // 4 - 1, 0.06, before // 4)
    assert looks(gradient)
    feed(gradient, 1, 0.06, before // 4)
    assert not looks(gradient)
    assert gradient.limit == before
    assert gradient._usual == pytest.approx(0.08)  # halfway from 0.1 to what it saw


def test_a_look_in_which_all_fails_teaches_nothing() -> None:
    gradient = warm()
    before = look(gradient)
    fail(gradient, before + 1 + before // 4, in_flight=before)
    assert not looks(gradient)
    assert gradient._usual == pytest.approx(0.1)


def test_a_look_before_anything_was_answered_teaches_nothing() -> None:
    gradient = Gradient(1024, first=8)
    fail(gradient, 200, in_flight=8)
    assert looks(gradient)
    feed(gradient, 40, 0.1, 8)
    assert not looks(gradient)
    assert gradient._usual is None


def test_a_look_never_lets_in_nobody() -> None:
    gradient = Gradient(1)
    look(gradient)
    assert gradient.limit == 1


def test_a_look_that_lets_nobody_through_is_given_up() -> None:
    gradient = warm()
    before = look(gradient)
    refuse(gradient, 49)
    gradient.answered(0.1, 10)  # a sign of life
    refuse(gradient, 49)
    assert looks(gradient)
    refuse(gradient, 1)
    assert not looks(gradient)
    assert gradient.limit == before


def test_a_look_is_not_given_up_for_an_overload() -> None:
    """Where two calls were refused for each answer before, more are refused in a look."""
    gradient = warm()
    for _ in range(10):
        refuse(gradient, 2 * gradient.limit)
        feed(gradient, gradient.limit, 0.1, gradient.limit)
    assert looks(gradient)
    refuse(gradient, 148)
    assert looks(gradient)
    refuse(gradient, 2)
    assert not looks(gradient)


def test_refusals_outside_a_look_change_nothing() -> None:
    gradient = warm()
    refuse(gradient, 200)
    assert gradient.limit == 100
    assert not looks(gradient)


def test_answers_that_take_no_time_are_no_trouble() -> None:
    gradient = Gradient(1024, first=100)
    feed(gradient, 300, 0.0, 100)
    assert gradient.limit > 100


@given(
    most=st.integers(1, 2000),
    told=st.lists(
        st.tuples(
            st.sampled_from(["answered", "failed", "refused"]),
            st.sampled_from([0.0, 1e-6, 0.1, 1e6]),
            st.integers(0, 3000),
            st.integers(1, 500),
        ),
        max_size=20,
    ),
)
def test_it_stays_within_its_bounds_whatever_it_is_told(
    most: int, told: list[tuple[str, float, int, int]]
) -> None:
    """It moves below MCP_CONCURRENCY_LIMIT, never above."""
    gradient = Gradient(most)
    for what, seconds, in_flight, times in told:
        if what == "answered":
            feed(gradient, times, seconds, in_flight)
        elif what == "failed":
            fail(gradient, times, in_flight)
        else:
            refuse(gradient, times)
        assert (1 if looks(gradient) else min(8, most)) <= gradient.limit <= most


def test_the_draws_have_the_mean_that_they_promise() -> None:
    rng = random.Random(1)
    for draw in (exponential, heavy, steady):
        assert mean(draw(rng, 2.0) for _ in range(50_000)) == pytest.approx(2.0, rel=0.05)
