"""The wait before the next try: what the server hinted, full jitter, and the end of the window."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.backoff import hinted_wait, wait_before_next

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def hint(value: str) -> float | None:
    return hinted_wait(CIMultiDict({"Retry-After": value}), NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("0000000000000000005", 5),
        ("1000000000", 1e9),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Thursday, 01-Jan-26 12:01:00 GMT", 60),
    ],
)
def test_a_retry_after_in_seconds_or_as_a_date_is_understood(value: str, seconds: float) -> None:
    """F6; RFC 9110 section 10.2.3. Never repeated earlier than asked, however it was spelled."""
    assert hint(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "+5",
        "1.5",
        "1e9",
        "٣",
        "5, 6",
        "Thu, 01 Jan 2026 12:01:00",
        "Thu, 01 Jan 2026 12:01:00 -0000",
        "Thu, 99 Jan 2026 12:01:00 GMT",
        "1 Jan 2026 9999999999999999999999:00 GMT",
    ],
)
def test_garbage_counts_as_no_hint(value: str) -> None:
    """F6."""
    assert hint(value) is None


def test_without_a_retry_after_there_is_no_hint() -> None:
    assert hinted_wait(CIMultiDict(), NOW) is None


@given(
    value=st.text()
    | st.from_regex(r"(Thu, )?[0-9]{1,30} Jan [0-9]{1,9} [0-9:]{1,30} [-+]?[0-9A-Z]{1,12}")
)
def test_no_retry_after_can_break_an_answer(value: str) -> None:
    """F6: it comes from the server; whatever it says, a wait is never negative."""
    seconds = hint(value)
    assert seconds is None or seconds >= 0


seconds_ = st.floats(0, 1e6)


@given(
    ceiling=seconds_, hinted=st.none() | seconds_, left=st.floats(-1e6, 1e6), draw=st.floats(0, 1)
)
def test_the_next_try_is_neither_too_early_nor_too_late(
    ceiling: float, hinted: float | None, left: float, draw: float
) -> None:
    """DESIGN section 4, Retries: full jitter, `Retry-After` obeyed, no try beyond the window."""
    wait = wait_before_next(ceiling, hinted, left, lambda: draw)
    earliest = hinted or 0
    if wait is None:
        assert max(ceiling, earliest) >= left
    else:
        assert earliest <= wait <= max(ceiling, earliest)
        assert wait < left


def test_the_jitter_is_full() -> None:
    """DESIGN section 4: the whole span below the ceiling is drawn from."""
    draws = iter([0.0, 0.25, 1.0])
    waits = [wait_before_next(8.0, None, 45.0, lambda: next(draws)) for _ in range(3)]
    assert waits == [0.0, 2.0, 8.0]


@pytest.mark.parametrize(("left", "wait"), [(45.0, 30.0), (30.0, None), (29.0, None)])
def test_a_hint_beyond_the_window_ends_the_tries(left: float, wait: float | None) -> None:
    """DESIGN section 4: passed on at once when it reaches beyond the window."""
    assert wait_before_next(0.1, 30.0, left, lambda: 0.5) == wait
