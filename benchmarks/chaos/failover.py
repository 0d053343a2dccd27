"""One of two servers dies, again and again, and nobody notices who need not (F20, F23)."""

import asyncio
from collections import Counter
from random import Random

from benchmarks.chaos.crowd import DIALECTS
from benchmarks.chaos.findings import Finding, percentile
from benchmarks.chaos.stage import Stage, killed, stage
from tests.kit.faults import Slow
from tests.kit.ledger import check
from tests.kit.seen import Fate
from tests.kit.sent import Sent

PROMISE = "one of two servers is enough"
READS = ("jira_get_issue", "jira_search_issues", "salesforce_query")
WRITES = ("jira_create_issue", "salesforce_create")
WRITING = 0.3  # of the calls
CALLERS = tuple(f"Bearer caller-{number}" for number in range(8))
PER_SECOND = 150.0
WORK = 0.03  # seconds that a call takes, so that some are always under way
AWAY = 0.8  # seconds
BETWEEN = 1.2  # seconds in which both are there: sessions have one to follow to


async def failover(calls: int, seed: int = 5, **settings: object) -> list[Finding]:
    """Kill both servers in turns, without memory of their sessions, never both at once."""
    rng = Random(seed)
    async with stage("one of two servers dies", replicas=2, **settings) as scene:
        for server in scene.servers:
            for tool in (*READS, *WRITES):
                server.plays(tool, then=lambda: Slow(WORK * rng.uniform(0.5, 1.5), executed=True))
        for caller in CALLERS:
            await scene.crowd.open_session(caller)
        over = asyncio.Event()

        async def call(number: int) -> None:
            tools = WRITES if rng.random() < WRITING else READS
            tool = rng.choice(tools)
            caller = CALLERS[number % len(CALLERS)]
            sent = Sent(f"n{number}", tool, caller, tool.partition("_")[0])
            await scene.crowd.call(sent, DIALECTS[number % len(DIALECTS)])

        async def calls_made() -> None:
            await scene.crowd.paced(calls, PER_SECOND, call)
            over.set()

        async with asyncio.TaskGroup() as both:
            both.create_task(calls_made())
            deaths = both.create_task(in_turns(scene, over))
        scene.findings.insert(0, judged(scene, calls, *deaths.result()))
    return scene.findings


async def in_turns(scene: Stage, over: asyncio.Event) -> tuple[int, int]:
    """Kill one after the other until it is over; return how often, and the calls under way then."""
    deaths = under_way = 0
    while not over.is_set():
        server = scene.servers[deaths % 2]
        target = scene.front.sidecar.targets[deaths % 2]
        under_way += target.calls.under_way
        await killed(server, AWAY)
        deaths += 1
        await asyncio.sleep(BETWEEN)
    return deaths, under_way


def judged(scene: Stage, calls: int, deaths: int, under_way: int) -> Finding:
    crowd, ledger = scene.crowd, scene.upstream.ledger
    wrong = check(ledger, crowd.seen)
    failed = [one for one in crowd.seen if one.fate is not Fate.DONE]
    reads = [one for one in failed if one.sent.tool in READS]
    writes = [one for one in failed if one.sent.tool in WRITES]
    if reads:
        wrong.append(f"{len(reads)} reads failed: {Counter(str(one.details) for one in reads)}")
    # a write fails only when it was under way where the server died, and is told the truth then
    known = {Fate.UNKNOWN, Fate.LOST, Fate.ANSWERED}
    wrong += [f"{one.sent}: {one.fate.value}" for one in writes if one.fate not in known]
    if len(writes) > under_way:
        wrong.append(f"{len(writes)} writes failed, and {under_way} calls were under way")
    recovered = [one for one in scene.front.sidecar.targets if one.presence.departures]
    if len(recovered) < 2:
        wrong.append("a server was never seen to go")
    written = Counter(entry.nonce for entry in ledger.entries if entry.tool in WRITES)
    most = max(written.values(), default=0)
    done = (
        f"{calls} calls at {PER_SECOND:.0f}/s, {WRITING:.0%} of them writes; two servers killed in turns, "
        f"{deaths} times for {AWAY:g} s, with {under_way} calls under way there"
    )
    counted = (
        f"{len(reads)} reads failed; {len(writes)} writes told `unknown`, all others carried out; "
        f"{most} execution at most per write"
    )
    p50, p99 = (percentile(crowd.took, of) * 1000 for of in (50, 99))
    timed = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {max(crowd.took) * 1000:.0f} ms"
    return Finding(PROMISE, done, counted, not wrong, timed, tuple(wrong))
