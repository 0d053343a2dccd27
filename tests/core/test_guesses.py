"""Wrong tokens are counted."""

from mcp_proxy.core.guesses import CLIENTS, TRIES, Guesses


def test_a_few_wrong_tokens_cost_nothing_and_more_cost_time() -> None:
    """And what is waited for is forgiven one by one."""
    guesses = Guesses()
    for _ in range(TRIES):
        assert guesses.wait("a", 100.0) == 0
        guesses.wrong("a", 100.0)
    assert guesses.wait("a", 100.0) == 6
    assert guesses.wait("a", 103.0) == 3
    assert guesses.wait("a", 106.0) == 0
    guesses.wrong("a", 106.0)
    assert guesses.wait("a", 106.0) == 6
    assert guesses.wait("a", 1000.0) == 0


def test_one_client_does_not_hinder_another() -> None:
    guesses = Guesses()
    for _ in range(TRIES):
        guesses.wrong("a", 0.0)
    assert guesses.wait("a", 0.0) > 0
    assert guesses.wait("b", 0.0) == 0


def test_ten_times_as_many_clients_share_one_count() -> None:
    """And those that are counted are not forgotten for it; time makes room."""
    guesses = Guesses()
    for _ in range(TRIES):
        guesses.wrong("first", 0.0)
    for number in range(10 * CLIENTS):
        guesses.wrong(f"client {number}", 0.0)
    assert len(guesses) <= CLIENTS + 1
    assert guesses.wait("first", 0.0) > 0
    assert guesses.wait("somebody new", 0.0) > 0
    assert guesses.wait("client 1", 0.0) == 0
    late = 1e6
    assert guesses.wait("somebody new", late) == 0
    assert len(guesses) == 0
