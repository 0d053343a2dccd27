"""Reads succeed though some tries fail, and though the server is restarted under load (F23)."""

import asyncio
from collections.abc import Sequence
from random import Random

from benchmarks.chaos.crowd import DIALECTS, Call, Crowd
from benchmarks.chaos.findings import Finding, percentile
from benchmarks.chaos.stage import Stage, killed, stage
from tests.kit.damage import Cut, Garbage, SaidLength, Status, WrongLength
from tests.kit.faults import Close, CloseAfter, CloseOnNext, Fault, Reset, Slow
from tests.kit.ledger import check
from tests.kit.seen import Fate, Seen
from tests.kit.sent import Sent

PROMISE = "reads heal"
READS = ("jira_get_issue", "jira_search_issues", "salesforce_query")
CALLERS = tuple(f"Bearer reader-{number}" for number in range(8))
PER_SECOND = 200.0
FAULTY = 0.05  # of the tries
WORK = 0.04  # seconds that a read takes, so that some are always under way
POPULAR = ("jira_get_issue",)  # every call is of this one, and takes longer:
LONG_WORK = 0.2  # seconds; so many of one tool are under way when the server dies
SUCCEED = 0.999
TRANSIENT: tuple[Fault, ...] = (
    *(Reset(), Reset(executed=True), Close(), Close(executed=True), CloseAfter(), CloseOnNext()),
    *(Cut(), Cut(0.95, reset=True), Cut(None), WrongLength(5, closes=True), WrongLength(-2)),
    *(SaidLength(("3", "30")), Garbage(), Status(500), Status(502), Status(503), Status(504)),
)


async def through_faults(calls: int, seed: int = 2, **settings: object) -> list[Finding]:
    """Let one try of twenty fail."""
    rng = Random(seed)
    async with stage("reads through transient faults", **settings) as scene:
        await all_shake_hands(scene)

        def fault() -> Fault:
            return rng.choice(TRANSIENT) if rng.random() < FAULTY else Slow(WORK)

        for tool in READS:
            scene.upstream.plays(tool, then=fault)
        await scene.crowd.paced(calls, PER_SECOND, read_of(scene, READS))
        played = scene.upstream.scripts.played
        struck = sum(count for name, count in played.items() if name not in {"Fine", "Slow"})
        done = f"{calls} reads at {PER_SECOND:.0f}/s, {struck} of the tries struck by a fault"
        scene.findings.insert(0, judged(scene, done))
    return scene.findings


async def through_a_restart(
    calls: int, away: float = 2.0, *, popular: bool = False, seed: int = 3, **settings: object
) -> list[Finding]:
    """Kill the server under load, and let it return without memory of its sessions.

    A popular tool has tens of calls under way at that moment, and all of them fail at once.
    """
    rng = Random(seed)
    tools, work = (POPULAR, LONG_WORK) if popular else (READS, WORK)
    what = "of one tool" if popular else f"of {len(READS)} tools"
    async with stage(f"reads {what} through a restart", **settings) as scene:
        await all_shake_hands(scene)
        for tool in tools:
            scene.upstream.plays(tool, then=lambda: Slow(work * rng.uniform(0.5, 1.5)))

        async def restart() -> int:
            await asyncio.sleep((calls / PER_SECOND - away) / 3)
            under_way = scene.front.sidecar.metrics.in_flight
            await killed(scene.upstream, away)
            return under_way

        async with asyncio.TaskGroup() as both:
            restarting = both.create_task(restart())
            both.create_task(scene.crowd.paced(calls, PER_SECOND, read_of(scene, tools)))
        done = (
            f"{calls} reads {what} at {PER_SECOND:.0f}/s, the server killed with "
            f"{restarting.result()} under way, and away for {away:.0f} s"
        )
        scene.findings.insert(0, judged(scene, done))
    return scene.findings


async def all_shake_hands(scene: Stage) -> None:
    for caller in CALLERS:
        await scene.crowd.open_session(caller)


def read_of(scene: Stage, tools: Sequence[str]) -> Call:
    """Return a call that reads, in each dialect in turn."""

    async def call(number: int) -> None:
        dialect = DIALECTS[number % len(DIALECTS)]
        tool = tools[number // len(DIALECTS) % len(tools)]
        service = tool.partition("_")[0]
        caller = CALLERS[number % len(CALLERS)]
        await scene.crowd.call(Sent(f"r{number}", tool, caller, service), dialect)

    return call


def judged(scene: Stage, done: str) -> Finding:
    crowd = scene.crowd
    good = crowd.count(Fate.DONE)
    share = good / len(crowd.seen)
    wrong = check(scene.upstream.ledger, crowd.seen)
    if share < SUCCEED:
        wrong.append(f"{len(crowd.seen) - good} of {len(crowd.seen)} reads failed")
        wrong += why(crowd)
    counted = f"{share:.2%} succeeded ({len(crowd.seen) - good} failed; promised: {SUCCEED:.1%})"
    p50, p99 = (percentile(crowd.took, of) * 1000 for of in (50, 99))
    timed = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {max(crowd.took) * 1000:.0f} ms"
    return Finding(PROMISE, done, counted, not wrong, timed, tuple(wrong))


def why(crowd: Crowd) -> list[str]:
    """Return what those were told that were not served."""
    return [told(one) for one in crowd.seen if one.fate is not Fate.DONE]


def told(one: Seen) -> str:
    details = one.details or {}
    return f"{one.sent}: {one.fate.value}, status {one.status}, {details.get('code', '')}"
