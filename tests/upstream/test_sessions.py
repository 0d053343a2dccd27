"""Which sessions are open: bounded in number, in bytes and in time (F46)."""

from mcp_proxy.core.session import Session
from mcp_proxy.upstream import sessions
from mcp_proxy.upstream.sessions import Sessions
from tests.fakes import FakeClock


def session(name: str, size: int = 10) -> Session:
    return Session(name, "ann", b"x" * size, name)


def test_a_session_is_found_until_it_is_forgotten() -> None:
    known = Sessions(FakeClock().now)
    one = session("a")
    known.keep(one)
    assert known.find("a") is one
    assert known.find("b") is None
    known.forget("a")
    known.forget("a")
    assert (known.find("a"), len(known), known.bytes) == (None, 0, 0)


def test_the_least_recently_used_goes_first() -> None:
    known = Sessions(FakeClock().now)
    for number in range(sessions._LIMIT):
        known.keep(session(str(number)))
    known.find("0")
    for number in range(sessions._LIMIT * 9):
        known.keep(session(f"more {number}"))
        known.find("0")
    assert len(known) == sessions._LIMIT
    assert known.find("0") is not None
    assert known.find("1") is None


def test_bytes_are_bounded_and_a_session_that_grows_is_counted_anew() -> None:
    known = Sessions(FakeClock().now)
    one = session("a")
    known.keep(one)
    one.subscriptions["uri"] = b"y" * 90
    known.keep(one)
    assert known.bytes == one.size == 100 + len(one.id + one.upstream + one.opener + "uri")
    for number in range(100):
        known.keep(session(str(number), sessions._BYTES // 10))
    assert known.bytes <= sessions._BYTES
    assert len(known) == 9  # their names weigh, too


async def test_a_session_that_nobody_uses_ends_in_a_day() -> None:
    clock = FakeClock()
    known = Sessions(clock.now)
    known.keep(session("a"))
    for _ in range(3):
        await clock.advance(80_000)
        assert known.find("a") is not None
    await clock.advance(86_401)
    assert known.find("a") is None
    assert len(known) == 0
