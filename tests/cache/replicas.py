"""Two sidecars on one real Redis, which is far away and refuses what it is told to refuse."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

from mcp_proxy.core.shelf import Generations, Shelf
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf
from mcp_proxy.stores.tiered import Strategy, TieredShelf
from tests.cache.model import World, played, stop
from tests.cache.operations import Operation
from tests.fakes import Told
from tests.stores.conftest import Server

T = TypeVar("T")

# DESIGN section 4: other replicas' memory tiers hear of an invalidation within a second.
LAG = 1.0  # seconds
# How access control says it; tokens are fields of a hash.
REFUSED = {"nothing": "+@all", "all": "-@all", "writes": "-@write", "tokens": "-hset"}
_GRID = 500  # milliseconds; no step of the clock is smaller


class SlowRedis(RedisShelf):
    """Redis, on the way to which a call may stop; the oracle sees whom it refuses something."""

    def __init__(self, server: Server, world: World, at: int) -> None:
        url = f"redis://replica{at}:@127.0.0.1:{server.port}/0"
        # more patient than a real one: a busy machine is no trouble with Redis
        clock = world.clock
        super().__init__(
            url,
            "old",
            clock.now,
            Told(),
            world.spawn,
            epoch=clock.epoch,
            sleep=clock.sleep,
            timeout=2.0,
        )
        self._world = world
        self._at = at
        world.ledger.start(at)

    async def _ask(self, work: Awaitable[T], otherwise: T) -> T:
        failures = self._failures
        with self._world.working():
            answer = await super()._ask(work, otherwise)
        if self._failures > failures:
            self._world.ledger.refused(self._at)
        return answer

    async def _pay(self) -> bool:
        before = self._world.ledger.pays(self._at)
        paid = await super()._pay()
        if paid:
            self._world.ledger.paid(self._at, before)
        return paid

    async def generations(self) -> Generations | None:
        found = await super().generations()
        await stop("far edition")
        return found

    async def get(self, key: str) -> bytes | None:
        found = await super().get(key)
        await stop("far get")
        return found

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        await stop("store")
        done = await super().put(key, frame, seconds)
        if done:
            self._world.kept(key, frame)
        return done

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> None:
        await stop("far invalidate")
        await super().invalidate(scope, quarantine)


class Shared:
    """A redis-server whose time is the fake clock's: what passes is taken from its keys."""

    def __init__(self) -> None:
        self._server = Server()
        self._server.start()
        self._raw = self._server.raw()

    def play(
        self, script: list[Operation], met: Counter[str], strategy: Strategy | None = None
    ) -> None:
        """Play on two replicas; those with a strategy have memory in front of Redis."""

        async def work() -> None:
            world = World(met, LAG if strategy else 0.0)
            world.pass_elsewhere = self._advance
            world.refuse = self._refuse
            for at in range(2):
                world.sidecar(self._shelf(world, at, strategy))
            await played(world, script)

        self._raw.flushall()
        for at in range(2):
            self._refuse(at, "nothing")
        asyncio.run(work())

    def _shelf(self, world: World, at: int, strategy: Strategy | None) -> Shelf:
        far = SlowRedis(self._server, world, at)
        if strategy is None:
            return far
        clock = world.clock
        near = MemoryShelf(100, 1 << 20, clock.now, clock.epoch)
        return TieredShelf(
            near, far, clock.now, world.spawn, Told(), epoch=clock.epoch, strategy=strategy
        )

    def _refuse(self, at: int, what: str) -> None:
        self._raw.acl_setuser(
            f"replica{at}",
            enabled=True,
            nopass=True,
            keys=["*"],
            commands=["+@all", REFUSED[what]],
        )

    def _advance(self, seconds: float) -> None:
        for key in list(self._raw.scan_iter()):
            left = self._raw.pttl(key)
            if left < 0:
                continue  # for ever
            # what the test itself took comes back: all ends lie on whole steps
            left = -(-left // _GRID) * _GRID - int(seconds * 1000)
            self._raw.pexpire(key, left)  # one that is over goes

    def close(self) -> None:
        self._raw.close()
        self._server.stop()
