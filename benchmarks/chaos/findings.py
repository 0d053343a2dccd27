"""What a scenario found, and how it is printed."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

NOTHING_LEAKED = "nothing lost, nothing leaked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, held against what was counted."""

    promise: str
    done: str
    counted: str
    holds: bool
    reported: str = ""  # figures that were timed: they say how it was, and decide nothing
    wrong: tuple[str, ...] = ()  # what does not hold, a sentence each


def table(findings: Iterable[Finding]) -> str:
    """Return a Markdown table, as docs/reliability.md shows it."""
    rows = ["| promise | what was done | counted | timed | |", "|---|---|---|---|---|"]
    for one in findings:
        verdict = "holds" if one.holds else "**DOES NOT HOLD**"
        cells = (one.promise, one.done, one.counted, one.reported, verdict)
        rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(rows)


def leaks_together(findings: list[Finding]) -> list[Finding]:
    """Make one row of what all scenarios left behind, and put it last."""
    leaks = [one for one in findings if one.promise == NOTHING_LEAKED]
    others = [one for one in findings if one.promise != NOTHING_LEAKED]
    if not leaks:
        return others
    wrong = tuple(sentence for one in leaks for sentence in one.wrong)
    together = Finding(
        NOTHING_LEAKED,
        f"after each of {len(leaks)} sidecars under test: clients gone, server's connections reset; "
        "and once more when it was closed",
        "beyond the baseline: "
        + ("; ".join(wrong) if wrong else "0 descriptors, 0 tasks")
        + ("" if wrong else ", 0 calls in flight"),
        all(one.holds for one in leaks),
        "seconds until then: at most "
        + max((one.reported for one in leaks), key=float, default="0"),
        wrong,
    )
    return [*others, together]


def percentile(samples: Iterable[float], share: float) -> float:
    """Return a percentile by nearest rank; 0 of nothing."""
    ordered = sorted(samples)
    return ordered[ceil(len(ordered) * share / 100) - 1] if ordered else 0.0
