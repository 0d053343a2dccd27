"""In a total outage repeats add a tenth to the load, and do not multiply it (F5, F32)."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.chaos.crowd import DIALECTS
from benchmarks.chaos.findings import Finding
from benchmarks.chaos.stage import stage
from tests.kit.damage import Status
from tests.kit.faults import Fault
from tests.kit.ledger import check
from tests.kit.scripts import EVERY_TOOL
from tests.kit.sent import Sent

PROMISE = "no retry storm"
READ, WRITE = "jira_get_issue", "jira_create_issue"
CALLERS = tuple(f"Bearer caller-{number}" for number in range(8))
SHARE, FLOOR = 0.1, 10  # DESIGN section 4: of recent requests, or so many a second
WRITES = 5  # every fifth call
WINDOW = 10  # seconds: "recent"


@dataclass
class Outage:
    """Count what is called and what arrives from its first whole second to its last."""

    begins: float
    ends: float
    calls: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)

    def count(self, counts: Counter[str], tool: str) -> bool:
        """Count it if it belongs to the outage."""
        belongs = self.begins <= time.monotonic() < self.ends
        counts[tool] += belongs
        return belongs

    def arrives(self, body: bytes) -> Fault:
        """Count an attempt, and answer it as all of them are."""
        if self.count(self.attempts, WRITE if WRITE.encode() in body else READ):
            self.by_second[int(time.monotonic())] += 1
        return Status(503)


async def retry_storm(
    seconds: int = WINDOW, per_second: int = 200, *, breaker: bool, **settings: object
) -> list[Finding]:
    """Answer every call with 503, and count what arrives while the outage lasts.

    The budget looks back over ten whole seconds, so the outage is ten of them or a multiple: what
    it allows is then exactly a tenth of the calls, or ten a second, whichever is more. (It may be
    spent at once: at the beginning of an outage, in which nothing is to be repeated yet.)
    """
    assert seconds % WINDOW == 0
    circuits = "on" if breaker else "off"
    scenery = {"MCP_ENABLE_CIRCUIT_BREAKER": breaker, **settings}
    async with stage(f"retry storm, circuits {circuits}", **scenery) as scene:
        upstream, crowd = scene.upstream, scene.crowd
        for caller in CALLERS:
            await crowd.open_session(caller)
        # the budget counts whole seconds: the outage begins with one, and is counted to its end
        begins = math.floor(time.monotonic()) + 1.0
        outage = Outage(begins, begins + seconds)
        upstream.plays(EVERY_TOOL, then=lambda: outage.arrives(upstream.asked[-1].body))

        async def call(number: int) -> None:
            tool = READ if number % WRITES else WRITE
            outage.count(outage.calls, tool)
            sent = Sent(f"s{number}", tool, CALLERS[number % len(CALLERS)])
            await crowd.call(sent, DIALECTS[number % len(DIALECTS)])

        await upstream.clock.sleep(begins - time.monotonic())
        await crowd.paced(seconds * per_second, per_second, call)
        calls, attempts = outage.calls.total(), outage.attempts.total()
        allowed = max(SHARE * calls, FLOOR * seconds)
        wrong = check(upstream.ledger, crowd.seen)
        if attempts > calls + allowed:
            wrong.append(f"{attempts} attempts for {calls} calls; {allowed:.0f} more are allowed")
        if outage.attempts[WRITE] > outage.calls[WRITE]:
            wrong.append(f"{outage.attempts[WRITE]} attempts for {outage.calls[WRITE]} writes")
        counted = (
            f"{attempts} attempts: {attempts / calls:.3f} per call "
            f"(promised: {(calls + allowed) / calls:.2f}); "
            f"writes {outage.attempts[WRITE] / outage.calls[WRITE]:.3f} per call (promised: 1.00)"
        )
        done = (
            f"{calls} calls at {per_second}/s, every answer 503 for {seconds} s, "
            f"every {WRITES}th call a write, circuits {circuits}"
        )
        timed = f"most attempts in one second: {max(outage.by_second.values(), default=0)}"
        finding = Finding(PROMISE, done, counted, not wrong, timed, tuple(wrong))
        scene.findings.insert(0, finding)
    return scene.findings
