"""Where a scenario plays: a server that can do everything wrong, a sidecar, and the clients."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.crowd import Crowd
from benchmarks.chaos.findings import NOTHING_LEAKED, Finding
from tests.edge.wire import Front, descriptors, sidecar
from tests.kit.tools import TOOLS, Tool
from tests.kit.upstream import Upstream

RULES = Path(__file__).parents[2] / "config" / "mcp_proxy.toml"
# What tests/edge/wire.py shortens for tests is as in production here; answers are not kept, so that
# every call reaches the server.
AS_IN_PRODUCTION = {
    "MCP_BACKOFF_BASE": 0.1,
    "MCP_RESTART_GRACE": 3,
    "MCP_CACHE_ENABLED": "false",
    "MCP_CONFIG_FILE": RULES,
    "MCP_SSE_KEEPALIVE": 2,  # the task that looks after streams ends half a second after the last
}
_TO_BASELINE = 8.0  # seconds; idle connections of the sidecar end after 4
_LOOK = 0.05  # seconds between two looks


@dataclass
class Stage:
    """One scenario's server, sidecar and clients."""

    servers: list[Upstream]  # one, or replicas that write into one ledger
    front: Front
    crowd: Crowd
    findings: list[Finding] = field(default_factory=list)

    @property
    def upstream(self) -> Upstream:
        return self.servers[0]


async def killed(upstream: Upstream, seconds: float) -> None:
    """Kill the server; it is back, without memory, after so long."""
    with upstream.away():
        for _ in range(5):  # who was just coming in when it died is reset, too
            await asyncio.sleep(0)
            upstream.drop()
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds."""

    descriptors: int
    tasks: int

    def beyond(self, other: "Held") -> list[str]:
        """Return what is more than the other, in words."""
        pairs = (
            (self.descriptors - other.descriptors, "descriptors"),
            (self.tasks - other.tasks, "tasks"),
        )
        return [f"{more} {what}" for more, what in pairs if more > 0]


def held() -> Held:
    return Held(descriptors(), len(asyncio.all_tasks()))


@asynccontextmanager
async def stage(
    name: str,
    tools: Iterable[Tool] = TOOLS,
    patience: float = 10.0,
    replicas: int = 1,
    **settings: object,
) -> AsyncIterator[Stage]:
    """Set the scene; when it is over, add what was left behind to the findings."""
    outside = held()
    wrong: list[str] = []
    async with AsyncExitStack() as running:
        first = await running.enter_async_context(Upstream(tools).running())
        servers = [first]
        for _ in range(replicas - 1):
            another = Upstream(tools, ledger=first.ledger).running()
            servers.append(await running.enter_async_context(another))
        urls = ",".join(one.url for one in servers)
        front = await running.enter_async_context(sidecar(urls, **{**AS_IN_PRODUCTION, **settings}))
        front.sidecar.start()
        scene = Stage(servers, front, Crowd(front.port, patience))
        inside = await at_rest(scene)
        try:
            yield scene
        finally:
            await scene.crowd.leave()
        seconds = await back_to(inside, scene, wrong)
    for _ in range(20):  # closed sockets are let go of by the loop's next rounds
        await asyncio.sleep(_LOOK / 10)
    wrong += [f"{what} after the end" for what in held().beyond(outside)]
    scene.findings.append(
        Finding(
            NOTHING_LEAKED,
            name,
            "",
            not wrong,
            f"{seconds:.1f}",
            tuple(f"{name}: {one}" for one in wrong),
        )
    )


async def at_rest(scene: Stage) -> Held:
    """Return what is held when the sidecar has looked at the server and nobody has come yet."""
    sidecar = scene.front.sidecar
    for _ in range(100):
        seen = all(target.monitor.last is not None for target in sidecar.targets)
        if seen and not sidecar.catalogue.empty:
            break
        await asyncio.sleep(_LOOK)
    least = held()
    for _ in range(4):
        for server in scene.servers:
            server.drop()
        await asyncio.sleep(_LOOK)
        least = min(least, held(), key=lambda one: (one.descriptors, one.tasks))
    return least


async def back_to(baseline: Held, scene: Stage, wrong: list[str]) -> float:
    """Wait until nothing more is held than at rest, but not for ever; return the seconds."""
    began = time.monotonic()
    left: list[str] = []
    while time.monotonic() - began < _TO_BASELINE:
        for server in scene.servers:
            server.scripts.clear()
            server.greetings.clear()
            server.accept()
            server.drop()
        await asyncio.sleep(_LOOK)
        left = held().beyond(baseline)
        in_flight = scene.front.sidecar.metrics.in_flight
        left += [f"{in_flight} calls in flight"] if in_flight else []
        if not left:
            break
    wrong += left
    return time.monotonic() - began
