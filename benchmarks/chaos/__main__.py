"""Run the scenarios one after the other; print what they found."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.chaos.amnesia import amnesia
from benchmarks.chaos.at_most_once import at_most_once
from benchmarks.chaos.cascade import no_cascade
from benchmarks.chaos.failover import failover
from benchmarks.chaos.findings import Finding, leaks_together, table
from benchmarks.chaos.overload import ADAPTIVE, LIMIT, overload
from benchmarks.chaos.reads_heal import through_a_restart, through_faults
from benchmarks.chaos.recovery import one_probe, returns
from benchmarks.chaos.retry_storm import retry_storm

Scenario = Callable[[], Awaitable[list[Finding]]]
LONGEST = 90.0  # seconds of one scenario; the whole takes about four minutes
SHOWN = 10  # sentences on what is wrong, of each scenario

# By name: as it is run in full, and with --quick. What is to be counted further is a function that
# sets a stage and returns its findings, and one entry here.
SCENARIOS: dict[str, tuple[Scenario, Scenario]] = {
    "at-most-once": (partial(at_most_once, 10_000), partial(at_most_once, 1000)),
    "reads-through-faults": (partial(through_faults, 3000), partial(through_faults, 1000)),
    "reads-through-a-restart": (partial(through_a_restart, 1500), partial(through_a_restart, 800)),
    "popular-read-through-a-restart": (
        partial(through_a_restart, 1500, popular=True),
        partial(through_a_restart, 800, popular=True),
    ),
    "failover": (partial(failover, 3000), partial(failover, 1000)),
    "retry-storm": (
        partial(retry_storm, 20, breaker=False),
        partial(retry_storm, 10, breaker=False),
    ),
    "retry-storm-with-circuits": (
        partial(retry_storm, 10, breaker=True),
        partial(retry_storm, 10, breaker=True),
    ),
    "no-cascade": (partial(no_cascade, 1000), partial(no_cascade, 200)),
    "overload": (partial(overload, **LIMIT), partial(overload, 4.0, **LIMIT)),
    "overload-adaptive": (partial(overload, **ADAPTIVE), partial(overload, 4.0, **ADAPTIVE)),
    "recovery": (partial(returns, 5), partial(returns, 2)),
    "one-probe": (partial(one_probe, 500), partial(one_probe, 500, failing=1)),
    "sessions": (partial(amnesia, 20, 100), partial(amnesia, 20, 50)),
    "sessions-without-circuits": (
        partial(amnesia, 20, 100, MCP_ENABLE_CIRCUIT_BREAKER=False),
        partial(amnesia, 20, 50, MCP_ENABLE_CIRCUIT_BREAKER=False),
    ),
}


async def run(name: str, scenario: Scenario) -> list[Finding]:
    """Run one scenario; one that breaks or does not end is a promise that does not hold."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST):
            found = await scenario()
    except Exception as mistake:  # noqa: BLE001 - the others are run all the same
        causes = getattr(mistake, "exceptions", (mistake,))
        found = [Finding(name, "", f"broke: {causes[0]!r}", holds=False)]
    verdict = "holds" if all(one.holds for one in found) else "DOES NOT HOLD"
    say(f"{name}: {verdict} ({time.monotonic() - began:.0f} s)")
    for sentence in [sentence for one in found for sentence in one.wrong][:SHOWN]:
        say(f"  {sentence}")
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="try to falsify the promises of a bad day")
    parser.add_argument("--quick", action="store_true", help="fewer calls: under two minutes")
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario")
    options = parser.parse_args()
    findings: list[Finding] = []
    for name, (full, quick) in SCENARIOS.items():
        if options.only in {None, name}:
            # a loop of its own: what one scenario leaves behind is not the next one's baseline
            findings += asyncio.run(run(name, quick if options.quick else full))
    findings = leaks_together(findings)
    print(table(findings))
    raise SystemExit(not all(one.holds for one in findings))


if __name__ == "__main__":
    main()
