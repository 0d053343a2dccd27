"""One tool that hangs does not take its neighbours along (F2, F31)."""

import asyncio

from benchmarks.chaos.crowd import DIALECTS, Crowd
from benchmarks.chaos.findings import Finding, percentile
from benchmarks.chaos.stage import Stage, stage
from tests.kit.faults import Hang, Slow
from tests.kit.ledger import check
from tests.kit.seen import Fate
from tests.kit.sent import Sent

PROMISE = "no cascade"
HANGING = "salesforce_create"
HEALTHY = ("jira_get_issue", "jira_create_issue", "jira_search_issues")
CALLER = "Bearer neighbour"
SHARE = 64  # MCP_CONCURRENCY_PER_TOOL; a quarter of the default, for clients share this process
PER_SECOND = 100.0
WORK = 0.01  # seconds of a healthy call
AGAIN = 0.1  # seconds after which a refused caller of the hanging tool comes back


async def no_cascade(calls: int, turns: int = 2, **settings: object) -> list[Finding]:
    """Make healthy calls alone, then beside twice its share of calls that hang, in turns."""
    scenery = {"MCP_CONCURRENCY_PER_TOOL": SHARE, **settings}
    async with stage("cascade", patience=30.0, **scenery) as scene:
        await scene.crowd.open_session(CALLER)
        scene.upstream.plays(HANGING, then=Hang())
        for tool in HEALTHY:
            scene.upstream.plays(tool, then=Slow(WORK))
        per_turn = calls // turns
        alone, beside = [], []
        hung = 0
        for turn in range(turns):
            alone += await healthy(scene, per_turn, f"a{turn}")
            hanging = Crowd(scene.front.port, patience=60.0)
            crowding = asyncio.get_running_loop().create_task(hang(hanging, f"h{turn}"))
            await scene.upstream.until(lambda: scene.upstream.arrived[HANGING] >= SHARE)
            beside += await healthy(scene, per_turn, f"b{turn}")
            hung = max(hung, scene.front.sidecar.metrics.in_flight)
            crowding.cancel()
            await asyncio.gather(crowding, return_exceptions=True)
            await hanging.leave()
            scene.upstream.arrived[HANGING] = 0
        scene.findings.insert(0, judged(scene, alone, beside, hung))
    return scene.findings


async def healthy(scene: Stage, calls: int, name: str) -> list[float]:
    """Return how long each healthy call took."""
    before = len(scene.crowd.took)

    async def call(number: int) -> None:
        sent = Sent(f"{name}-{number}", HEALTHY[number // len(DIALECTS) % len(HEALTHY)], CALLER)
        await scene.crowd.call(sent, DIALECTS[number % len(DIALECTS)])

    await scene.crowd.paced(calls, PER_SECOND, call)
    return scene.crowd.took[before:]


async def hang(crowd: Crowd, name: str) -> None:
    """Call the hanging tool until cancelled, twice its share at a time."""

    async def again_and_again(number: int) -> None:
        sent = Sent(f"{name}-{number}", HANGING, service="salesforce")
        await asyncio.sleep(number / (2 * SHARE))  # refusals are spread over the second, no herd
        while True:
            await crowd.ask(sent.rest())
            await asyncio.sleep(AGAIN)

    await crowd.many(2 * SHARE, 2 * SHARE, again_and_again)


def judged(scene: Stage, alone: list[float], beside: list[float], hung: int) -> Finding:
    crowd = scene.crowd
    failed = len(crowd.seen) - crowd.count(Fate.DONE)
    known = {entry.nonce for entry in scene.upstream.ledger.entries if entry.tool == HANGING}
    wrong = check(scene.upstream.ledger, crowd.seen)
    if failed:
        wrong.append(f"{failed} healthy calls failed")
    if known:
        wrong.append("a call that hung was executed")
    halves = [percentile(half, 99) * 1000 for half in (alone, beside)]
    timed = (
        f"p99 {halves[0]:.1f} ms alone, {halves[1]:.1f} ms beside: "
        f"ratio {halves[1] / halves[0]:.2f} (promised: 1.2)"
    )
    done = (
        f"{len(crowd.seen)} healthy calls at {PER_SECOND:.0f}/s, half of them beside {hung} calls "
        f"of a tool that hangs and may have {SHARE}"
    )
    return Finding(PROMISE, done, f"{failed} healthy calls failed", not wrong, timed, tuple(wrong))
