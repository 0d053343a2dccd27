"""The share of failures among the outcomes of the last seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.window import Window

outcomes = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 1.0, 4.5, 12.0]), st.booleans()), max_size=80
)


@given(told=outcomes, minimum=st.integers(1, 6), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_a_window_trips_when_enough_of_enough_recent_outcomes_failed(
    told: list[tuple[float, bool]], minimum: int, share: float
) -> None:
    """DESIGN section 4, Circuits: a failure rate among at least MCP_CB_MIN_VOLUME tries."""
    window = Window(10.0, minimum, share)
    now = 500.0
    seen: list[tuple[float, bool]] = []
    for pause, failed in told:
        now += pause
        window.add(now, failed=failed)
        seen.append((now, failed))
        recent = [failure for at, failure in seen if int(at) > int(now) - 10]
        tripped = len(recent) >= minimum and sum(recent) >= share * len(recent)
        assert window.tripped(now) == tripped


@pytest.mark.parametrize(("later", "tripped"), [(0.0, True), (9.0, True), (10.0, False)])
def test_what_is_past_is_forgotten_while_nobody_calls(later: float, tripped: bool) -> None:
    window = Window(10.0, 1, 0.5)
    window.add(500.0, failed=True)
    assert window.tripped(500.0 + later) is tripped


def test_a_cleared_window_starts_anew() -> None:
    """A circuit that closes does not open again for what was before."""
    window = Window(10.0, 1, 0.5)
    window.add(500.0, failed=True)
    window.clear()
    assert not window.tripped(500.0)
    window.add(500.0, failed=False)
    assert not window.tripped(500.0)
