"""More calls than the server can do: as much is done as before, and the rest hears of it (F48)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

from benchmarks.chaos.crowd import DIALECTS, Crowd, Dialect
from benchmarks.chaos.findings import Finding, percentile
from benchmarks.chaos.stage import Stage, stage
from tests.edge.wire import get
from tests.kit.faults import Busy
from tests.kit.ledger import Ledger, check
from tests.kit.scripts import EVERY_TOOL
from tests.kit.seen import Fate, Seen
from tests.kit.sent import Sent

PROMISE = "overload: goodput >= 90 % of the peak"
READ, WRITE = "salesforce_query", "salesforce_create"
CALLER = "Bearer caller"
# Answers that are known: one that is fresh, and one that is over when the overload begins.
FRESH, OLD = Sent("fresh", "jira_get_issue", CALLER), Sent("old", "jira_search_issues", CALLER)
RULES = Path(__file__).with_name("overload.toml")
WORKERS = 10
# What the operator says: more than the workers, so that none waits for the next call to arrive.
LIMIT = {"MCP_CONCURRENCY_LIMIT": 2 * WORKERS}
ADAPTIVE = {"MCP_CONCURRENCY_ADAPTIVE": True}
OVER = 3.0  # times what the server can do
GOOD = 0.9
HEALTHY = ("/livez", "/api/health")
LOOK = 0.1  # seconds between two looks at the health, and between two hits
# Seconds until the queue is as long as a call may wait, and the first that waits in vain knows it.
FILLING = 2.0
AT_ONCE = 0.05  # seconds until a refusal, as promised


class Workers(asyncio.Semaphore):
    """What the server works with, and how long they were at work, all of them together."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._at_work = 0
        self._seconds, self._since = 0.0, time.monotonic()

    async def acquire(self) -> Literal[True]:
        await super().acquire()
        self._count(1)
        return True

    def release(self) -> None:
        self._count(-1)
        super().release()

    def seconds(self) -> float:
        """Return the seconds of work so far."""
        self._count(0)
        return self._seconds

    def _count(self, more: int) -> None:
        now = time.monotonic()
        self._seconds += self._at_work * (now - self._since)
        self._since = now
        self._at_work += more


class Ended(NamedTuple):
    """What came of a call."""

    seen: Seen
    came: float
    ended: float

    @property
    def took(self) -> float:
        return self.ended - self.came


@dataclass
class Phase:
    """Calls that come for some seconds, and what came of each of them, and when."""

    began: float
    seconds: float
    at_work: float = 0.0  # of the workers' time while calls kept coming, the share they worked
    ended: list[Ended] = field(default_factory=list)

    @property
    def in_time(self) -> int:
        """Return how many succeeded while calls kept coming."""
        until = self.began + self.seconds
        return sum(one.seen.fate is Fate.DONE and one.ended < until for one in self.ended)

    def worth(self, ledger: Ledger) -> float:
        """Return the share of the executions that a caller learnt the answer of."""
        executed = sum(len(ledger.of(one.seen.sent.nonce)) for one in self.ended)
        done = sum(one.seen.fate is Fate.DONE for one in self.ended)
        return done / max(1, executed)

    def goodput(self, ledger: Ledger) -> float:
        """Return the share of the workers' time that was spent on what a caller learnt.

        It is the same on a machine that is late with everything, unlike successes per second.
        """
        return self.at_work * self.worth(ledger)

    @property
    def refused(self) -> list[Ended]:
        return [one for one in self.ended if one.seen.details is not None]


async def overload(
    seconds: float = 10.0,
    per_second: float = 50.0,
    patience: float = 2.0,
    seed: int = 4,
    **settings: object,
) -> list[Finding]:
    """Send what the server can do, then three times as much, whether it answers or not.

    The server has ten workers and a line before them. Counted is the share of their time that was
    spent on calls that were answered within the client's patience.
    """
    scenery = {
        "MCP_CACHE_ENABLED": True,
        "MCP_CACHE_STALE_WHILE_REVALIDATE": 0,
        "MCP_CONFIG_FILE": RULES,
        **settings,
    }
    how = ", ".join(f"{name}={value}" for name, value in settings.items()) or "default limits"
    async with stage(f"overload, {how}", patience=patience, **scenery) as scene:
        workers = Workers(WORKERS)
        work = Busy(workers, WORKERS / per_second)
        scene.upstream.plays(EVERY_TOOL, then=work)
        scene.upstream.plays("GET /api/health", then=work)
        await scene.crowd.open_session(CALLER)
        for known in (FRESH, OLD):
            await scene.crowd.call(known, Dialect.REST)
        gap = 1 / per_second
        peak = await load(scene, workers, "peak", seconds, lambda: gap)
        rng = Random(seed)
        async with looked_at(scene) as looks:
            often = OVER * per_second
            flood = await load(scene, workers, "flood", seconds, lambda: rng.expovariate(often))
        scene.findings.insert(0, judged(scene, how, peak, flood, looks))
    return scene.findings


