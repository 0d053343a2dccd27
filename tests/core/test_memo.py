"""A memory of callers' requests stays small (F46)."""

from mcp_proxy.core.memo import Memo, Sightings


def test_what_was_kept_is_found() -> None:
    memo: Memo[str, int] = Memo(2)
    assert memo.get("a") is None
    assert memo.keep("a", 1) == 1
    assert memo.get("a") == 1


def test_a_full_memo_forgets_all() -> None:
    memo: Memo[int, int] = Memo(10)
    for number in range(1000):
        memo.keep(number, number)
        assert len(memo) <= 10
        assert memo.get(number) == number


def test_what_comes_a_second_time_is_told_from_what_is_new() -> None:
    seen = Sightings(3)
    assert [seen.again(thing) for thing in "abab"] == [False, False, True, True]
    assert [seen.again(thing) for thing in "cda"] == [False, False, False], "a full one forgets"


def test_sightings_are_bounded() -> None:
    """F46: things come from callers."""
    seen = Sightings(10)
    for number in range(1000):
        seen.again(number)
        assert len(seen._hashes) <= 10
