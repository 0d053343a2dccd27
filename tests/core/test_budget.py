"""How many repeats a server can be asked to bear."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.budget import Budget

steps = st.lists(
    st.tuples(
        st.sampled_from(["asked", "take"]), st.sampled_from([0.0, 0.01, 0.5, 1.0, 9.0, 11.0])
    ),
    max_size=300,
)


@given(steps=steps, share=st.sampled_from([0.0, 0.1, 0.5]), floor=st.sampled_from([0.0, 0.2, 1.0]))
def test_repeats_stay_within_a_share_of_recent_requests_or_the_floor(
    steps: list[tuple[str, float]], share: float, floor: float
) -> None:
    """DESIGN section 4, Retries: a budget per upstream, whichever of the two is greater."""
    budget = Budget(share, floor)
    now = 1000.0
    asked: list[float] = []
    taken: list[float] = []
    for what, pause in steps:
        now += pause
        asked, taken = ([at for at in times if int(at) > int(now) - 10] for times in (asked, taken))
        if what == "asked":
            budget.asked(now)
            asked.append(now)
        else:
            allowed = len(taken) < max(floor * 10, share * len(asked))
            assert budget.take(now) == allowed
            taken += [now] * allowed


def test_a_lone_client_may_repeat_ten_times_a_second() -> None:
    """DESIGN section 4: 10 % of recent requests or 10 a second, whichever is greater."""
    budget = Budget()
    assert [budget.take(1000.0) for _ in range(101)] == [True] * 100 + [False]
    assert budget.take(1010.0)


def test_what_is_past_counts_no_more() -> None:
    budget = Budget(0.5, 0.0)
    for now in range(1000, 2000, 20):
        for _ in range(4):
            budget.asked(now)
        assert [budget.take(now) for _ in range(3)] == [True, True, False]


def test_in_a_total_outage_the_repeats_add_a_tenth() -> None:
    """F32: 100 % failures at 200 a second for a minute; amplification stays at 1.1."""
    budget = Budget()
    repeats = 0
    for tick in range(200 * 60):
        now = 1000.0 + tick / 200
        budget.asked(now)
        repeats += sum(budget.take(now) for _ in range(3))
    assert repeats <= 0.1 * 200 * 60 + 100
