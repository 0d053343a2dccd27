"""What happens to the server, Redis, the log and the settings, and when: storms, and calm between."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle
from random import Random

from benchmarks.soak.log import LogReader
from benchmarks.soak.scene import Scene
from tests.edge.wire import request as raw_request

STORM = 9.0  # seconds in which the server misbehaves; one disturbance falls into each
SETTLE = 3.0  # seconds until calls of the storm have ended, and circuits have closed
CALM = 3.0  # seconds that are measured
Ask = Callable[[bytes], Awaitable[object]]


class Weather:
    """One disturbance after the other; calls that begin and end in the calm between are clean."""

    def __init__(self, scene: Scene, log: LogReader, ask: Ask, rng: Random) -> None:
        self._scene = scene
        self._log = log
        self._ask = ask
        self._rng = rng
        self.happened: Counter[str] = Counter()
        self.calm: int | None = None  # which calm this is; None in a storm
        self._calms = 0

    async def blow(
        self,
        over: Callable[[], bool],
        abates: Callable[[], Awaitable[None]],
        measured: Callable[[], None],
    ) -> None:
        """Go on until it is over; `abates` hears of the end of each storm, `measured` of each calm."""
        every = (
            *(self.killed, self.redis_hangs, self.log_stalls),
            *(self.stopped, self.redis_dies, self.reloads),
        )
        for disturb in cycle(every):
            self._scene.server.send_signal(signal.SIGUSR1)
            until = asyncio.get_running_loop().time() + STORM
            await disturb()
            self.happened[disturb.__name__] += 1
            self._scene.server.send_signal(signal.SIGUSR1)  # it may be another one
            await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
            self._scene.server.send_signal(signal.SIGUSR2)
            await abates()
            await asyncio.sleep(SETTLE)
            if over():
                return
            self._calms += 1
            self.calm = self._calms
            await asyncio.sleep(CALM)
            self.calm = None
            measured()

    async def killed(self) -> None:
        """Kill the server; it is away for less or more than the grace of a restart (3 s)."""
        await self._restart(signal.SIGKILL)

    async def stopped(self) -> None:
        """End the server in good order, and start it again."""
        await self._restart(signal.SIGTERM)

    async def _restart(self, number: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.5, 2.0))
        await asyncio.to_thread(self._scene.end_server, number)
        await asyncio.sleep(self._rng.uniform(0.1, 4.0))
        await asyncio.to_thread(self._scene.start_server)

    async def redis_hangs(self) -> None:
        """Freeze Redis: it takes what is sent and is silent."""
        self._scene.redis.send(signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(2.0, 6.0))
        self._scene.redis.send(signal.SIGCONT)

    async def redis_dies(self) -> None:
        """Kill Redis; what it knew is lost."""
        await asyncio.to_thread(self._scene.redis.stop)
        await asyncio.sleep(self._rng.uniform(1.0, 5.0))
        await asyncio.to_thread(self._scene.redis.start)

    async def log_stalls(self) -> None:
        """Leave the log unread for seconds."""
        self._log.stall(self._rng.uniform(3.0, 8.0))

    async def reloads(self) -> None:
        """Let the sidecar read its settings anew, and empty its cache, some times each."""
        for _ in range(3):
            self._scene.write_rules()
            self._scene.sidecar.send_signal(signal.SIGHUP)
            self.happened["SIGHUP"] += 1
            await asyncio.sleep(self._rng.uniform(0.2, 1.5))
            await self._ask(raw_request("POST", "/api/cache/clear", body=b""))
