"""Count what becomes of hostile HTTP, in both directions: `python -m benchmarks.framing` (docs/framing.md).

With --corpus, or HTTP_CORPUS set, the requests of a file are tried as well. Ends with exit code 1 if
anything was flagged, failed or hung.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from tests.edge.wire import sidecar
from tests.framing import corpus, hostile, lies, listening, trial
from tests.framing.liar import Liar
from tests.framing.recording import Recording
from tests.framing.trial import Tally

COLUMNS = ("refused", "forwarded", "answered", "unfinished", "cut", "flagged", "5xx", "hung")
SHOWN = 20  # sentences on what is wrong


async def counted(name: str, judging: Awaitable[Tally]) -> bool:
    """Print the row of one tally; tell whether nothing was wrong."""
    began = time.monotonic()
    tally = await judging
    seconds = time.monotonic() - began
    cells = [str(tally.ends[column]) for column in COLUMNS]
    print(f"| {name} | {tally.tried} | {' | '.join(cells)} | {seconds:.0f} s |", flush=True)
    for sentence in tally.wrong[:SHOWN]:
        print(sentence, file=sys.stderr)
    return not tally.wrong


async def requests(options: argparse.Namespace, rules: Path) -> bool:
    """Ask a sidecar in hostile ways."""
    server = Recording()
    await server.start()
    asked = {
        "requests, generated": hostile.requests(options.seed, options.cases),
        "behind a known head": hostile.aligned(options.seed, options.cases // 5),
    }
    if options.corpus is not None:
        asked = {"requests, public": corpus.cases(options.corpus), **asked}
    sound = True
    async with sidecar(server.url, MCP_CONFIG_FILE=rules, **trial.SETTINGS) as front:
        for name, cases in asked.items():
            sound &= await counted(name, trial.judge_all(front, server, cases))
        sound &= not any("traceback" in told for told in front.told())
        assert front.sidecar.inbound.express is not None
        print(f"{front.sidecar.inbound.express.answered} times the express way", file=sys.stderr)
    await server.stop()
    return sound


async def answers(options: argparse.Namespace, rules: Path) -> bool:
    """Let a sidecar's server lie."""
    server = Liar()
    await server.start()
    told = lies.lies(options.seed, options.cases // 3)
    async with sidecar(server.url, MCP_CONFIG_FILE=rules, **listening.PATIENCE) as front:
        sound = await counted("answers, generated", listening.judge_lies(front, server, told))
        sound &= not any("traceback" in told for told in front.told())
    await server.stop()
    return sound


async def run(options: argparse.Namespace) -> bool:
    print(f"| | tried | {' | '.join(COLUMNS)} | took |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    sound = True
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.toml"
        rules.write_text(trial.RULES)
        for part in (requests, answers):
            if options.only in {None, part.__name__}:
                sound &= await part(options, rules)
    return sound


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="generated requests")
    parser.add_argument("--only", choices=["requests", "answers"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, default=corpus.path(), help="a file of requests")
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
