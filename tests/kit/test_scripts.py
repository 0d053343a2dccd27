"""Which fault strikes which request."""

from random import Random

from tests.edge.wire import get
from tests.kit.conftest import READ, WRITE
from tests.kit.faults import Close, Fault, Reset, Slow
from tests.kit.scripts import EVERY_TOOL, mixed
from tests.kit.sent import connected
from tests.kit.upstream import Upstream

HEALTH = get("/api/health")


async def statuses(upstream: Upstream, *calls: bytes) -> list[int | None]:
    """Return what each call got, on connections of their own; None if it got no answer."""
    found: list[int | None] = []
    for raw in calls:
        async with connected(upstream.port) as client:
            await client.send(raw)
            first = await client.reader.read(12)
            found.append(int(first[-3:]) if first else None)
    return found


async def test_a_script_is_played_in_order_and_can_be_changed_at_any_moment(
    upstream: Upstream,
) -> None:
    raw = WRITE.rest()
    upstream.plays(WRITE.tool, Close(), Slow(0.0), then=Close())
    assert await statuses(upstream, raw, raw, raw, raw) == [None, 200, None, None]
    upstream.plays(WRITE.tool)
    assert await statuses(upstream, raw) == [200]
    assert upstream.scripts.played == {"Close": 3, "Slow": 1, "Fine": 1}


async def test_a_tool_without_a_script_follows_that_of_every_tool(upstream: Upstream) -> None:
    upstream.plays(EVERY_TOOL, then=Close())
    upstream.plays(READ.tool)
    assert await statuses(upstream, WRITE.rest(), READ.rest(), HEALTH) == [None, 200, 200]
    upstream.plays("GET /api/health", Close())
    assert await statuses(upstream, HEALTH, HEALTH) == [None, 200]
    upstream.scripts.clear()
    assert await statuses(upstream, WRITE.rest()) == [200]


def test_a_mixture_strikes_as_often_as_it_says() -> None:
    source = mixed(Random(1), 0.05, Reset(), Close(executed=True))
    drawn: list[Fault] = [source() for _ in range(10_000)]
    struck = [fault for fault in drawn if isinstance(fault, Reset | Close)]
    assert 400 < len(struck) < 600
    assert {type(fault) for fault in struck} == {Reset, Close}
