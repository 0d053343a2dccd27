"""Where sessions live."""

from mcp_proxy.upstream.homes import Homes


def test_a_home_is_known_until_it_is_forgotten() -> None:
    homes = Homes()
    assert homes.of("s1") is None
    homes.keep("s1", "http://a")
    assert homes.of("s1") == "http://a"
    homes.keep("s1", "http://b")
    assert homes.of("s1") == "http://b"
    homes.forget("s1")
    homes.forget("s1")
    assert homes.of("s1") is None


def test_homes_are_bounded_in_number_and_the_least_recently_used_go_first() -> None:
    """F46: ids come from servers, and in their place from callers."""
    homes = Homes()
    for number in range(200_000):
        homes.keep(str(number), "http://a")
        homes.of("0")
    assert len(homes) == 20_000
    assert homes.of("0") == "http://a"
    assert homes.of("1") is None


def test_a_name_that_is_too_long_is_not_kept() -> None:
    homes = Homes()
    homes.keep("s" * 1_025, "http://a")
    assert len(homes) == 0


async def test_another_worker_may_know() -> None:
    """It is asked once: from then on it is known here."""
    asked = []

    async def ask(said: str) -> str | None:
        asked.append(said)
        return "http://b" if said == "/messages?1" else None

    homes = Homes(ask)
    assert await homes.elsewhere("/messages?1") == "http://b"
    assert homes.of("/messages?1") == "http://b"
    assert await homes.elsewhere("/messages?2") is None
    assert asked == ["/messages?1", "/messages?2"]
    assert await Homes().elsewhere("/messages?1") is None
