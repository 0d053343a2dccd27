"""Who is silent at six looks in a row is given up, and nobody else."""

from mcp_proxy.core.beats import Beats


def test_six_silent_looks_in_a_row_are_too_many() -> None:
    beats = Beats()
    beats.heard(0)
    beats.heard(1)
    for _ in range(6):
        assert beats.look() == []
        beats.heard(1)
    assert (beats.missed(0), beats.missed(1)) == (6, 0)
    assert beats.look() == [0]


def test_a_sign_of_life_begins_anew() -> None:
    beats = Beats()
    for _ in range(3):
        beats.heard(0)
        assert [beats.look() for _ in range(6)] == [[]] * 6


def test_who_has_not_begun_or_has_ended_is_not_missed() -> None:
    beats = Beats()
    beats.heard(0)
    beats.left(0)
    beats.left(1)
    assert [beats.look() for _ in range(9)] == [[]] * 9
    assert beats.missed(0) == 0
