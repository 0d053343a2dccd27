"""Whether the hop and the hit have become dearer than they were when the figures were recorded.

    make bench-check                                       (five minutes)
    .venv/bin/python -m benchmarks.check --record          (after a change that is meant to move them)

The ratios of benchmarks/bench are compared with those in benchmarks/recorded.json, which are ratios
within one run as well: the machine may be another. A ratio may be worse by the distance between the
quartiles of either run, and by a tenth: that much the noise of a shared machine explains.
"""

import argparse
import json
import sys

from benchmarks.bench import results, run, show
from benchmarks.load import ROOT

RECORDED = ROOT / "benchmarks/recorded.json"
_MARGIN = 0.1


def worse(now: dict[str, float], then: dict[str, float]) -> float:
    """Return by which share a ratio is worse than allowed; 0 or less is well."""
    spread = max((one["to"] - one["from"]) / one["ratio"] for one in (now, then))
    change = now["ratio"] / then["ratio"] - 1
    if then["least"]:
        change = then["ratio"] / now["ratio"] - 1
    return change - spread - _MARGIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--record", action="store_true", help="write the figures down instead")
    options = parser.parse_args()
    seen, found = run(options.rounds, layers=False)
    show(seen, found)
    if options.record:
        RECORDED.write_text(json.dumps(results(seen), indent=1) + "\n")
        return
    then = json.loads(RECORDED.read_text())
    failed = {
        name: worse(row, then[name])
        for name, row in found.items()
        if name in then and worse(row, then[name]) > 0
    }
    for name, excess in failed.items():
        print(
            f"{name}: {found[name]['ratio']} now, {then[name]['ratio']} recorded: "
            f"{excess:.0%} beyond what noise explains",
            file=sys.stderr,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
