"""The server behind, as a process: it misbehaves from SIGUSR1 to SIGUSR2, and ends with SIGTERM.

python -m benchmarks.soak.server PORT LEDGER SEED
"""

import asyncio
import signal
import sys
from pathlib import Path
from random import Random

from benchmarks.chaos.at_most_once import Mischief
from benchmarks.soak.ledger import FileLedger
from tests.kit.scripts import EVERY_TOOL
from tests.kit.tools import TOOLS
from tests.kit.upstream import Upstream

SHARE = 0.12  # of the calls of a storm meet with a fault
FAREWELL = 0.5  # seconds for calls that are under way when it is told to end
STREAMED = {"jira_create_issue", "salesforce_query"}  # answered in event streams over MCP


async def serve(port: int, ledger: Path, seed: int) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    ends = asyncio.Event()
    upstream = Upstream(TOOLS, ledger=FileLedger(ledger), port=port)
    upstream.mcp.streams = STREAMED
    mischief = Mischief(upstream, Random(seed), SHARE, crashes=0)

    def storm() -> None:
        upstream.plays(EVERY_TOOL, then=mischief)

    def calm() -> None:
        upstream.scripts.clear()
        upstream.greetings.clear()

    loop.add_signal_handler(signal.SIGUSR1, storm)
    loop.add_signal_handler(signal.SIGUSR2, calm)
    loop.add_signal_handler(signal.SIGTERM, ends.set)
    async with upstream.running():
        await ends.wait()
        upstream.refuse()
        await asyncio.sleep(FAREWELL)


if __name__ == "__main__" and sys.stdin.readline():
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
