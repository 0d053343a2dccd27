"""What the sidecar holds, and how long calls take, looked at again and again."""

import time
from collections import defaultdict
from collections.abc import Iterable

from benchmarks.chaos.crowd import Crowd
from benchmarks.chaos.findings import percentile
from benchmarks.load import Process, cpu_seconds
from benchmarks.soak.slopes import Point
from tests.edge.wire import get

EVERY = 5.0  # seconds
MEMORY, DESCRIPTORS, MEDIAN, NINETY_NINE = "memory", "descriptors", "p50", "p99"
_ENOUGH = 50  # calls of a calm, or its percentiles say nothing
# What must be nothing when nobody asks any more.
AT_REST = ("calls_in_flight", "calls_admitted", "calls_queued", "open_streams")


class Samples:
    """Points in time, by the name of what was measured."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._began = time.monotonic()
        self._cpu_at_first = cpu_seconds(process.pid)
        self.points: defaultdict[str, list[Point]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def cores(self) -> float:
        """Return how much of a core the sidecar has used so far."""
        return (cpu_seconds(self._process.pid) - self._cpu_at_first) / self.seconds

    def take(self) -> None:
        """Look at the process."""
        self._add(MEMORY, self._process.memory("VmRSS"))

    def calm(self, clean: Iterable[float]) -> None:
        """Take the ms of the clean calls of one calm, and what is held at its end.

        In a storm descriptors are as many as calls wait.
        """
        took = list(clean)
        self._add(DESCRIPTORS, self._process.descriptors())
        if len(took) >= _ENOUGH:
            self._add(MEDIAN, percentile(took, 50))
            self._add(NINETY_NINE, percentile(took, 99))

    def _add(self, name: str, value: float) -> None:
        self.points[name].append((self.seconds, value))

    def last(self, name: str) -> float:
        """Return the latest value; 0 before there is one."""
        return self.points[name][-1][1] if self.points[name] else 0.0


async def counts(crowd: Crowd) -> dict[str, float]:
    """Return the sidecar's own counts that have no label, without their prefix."""
    said = await crowd.ask(get("/metrics"))
    if said is None or said.status != 200:
        return {}
    rows = [line.split(" ") for line in said.body.decode().splitlines()]
    prefix = "mcp_sidecar_"
    return {
        row[0].removeprefix(prefix): float(row[1])
        for row in rows
        if len(row) == 2 and row[0].startswith(prefix) and "{" not in row[0]
    }
