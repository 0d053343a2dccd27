"""Sessions outlive restarts of a server that forgets them, and stay their clients' own (F20)."""

import asyncio
from random import Random

from benchmarks.chaos.crowd import Dialect
from benchmarks.chaos.findings import Finding
from benchmarks.chaos.stage import Stage, killed, stage
from tests.kit.faults import Fault
from tests.kit.ledger import check
from tests.kit.scripts import EVERY_TOOL, FINE
from tests.kit.seen import Fate
from tests.kit.sent import Sent
from tests.kit.upstream import Upstream

PROMISE = "sessions survive, and stay their clients' own"
READS = ("jira_get_issue", "jira_search_issues", "salesforce_query")
WRITE = "jira_create_issue"
AWAY = 0.3  # seconds
BETWEEN = 0.8  # seconds between two losses
THINKS = 0.02  # seconds between two calls of a client, at most
FOREIGN = "x"  # begins the nonces of calls that name another client's session


class Watch:
    """Look at each call at the server: is the session that it names the caller's own?"""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.strangers: list[str] = []

    def __call__(self) -> Fault:
        """Look at the call that has just come, and let it be answered well."""
        asked = self._upstream.asked[-1]
        owners = {one.id: one.caller for one in self._upstream.sessions.opened}
        owner = owners.get(asked["Mcp-Session-Id"])
        tried_on_purpose = f'"nonce": "{FOREIGN}'.encode() in asked.body
        if owner != asked["Authorization"] and not tried_on_purpose:
            self.strangers.append(f"{asked['Authorization']} came in the session of {owner}")
        return FINE


async def amnesia(
    clients: int, calls_each: int, seed: int = 5, **settings: object
) -> list[Finding]:
    """Crash, or only forget, again and again while clients read, write and try others' sessions."""
    async with stage("sessions across restarts", **settings) as scene:
        upstream, crowd = scene.upstream, scene.crowd
        watch = Watch(upstream)
        upstream.plays(EVERY_TOOL, then=watch)
        callers = [f"Bearer client-{number}" for number in range(clients)]
        for caller in callers:
            await crowd.open_session(caller)
        rng = Random(seed)

        async def client(number: int) -> None:
            caller, neighbour = callers[number], callers[(number + 1) % clients]
            for turn in range(calls_each):
                foreign = turn % 10 == 9
                nonce = f"{FOREIGN if foreign else 'n'}{number}-{turn}"
                tool = WRITE if turn % 2 else READS[turn // 2 % len(READS)]
                session = crowd.sessions[neighbour if foreign else caller]
                await crowd.call(Sent(nonce, tool, caller), Dialect.SESSION, session)
                await asyncio.sleep(rng.random() * THINKS)

        losing = asyncio.get_running_loop().create_task(lose_sessions(upstream))
        async with asyncio.TaskGroup() as all_of_them:
            for number in range(clients):
                all_of_them.create_task(client(number))
        losing.cancel()
        await asyncio.gather(losing, return_exceptions=True)
        scene.findings.insert(0, judged(scene, watch, clients))
    return scene.findings


async def lose_sessions(upstream: Upstream) -> None:
    """Restart and forget in turns, until cancelled."""
    while True:
        await asyncio.sleep(BETWEEN / 2)
        await killed(upstream, AWAY)
        await asyncio.sleep(BETWEEN)
        upstream.forget_sessions()
        await asyncio.sleep(BETWEEN / 2)


def judged(scene: Stage, watch: Watch, clients: int) -> Finding:
    upstream, seen = scene.upstream, scene.crowd.seen
    own = [one for one in seen if not one.sent.nonce.startswith(FOREIGN)]
    reads = [one for one in own if one.sent.tool != WRITE]
    writes = [one for one in own if one.sent.tool == WRITE]
    foreign = [one for one in seen if one.sent.nonce.startswith(FOREIGN)]
    served = [one for one in foreign if one.fate is Fate.DONE or upstream.ledger.of(one.sent.nonce)]
    failed = [one for one in reads if one.fate is not Fate.DONE]
    most = max((len(upstream.ledger.of(one.sent.nonce)) for one in writes), default=0)
    wrong = check(upstream.ledger, seen) + watch.strangers
    wrong += [f"{one.sent}: served in the session of another" for one in served]
    wrong += [f"{one.sent}: {one.fate.value}, {one.status} {one.details}" for one in failed]
    lost = sum(one.fate is Fate.ANSWERED for one in writes)
    unknown = sum(one.fate is Fate.UNKNOWN for one in writes)
    counted = (
        f"{len(failed)} of {len(reads)} reads failed; {most} executions at most of "
        f"{len(writes)} writes ({lost} got the server's 404, {unknown} `unknown`); "
        f"{len(served)} of {len(foreign)} calls served in another's session, "
        f"{len(watch.strangers)} sent there by the sidecar"
    )
    reopened = len(upstream.sessions.opened) - clients
    circuits = "off" if scene.front.sidecar.targets[0].breaker is None else "on"
    done = (
        f"{clients} clients, {len(seen)} calls, crashes and amnesia in turns, circuits {circuits}; "
        f"{reopened} sessions opened anew by the sidecar"
    )
    return Finding(PROMISE, done, counted, not wrong, wrong=tuple(wrong))