async def load(
    scene: Stage, workers: Workers, name: str, seconds: float, gap: Callable[[], float]
) -> Phase:
    """Let calls come for so long, each `gap()` seconds after the one before."""
    phase = Phase(time.monotonic(), seconds)
    before = workers.seconds()

    async def call(number: int) -> None:
        sent = Sent(f"{name}-{number}", (READ, WRITE)[number % 2], CALLER, "salesforce")
        came = time.monotonic()
        seen = await scene.crowd.call(sent, DIALECTS[number // 2 % len(DIALECTS)])
        phase.ended.append(Ended(seen, came, time.monotonic()))

    async with asyncio.TaskGroup() as all_of_them:
        due = phase.began
        for number in count():
            due = min(due + gap(), phase.began + seconds)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if due == phase.began + seconds:
                break
            all_of_them.create_task(call(number))
        passed = time.monotonic() - phase.began
        phase.at_work = (workers.seconds() - before) / (WORKERS * passed)
    return phase


@dataclass
class Looks:
    """What others see meanwhile: who asks for the health, and who asks for what is known."""

    health: list[float] = field(default_factory=list)  # seconds until each answer
    ill: list[str] = field(default_factory=list)
    known: list[Seen] = field(default_factory=list)

    async def see(self, probes: Crowd, path: str) -> None:
        """Ask for the health again and again."""
        while True:
            began = time.monotonic()
            said = await probes.ask(get(path))
            self.health.append(time.monotonic() - began)
            if said is None or said.status != 200:
                self.ill.append(f"{path}: {said.status if said else 'no answer'}")
            await asyncio.sleep(LOOK)

    async def recall(self, crowd: Crowd, sent: Sent) -> None:
        """Ask for what is known again and again."""
        while True:
            self.known.append(await crowd.call(sent, Dialect.REST))
            await asyncio.sleep(LOOK)


@asynccontextmanager
async def looked_at(scene: Stage) -> AsyncIterator[Looks]:
    """Look at the health, and ask for what is known, during the block."""
    looks, probes = Looks(), Crowd(scene.front.port, patience=5.0)
    loop = asyncio.get_running_loop()
    looking = [loop.create_task(looks.see(probes, path)) for path in HEALTHY]
    looking += [loop.create_task(looks.recall(scene.crowd, sent)) for sent in (FRESH, OLD)]
    try:
        yield looks
    finally:
        for one in looking:
            one.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        await probes.leave()


def judged(scene: Stage, how: str, peak: Phase, flood: Phase, looks: Looks) -> Finding:
    ledger = scene.upstream.ledger
    good, at_peak = flood.goodput(ledger), peak.goodput(ledger)
    ratio = good / max(1e-9, at_peak)
    unknown = sum(one.fate is not Fate.DONE for one in looks.known)
    late = sum(one.seen.fate is Fate.LOST for one in flood.ended)
    wrong = check(ledger, scene.crowd.seen)
    wrong += [f"{one.seen.sent}: {fault}" for one in flood.refused for fault in unfit(one.seen)]
    wrong += looks.ill
    if ratio < GOOD:
        wrong.append(
            f"{good:.0%} of the workers' time for successes, {at_peak:.0%} at the peak ({how})"
        )
    if len(ledger.of(FRESH.nonce)) > 1:
        wrong.append("what is known was asked for")
    if unknown:
        wrong.append(f"{unknown} calls whose answer is known failed")
    counted = (
        f"{good:.1%} of the workers' time for successes, {at_peak:.1%} at the peak: {ratio:.2f}; "
        f"{len(flood.refused)} refused with `overloaded`, `delivered: no`, none of them executed; "
        f"{late} without an answer in time; {unknown} of {len(looks.known)} calls whose answer is "
        f"known failed; health: {len(looks.ill)} of {len(looks.health)} not 200"
    )
    done = (
        f"{len(flood.ended)} calls in {flood.seconds:g} s, {OVER:g} times what the server can do; "
        f"{how}"
    )
    return Finding(PROMISE, done, counted, not wrong, timed(peak, flood, looks), tuple(wrong))


def timed(peak: Phase, flood: Phase, looks: Looks) -> str:
    """Tell how long it took; while the queue fills, it may be a burst, and calls wait."""
    first = [one.took for one in flood.refused if one.came - flood.began < FILLING]
    later = [one.took for one in flood.refused if one.came - flood.began >= FILLING]
    answered = [one.took for one in flood.ended if one.seen.fate is Fate.DONE]
    quick = sum(took < AT_ONCE for took in later) / max(1, len(later))
    return (
        f"{flood.in_time} successes before the end, {peak.in_time} at the peak; "
        f"{len(later)} refused after p50 {ms(later, 50)}, p99 {ms(later, 99)}, "
        f"{quick:.1%} of them in under 50 ms; {len(first)} that came in the first 2 s after "
        f"p50 {ms(first, 50)}; answered after p50 {ms(answered, 50)}, p99 {ms(answered, 99)}; "
        f"health after p99 {ms(looks.health, 99)}"
    )


def ms(samples: list[float], share: float) -> str:
    return f"{percentile(samples, share) * 1000:.0f} ms"


def unfit(seen: Seen) -> list[str]:
    """Return what is wrong with a refusal; that it is true, the ledger says."""
    details = seen.details or {}
    wrong = []
    if details.get("code") != "overloaded" or seen.fate is not Fate.NOT_DELIVERED:
        wrong.append(f"was told {details.get('code')}, delivered: {details.get('delivered')}")
    if seen.retry_after is None or not details.get("retry_after_ms"):
        wrong.append("was not told when to come again")
    return wrong
