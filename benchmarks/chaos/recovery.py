"""The first success comes soon after the server's return, and one call finds out (F1, F33)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.chaos.crowd import DIALECTS, Dialect
from benchmarks.chaos.findings import Finding
from benchmarks.chaos.stage import Stage, stage
from mcp_proxy.upstream.presence import State
from tests.kit.damage import Status
from tests.kit.faults import Fault, Slow
from tests.kit.ledger import check
from tests.kit.scripts import FINE
from tests.kit.seen import Fate
from tests.kit.sent import Sent
from tests.kit.turn import Turn

PROMISE = "recovery"
READ, WRITE = "jira_get_issue", "jira_create_issue"
CALLER = "Bearer ann"
GRACE = 0.5  # seconds, MCP_RESTART_GRACE: the server is lost soon
PROBE_INTERVAL = 1.1  # seconds between two looks at a server that is away, with their jitter
MARGIN = 0.5  # seconds, for a machine that is shared
LOOK = 0.02  # seconds between two calls of the client that waits
LONGEST = 5.0  # seconds; no wait of these is longer
RECOVERY = 0.3  # seconds, MCP_CB_RECOVERY_TIMEOUT


@dataclass(frozen=True, slots=True)
class FailsWhenTold:
    """Keep the probe out until the test lets it fail."""

    until: asyncio.Event

    async def strike(self, turn: Turn) -> None:
        await turn.wait(self.until)
        turn.reset()


async def returns(times: int, seed: int = 4, **settings: object) -> list[Finding]:
    """Let the server be lost, return at any moment, and see when the first call succeeds."""
    rng = Random(seed)
    async with stage("recovery of the server", MCP_RESTART_GRACE=GRACE, **settings) as scene:
        took = [await one_return(scene, number, rng.random()) for number in range(times)]
        late = [seconds for seconds in took if seconds > PROBE_INTERVAL + MARGIN]
        wrong = check(scene.upstream.ledger, scene.crowd.seen)
        if late:
            wrong.append(f"{len(late)} first successes came late: {max(late):.1f} s")
        counted = (
            f"{len(took) - len(late)} of {times} within one probe interval ({PROBE_INTERVAL} s) "
            f"and {MARGIN} s"
        )
        timed = f"first success after {min(took):.2f} to {max(took):.2f} s"
        done = f"the server lost and back {times} times, a read every {LOOK * 1000:.0f} ms"
        finding = Finding(PROMISE, done, counted, not wrong, timed, tuple(wrong))
        scene.findings.insert(0, finding)
    return scene.findings


async def one_return(scene: Stage, number: int, away: float) -> float:
    """Return the seconds between the server's return and the first success."""
    presence = scene.front.sidecar.targets[0].presence
    calls = 0

    async def succeeds() -> bool:
        nonlocal calls
        calls += 1
        seen = await scene.crowd.call(Sent(f"p{number}-{calls}", READ, CALLER), Dialect.REST)
        return seen.fate is Fate.DONE

    scene.upstream.crash()
    over = time.monotonic() + LONGEST
    while presence.state is not State.LOST and time.monotonic() < over:
        await succeeds()
        await asyncio.sleep(LOOK)
    await asyncio.sleep(away)
    scene.upstream.accept()
    began = time.monotonic()
    while not await succeeds() and time.monotonic() < began + LONGEST:  # noqa: ASYNC110 - a client
        await asyncio.sleep(LOOK)
    return time.monotonic() - began


async def one_probe(
    waiting: int,
    failing: int = 2,
    dialects: Sequence[Dialect] = DIALECTS,
    **settings: object,
) -> list[Finding]:
    """Open a tool's circuit, and come with many calls at the moment when it is half open.

    So many probes fail, then one succeeds; all that in each dialect.
    """
    scenery = {"MCP_CB_RECOVERY_TIMEOUT": RECOVERY, **settings}
    async with stage("one probe per half-open", **scenery) as scene:
        await scene.crowd.open_session(CALLER)
        passed: list[int] = []
        wrong: list[str] = []
        for dialect in dialects:
            await opened(scene, dialect)
            probes = (*[True] * failing, False)
            passed += [await half_opened(scene, dialect, waiting, fails=fails) for fails in probes]
            name = f"after-{dialect.name}"
            after = await scene.crowd.call(Sent(name, WRITE, CALLER), dialect)
            if after.fate is not Fate.DONE:
                wrong.append(f"{dialect.value}: still {after.fate.value} after a good probe")
        wrong += [f"{many} calls passed a half-open circuit" for many in passed if many != 1]
        wrong += check(scene.upstream.ledger, scene.crowd.seen)
        counted = f"calls that passed: {', '.join(map(str, passed))} (promised: 1 each)"
        done = f"{len(passed)} half-open circuits of a tool, {waiting} calls at once at each"
        scene.findings.insert(0, Finding(PROMISE, done, counted, not wrong, wrong=tuple(wrong)))
    return scene.findings


async def opened(scene: Stage, dialect: Dialect) -> None:
    """Let the tool fail until its circuit is open."""
    scene.upstream.plays(WRITE, then=Status(500))
    for number in range(20):
        seen = await scene.crowd.call(Sent(f"{dialect.name}-{number}", WRITE, CALLER), dialect)
        if seen.details and seen.details["code"] == "circuit_open":
            return
    raise AssertionError("the circuit does not open")


async def half_opened(scene: Stage, dialect: Dialect, waiting: int, *, fails: bool) -> int:
    """Return how many of the calls passed while the probe was out."""
    breaker = scene.front.sidecar.targets[0].breaker
    assert breaker is not None
    left = [circuit["retry_after_s"] for circuit in breaker.snapshot().values()]
    await asyncio.sleep(
        min(LONGEST, max(float(str(one)) for one in left if one is not None) + 0.02)
    )
    let_go = asyncio.Event()
    fault: Fault = FailsWhenTold(let_go) if fails else Slow(let_go)
    scene.upstream.plays(WRITE, then=fault)
    before = scene.upstream.arrived[WRITE]
    crowd, begun = scene.crowd, len(scene.crowd.seen)

    async def answer_the_probe() -> None:
        over = time.monotonic() + LONGEST
        while len(crowd.seen) - begun < waiting - 1 and time.monotonic() < over:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        let_go.set()

    async with asyncio.TaskGroup() as all_of_it:
        all_of_it.create_task(answer_the_probe())

        async def call(number: int) -> None:
            await crowd.call(Sent(f"{dialect.name}-{begun}-{number}", WRITE, CALLER), dialect)

        all_of_it.create_task(crowd.many(waiting, waiting, call))
    scene.upstream.plays(WRITE, then=FINE)
    return scene.upstream.arrived[WRITE] - before
