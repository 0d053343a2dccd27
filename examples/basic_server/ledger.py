"""What was really executed: the side effects, one by one, and the counts of all tools."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from examples.basic_server.timestamps import now


class Ledger:
    """Write down every create before its answer is sent, so that nobody has to guess.

    The file outlives the process and is read again at the next start: the numbers go on.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        self._file = None
        if path is not None:
            # Unbuffered: each entry is one write of the operating system, so a killed process
            # leaves whole lines behind.
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            self.entries = [json.loads(line) for line in self._file.read().splitlines()]

    def write(self, tool: str, nonce: object, record_id: str) -> None:
        """Add one executed create, in memory and on disk."""
        entry = {
            "number": len(self.entries) + 1,
            "tool": tool,
            "nonce": nonce,
            "id": record_id,
            "timestamp": now(),
        }
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
        self.entries.append(entry)


class Calls:
    """Count the executions of each tool, reads as well as writes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, tool: str) -> None:
        """Add one execution."""
        self._counts[tool] += 1

    def by_tool(self) -> dict[str, int]:
        """Return the executions of every tool that ran at least once."""
        return dict(self._counts)
