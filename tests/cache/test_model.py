"""The model of the cache (tests/cache/model) in memory, and on two replicas with one Redis."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given

from mcp_proxy.stores.memory import MemoryShelf
from tests.cache.model import World, assert_met, played, thought_up
from tests.cache.operations import (
    HARD,
    Ask,
    ClearOlder,
    Operation,
    Pass,
    Stage,
    scripts,
    shortened,
    turned,
)
from tests.cache.replicas import Shared
from tests.stores.test_redis import pytestmark as needs_redis


def on_memory(script: list[Operation], met: Counter[str]) -> None:
    async def work() -> None:
        world = World(met)
        world.sidecar(MemoryShelf(100, 1 << 20, world.clock.now, world.clock.epoch))
        await played(world, script)

    asyncio.run(work())


@pytest.mark.parametrize("what", HARD)
def test_memory_where_it_is_hard(what: str) -> None:
    on_memory(HARD[what], Counter())
    on_memory(shortened(HARD[what]), Counter())


def test_memory() -> None:
    met: Counter[str] = Counter()

    # a put takes effect at once: it cannot come late
    @thought_up(400)
    @given(script=scripts(Stage(1, ("edition", "get", "origin", "origin", "invalidate"))))
    def run(script: list[Operation]) -> None:
        on_memory(script, met)

    run()
    assert_met(met, "hit", "collapsed", "at hand")


# --- two sidecars that share their answers


@pytest.mark.redis
@needs_redis[1]
@pytest.mark.parametrize("what", HARD)
def test_two_replicas_where_it_is_hard(shared: Shared, what: str) -> None:
    shared.play(HARD[what], Counter())
    shared.play(turned(HARD[what]), Counter())


@pytest.mark.redis
@needs_redis[1]
def test_a_second_clear_by_age_brings_nothing_back(shared: Shared) -> None:
    shared.play(
        [Ask("ann", "look"), Pass(10), ClearOlder(0), ClearOlder(15), Ask("ann", "look")],
        Counter(),
    )


@pytest.mark.redis
@needs_redis[1]
def test_two_replicas_on_redis(shared: Shared) -> None:
    met: Counter[str] = Counter()
    holds = ("edition", "get", "origin", "origin", "put", "invalidate")

    @thought_up(320)
    @given(script=scripts(Stage(2, holds)))
    def run(script: list[Operation]) -> None:
        shared.play(script, met)

    run()
    assert_met(met, "hit", "collapsed", "another's")
