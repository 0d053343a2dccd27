"""How long calls took lately."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.latency import Latencies


def test_too_few_samples_say_nothing() -> None:
    known = Latencies()
    for _ in range(19):
        known.note("look", 1.0)
    assert known.p95("look") is None
    known.note("look", 1.0)
    assert (known.p95("look"), known.p95("other")) == (1.0, None)


def test_the_percentile_is_of_the_latest_calls() -> None:
    known = Latencies()
    for _ in range(200):
        known.note("look", 9.0)
    for _ in range(144):
        known.note("look", 1.0)
    assert known.p95("look") == 1.0


@given(st.lists(st.floats(0, 300), min_size=20, max_size=20))
def test_no_more_than_a_twentieth_is_slower(samples: list[float]) -> None:
    known = Latencies()
    for seconds in samples:
        known.note("look", seconds)
    p95 = known.p95("look")
    assert p95 in samples
    assert sum(seconds > p95 for seconds in samples) <= 1


def test_names_are_bounded() -> None:
    """F43."""
    known = Latencies()
    for number in range(10_000):
        known.note(str(number), 1.0)
        assert len(known._recent) <= 1000
