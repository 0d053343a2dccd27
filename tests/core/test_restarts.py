"""When a worker is started again: 0.1 s doubling to 5 s, and anew once it has served for 10 s."""

from mcp_proxy.core.restarts import Restarts


def test_pauses_double_up_to_five_seconds() -> None:
    restarts = Restarts(2)
    assert [restarts.died(0, 3.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restarts.died(1, 3.0) == 0.1, "each has pauses of its own"


def test_a_pause_stays_a_number_however_often_it_dies() -> None:
    restarts = Restarts(1)
    assert {restarts.died(0, 3.0) for _ in range(2000)} >= {5.0}


def test_who_has_served_for_ten_seconds_begins_anew() -> None:
    restarts = Restarts(1)
    for _ in range(4):
        restarts.died(0, 9.9)
    assert restarts.died(0, 10.0) == 0.1
    assert restarts.died(0, 0.0) == 0.2


def test_five_deaths_at_once_in_a_row_are_hopeless() -> None:
    restarts = Restarts(3)
    for number in range(4):
        restarts.died(number % 3, 0.9)
    assert not restarts.hopeless
    restarts.died(1, 1.0)  # one that lived
    for number in range(4):
        restarts.died(number % 3, 0.9)
    assert not restarts.hopeless
    restarts.died(0, 0.9)
    assert restarts.hopeless
