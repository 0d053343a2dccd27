"""A call that is not safe to repeat is executed at most once, whatever happens (F1-F12, F21)."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from benchmarks.chaos.crowd import DIALECTS, Dialect
from benchmarks.chaos.findings import Finding
from benchmarks.chaos.stage import Stage, stage
from tests.kit.damage import (
    Cut,
    Drip,
    Fails,
    Garbage,
    Progress,
    SaidLength,
    Status,
    Unfinished,
    WrongLength,
)
from tests.kit.door import Greeting
from tests.kit.faults import (
    Amnesia,
    Close,
    CloseAfter,
    CloseOnNext,
    Crash,
    Fault,
    Hang,
    Reset,
    Slow,
)
from tests.kit.ledger import check
from tests.kit.scripts import EVERY_TOOL, mixed
from tests.kit.seen import Fate
from tests.kit.sent import Sent
from tests.kit.tools import Tool
from tests.kit.upstream import Upstream

PROMISE = "a call that is not safe to repeat is executed at most once"
# Each has a circuit of its own in each dialect; every third of them answers MCP in event streams.
TOOLS = tuple(Tool(f"write_{number}") for number in range(12))
CALLERS = tuple(f"Bearer caller-{number}" for number in range(16))
AT_ONCE = 48
TIMEOUT = 0.6  # seconds, MCP_REQUEST_TIMEOUT: hangs and what is slower are given up then
TOO_SLOW = 0.9  # seconds: executed when nobody waits any more
SHARE = 0.4  # of the calls meet with a fault
CRASHES = 0.002  # of the calls kill the server
UNWELCOME = 0.02  # as many new connections as this share of the calls meet with a closed door
GREETINGS = (Greeting.CLOSE, Greeting.RESET, Greeting.RESET_UNREAD, Greeting.SILENCE)


def faults() -> tuple[Fault, ...]:
    soon = datetime.now(UTC) + timedelta(seconds=20)
    after_the_work = (
        *(Hang(executed=True), Slow(0.02, executed=True), Slow(TOO_SLOW, executed=True)),
        *(Reset(executed=True), Close(executed=True), CloseAfter(), CloseOnNext()),
        *(Cut(), Cut(0.95), Cut(reset=True), Cut(None), Cut(None, reset=True), Unfinished()),
        *(Drip(0.001, size=40), WrongLength(5), WrongLength(5, closes=True), WrongLength(-2)),
        *(SaidLength(("3", "30")), SaidLength(("-1",)), Garbage(), Garbage(b"HTTP/1.1 2")),
        *(Status(500, executed=True), Status(503, 1, executed=True), Fails(executed=True)),
    )
    instead_of_it = (
        *(Hang(), Slow(0.02), Slow(TOO_SLOW), Reset(), Close(), Amnesia(), Garbage(executed=False)),
        *(Status(429, 1), Status(429), Status(503, 1), Status(503, "soon"), Status(503, soon)),
        *(Status(502), Status(504), Fails(), Fails(code=-32000)),
    )
    return after_the_work + instead_of_it


class Mischief:
    """Choose a fault for each call, a few crashes, and what new connections meet with."""

    def __init__(
        self, upstream: Upstream, rng: Random, share: float = SHARE, crashes: float = CRASHES
    ) -> None:
        self._upstream = upstream
        self._rng = rng
        self._crashes = crashes
        chosen = faults()
        self._anywhere = mixed(rng, share, *chosen)
        self._in_mcp = mixed(rng, share, *chosen, Progress(2, 0.01))

    def __call__(self) -> Fault:
        """Return what happens to the call that has just come."""
        if self._rng.random() < UNWELCOME:
            self._upstream.greets(self._rng.choice(GREETINGS))
        if self._rng.random() < self._crashes:
            return Crash(executed=self._rng.random() < 0.5, away=0.1)
        rest = self._upstream.asked[-1].target.startswith("/api/")
        return self._anywhere() if rest else self._in_mcp()


async def at_most_once(
    calls: int, halves: Sequence[bool] = (True, False), seed: int = 1, **settings: object
) -> list[Finding]:
    """Make half of the calls with circuits and half of them without."""
    findings = []
    for breaker in halves:
        circuits = "on" if breaker else "off"
        name = f"at-most-once, circuits {circuits}"
        scenery = {
            "MCP_ENABLE_CIRCUIT_BREAKER": breaker,
            "MCP_CB_RECOVERY_TIMEOUT": 0.1,
            "MCP_REQUEST_TIMEOUT": TIMEOUT,
            **settings,
        }
        async with stage(name, TOOLS, **scenery) as scene:
            await half(scene, calls // len(halves), Random(seed + breaker))
            findings.append(judged(scene, calls // len(halves), circuits))
        findings += scene.findings
    return findings


async def half(scene: Stage, calls: int, rng: Random) -> None:
    upstream, crowd = scene.upstream, scene.crowd
    for caller in CALLERS:
        await crowd.open_session(caller)
    upstream.mcp.streams = {tool.name for tool in TOOLS[::3]}
    upstream.plays(EVERY_TOOL, then=Mischief(upstream, rng))

    async def call(number: int) -> None:
        dialect = DIALECTS[number % len(DIALECTS)]
        sent = Sent(f"n{number}", rng.choice(TOOLS).name, rng.choice(CALLERS))
        used = crowd.sessions[sent.caller]
        seen = await crowd.call(sent, dialect)
        forgotten = dialect is Dialect.SESSION and seen.status == 404
        if forgotten and crowd.sessions[sent.caller] == used:
            await crowd.open_session(sent.caller)  # as clients do

    await crowd.many(calls, AT_ONCE, call)
    # What was too slow is executed after its caller has left: the ledger is read after that.
    await upstream.clock.sleep(TOO_SLOW + 0.1)


def judged(scene: Stage, calls: int, circuits: str) -> Finding:
    upstream, crowd = scene.upstream, scene.crowd
    wrong = check(upstream.ledger, crowd.seen)
    executions = Counter(entry.nonce for entry in upstream.ledger.entries)
    most = max(executions.values(), default=0)
    if crowd.unanswered:
        wrong.append(f"{crowd.unanswered} calls were not answered at all")
    if most > 1:
        wrong.append(f"a call was executed {most} x")
    struck = {name: count for name, count in upstream.scripts.played.items() if name != "Fine"}
    counted = (
        f"{len(upstream.ledger.entries)} executions; {most} at most per nonce; "
        f"{len(wrong)} wrong words; told: {crowd.count(Fate.DONE)} success, "
        f"{crowd.count(Fate.ANSWERED)} the server's own failure, "
        f"{crowd.count(Fate.NOT_DELIVERED)} `delivered: no`, "
        f"{crowd.count(Fate.UNKNOWN)} `unknown`, {crowd.count(Fate.LOST)} cut answers"
    )
    done = (
        f"{calls} calls in three dialects, {sum(struck.values())} faults of {len(struck)} kinds "
        f"({struck.get('Crash', 0)} crashes), circuits {circuits}"
    )
    return Finding(PROMISE, done, counted, not wrong, wrong=tuple(wrong))
