"""A memory of callers' requests stays small (F46)."""

from mcp_proxy.core.memo import Memo


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
