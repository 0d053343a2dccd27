"""What a soak has shown: tables for people, JSON for programs, and whether all of it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.chaos.findings import Finding, table
from benchmarks.soak.samples import DESCRIPTORS, MEDIAN, MEMORY, NINETY_NINE
from benchmarks.soak.slopes import SHORTEST, Point, Slope, slope, warm

# F46: at most 1 MiB for each 100 000 requests, once everything is warm.
MIB_PER_CALL = 1 / 100_000
# The server restarts 80 times an hour, Redis dies 40 times and leavers go by the thousand: one
# descriptor left behind by each of the rarest of these is far more than this.
DESCRIPTORS_PER_HOUR = 12.0
# Of the middle of a figure of latency, an hour; the machine's own moods are within the error.
LATENCY_PER_HOUR = {MEDIAN: 0.25, NINETY_NINE: 0.5}
UNITS = {MEMORY: "MiB", DESCRIPTORS: "", MEDIAN: "ms", NINETY_NINE: "ms"}


@dataclass(frozen=True, slots=True)
class Growth:
    """How one figure grew, and how much it may."""

    name: str
    slope: Slope
    limit: float  # an hour

    @property
    def verdict(self) -> str:
        if not self.slope.long_enough:
            return f"not judged: under {SHORTEST / 60:.0f} min after the warm-up"
        return "**GROWS**" if self.slope.grows(self.limit) else "holds"

    @property
    def holds(self) -> bool:
        return not (self.slope.long_enough and self.slope.grows(self.limit))


def growths(points: Mapping[str, Sequence[Point]], calls_per_hour: float) -> list[Growth]:
    """Return a line for each figure of which there are enough samples after the warm-up."""
    found = []
    for name in UNITS:
        after = warm(points.get(name, ()))
        if len(after) < 3:
            continue
        line = slope(after)
        limits = {MEMORY: MIB_PER_CALL * calls_per_hour, DESCRIPTORS: DESCRIPTORS_PER_HOUR}
        limit = limits.get(name, LATENCY_PER_HOUR.get(name, 0.0) * line.middle)
        found.append(Growth(name, line, limit))
    return found


def lines(found: Sequence[Growth]) -> str:
    """Return a Markdown table of slopes."""
    rows = [
        "| after the warm-up | first fifth | last fifth | slope an hour | at most | |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        line, unit = one.slope, UNITS[one.name]
        per_hour = f"{line.per_hour:+.2f} ± {2 * line.error:.2f} {unit}".strip()
        cells = (
            *(f"{one.name} ({line.samples} samples)", f"{line.first:.1f} {unit}".strip()),
            *(f"{line.last:.1f} {unit}".strip(), per_hour, f"{one.limit:.2f} {unit}".strip()),
        )
        rows.append("| " + " | ".join((*cells, one.verdict)) + " |")
    return "\n".join(rows)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    seconds: float
    seed: int
    findings: list[Finding]
    growths: list[Growth]
    happened: Mapping[str, int]  # disturbances
    counted: Mapping[str, int]  # what clients did and saw
    told: Mapping[str, int]  # events in the log
    own: Mapping[str, float]  # the sidecar's own counts, and its share of a core

    @property
    def holds(self) -> bool:
        """Tell whether every promise was kept and nothing grows."""
        kept = bool(self.findings) and all(one.holds for one in self.findings)
        return kept and all(one.holds for one in self.growths)

    def text(self) -> str:
        """Return it for people, as Markdown."""
        happened = ", ".join(f"{number} x {name}" for name, number in self.happened.items())
        counted = ", ".join(f"{name}: {number}" for name, number in sorted(self.counted.items()))
        own = ", ".join(f"{name}: {number:g}" for name, number in self.own.items())
        about = f"{self.seconds / 60:.0f} minutes, seed {self.seed}"
        sentences = [f"* {sentence}" for one in self.findings for sentence in one.wrong[:10]]
        return "\n\n".join(
            part
            for part in (
                *(about, table(self.findings), "\n".join(sentences), lines(self.growths)),
                *(f"Happened: {happened}.", f"Counted: {counted}.", f"The sidecar: {own}."),
            )
            if part
        )

    def json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "holds": self.holds,
            "seconds": self.seconds,
            "seed": self.seed,
            "findings": [asdict(one) for one in self.findings],
            "growths": [{**asdict(one), "verdict": one.verdict} for one in self.growths],
            "happened": dict(self.happened),
            "counted": dict(self.counted),
            "told": dict(self.told),
            "own": dict(self.own),
        }
