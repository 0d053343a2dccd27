"""How often something may happen, as it is written and as it is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.rates import EXPECTED, Rate, Window, rate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100/minute", Rate(100, 60)),
        ("10/second", Rate(10, 1)),
        (" 5 / hours ", Rate(5, 3600)),
        ("9999999/day", Rate(9_999_999, 86_400)),
    ],
)
def test_a_rate_is_a_number_per_unit(text: str, expected: Rate) -> None:
    """DESIGN section 7: `100/minute`."""
    assert rate(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "/minute",
        "0/minute",
        "-1/minute",
        "1.5/minute",
        "1e3/minute",
        "٣/minute",
        "1/month",
        "1/",
        "1/minute; 2/hour",
        "10000000/day",
        "1//minute",
        "1/minuten",
    ],
)
def test_anything_else_is_no_rate(text: str) -> None:
    """A rate of none would refuse every call for ever."""
    with pytest.raises(ValueError, match=EXPECTED):
        rate(text)


@pytest.mark.parametrize(
    ("window", "left", "wait"),
    [
        (Window(0, 0.0, 0, 0.0), 10, 60.0),  # not begun: its first call begins it
        (Window(0, 20.0, 4, 80.0), 6, 20.0),  # the window's end is where it begins to slide
        (Window(10, 60.0, 0, 120.0), 0, 0.0),
        (Window(10, 33.0, 0, 93.0), 5, 3.0),  # one in six seconds slides out of sight
        (Window(10, 33.0, 5, 93.0), 0, 3.0),
        (Window(1, 30.0, 10, 90.0), 0, 30.0),
        (Window(9, 60.0, 9, 120.0), 0, 0.0),  # more than there may be
    ],
)
def test_the_window_before_counts_by_the_part_that_is_still_in_sight(
    window: Window, left: int, wait: float
) -> None:
    ten = Rate(10, 60)
    assert ten.left(window) == left
    assert ten.wait(window) == pytest.approx(wait + 0.001)


@given(
    amount=st.integers(1, 50),
    seconds=st.sampled_from([1, 60, 3600]),
    share=st.floats(0, 1),
    passed=st.floats(0, 0.999),
)
def test_there_is_one_more_when_it_was_said_and_not_before(
    amount: int, seconds: int, share: float, passed: float
) -> None:
    """RFC 9110 section 10.2.3: whoever obeys `Retry-After` is not refused for being early."""
    some = Rate(amount, seconds)
    before = round(amount * share)
    left = seconds * (1 - passed)
    now = Window(before, left, 0, left + seconds)
    full = now._replace(current=some.left(now))
    assert some.left(full) == 0
    wait = some.wait(full)

    def after(wait: float) -> Window:
        if wait < left:
            return Window(before, left - wait, full.current, left + seconds - wait)
        return Window(full.current, left + seconds - wait, 0, left + 2 * seconds - wait)

    # a millisecond is more than floating point numbers lose here
    assert some.left(after(wait + 0.001)) >= 1
    if wait > 0.004:
        assert some.left(after(wait - 0.003)) == 0
