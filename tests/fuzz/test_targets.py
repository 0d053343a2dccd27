"""What the fuzz targets promise, for the seeds and for what hypothesis makes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

NAMES = sorted(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in (*seeds, b"", b"\x00", b"\xff"):
        target(seed)


def mutated(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace parts of a seed by other bytes."""
    for at, length, put in changes:
        place = at % (len(seed) + 1)
        seed = seed[:place] + put + seed[place + length :]
    return seed


BITS = st.binary(max_size=6) | st.sampled_from(
    [
        b"\r\n",
        b"\n\n",
        b'"',
        b"{",
        b"}",
        b"[",
        b"\\u",
        b":",
        b",",
        b"\xef\xbb\xbf",
        b"data:",
        b"0",
        b"-",
        b"e9",
    ]
)
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 4), BITS), max_size=4)


@pytest.mark.parametrize("name", NAMES)
def test_changed_seeds_and_any_bytes(name: str) -> None:
    target, seeds = TARGETS[name]
    # the settings are a model that is built anew each time: 30 ms
    examples = 40 if name == "settings" else 150

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    @given(which=st.integers(0, 10_000), changes=CHANGES, own=st.binary(max_size=200))
    def holds(which: int, changes: list[tuple[int, int, bytes]], own: bytes) -> None:
        target(mutated(seeds[which % len(seeds)], changes))
        target(own)

    holds()
