"""The ledger of a server that dies: a file, one line for each execution of what may happen once."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tests.kit.ledger import Entry, Ledger
from tests.kit.tools import TOOLS, Tool


class FileLedger(Ledger):
    """Write each execution of a write to the end of a file before its answer is attempted."""

    def __init__(self, path: Path, tools: Iterable[Tool] = TOOLS) -> None:
        super().__init__(tools)
        # no buffer: what is written outlives the process, whoever kills it
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, tool: str, nonce: str, caller: str) -> Entry:
        entry = super().note(tool, nonce, caller)
        if tool in self.once:
            os.write(self._file, json.dumps([tool, nonce, caller]).encode() + b"\n")
        return entry


def read(path: Path, tools: Iterable[Tool] = TOOLS) -> Ledger:
    """Return what all lives of the server have executed, to be held against what was told."""
    ledger = Ledger(tools)
    for line in path.read_bytes().splitlines():
        ledger.note(*json.loads(line))
    return ledger
