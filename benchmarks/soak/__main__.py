"""Soak a sidecar for so many minutes; print what it has shown."""

import argparse
import json
import logging
import shutil
from pathlib import Path

try:
    from uvloop import run
except ImportError:
    from asyncio import run

from benchmarks.soak.scene import scene
from benchmarks.soak.soak import Soak

RATE = 80.0  # calls a second: some 0.7 of a core for all processes together


def main() -> None:
    parser = argparse.ArgumentParser(description="let everything go wrong for a long time")
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=RATE, help="calls a second")
    parser.add_argument("--seed", type=int, default=1, help="of what happens when")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--log", type=Path, help="a file for the sidecar's log")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("skipped: there is no redis-server (Debian: apt-get install redis-server)")
    logging.disable()  # the SDK's clients say on stderr what they cannot say to their callers
    with scene(options.seed, options.log) as running:
        report = run(Soak(running, options.minutes, options.rate, options.seed).run())
    print(report.text())
    if options.json:
        options.json.write_text(json.dumps(report.json(), indent=1))
    raise SystemExit(not report.holds)


if __name__ == "__main__":
    main()
