"""The reader of the sidecar's log: it checks each line, and sometimes does not read at all."""

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO

from benchmarks.soak.verdicts import SOUND, Verdicts
from tests.edge.wire import check_event

_CALL = "tool.call.completed"
_EVERY = 50  # such a line is held against its schema: there are so many of them
_SUSPECT = ("Traceback", "proxy.failed")


class LogReader:
    """Read a pipe in a thread of its own."""

    def __init__(self, pipe: IO[bytes], verdicts: Verdicts, kept: Path | None = None) -> None:
        self._pipe = pipe
        self._kept = kept or Path(os.devnull)
        self._verdicts = verdicts
        self._stalled = 0.0  # seconds that the next read is to be late
        self.events: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stall(self, seconds: float) -> None:
        """Read nothing for a while."""
        self._stalled = seconds

    def join(self, seconds: float) -> None:
        """Wait for the end of the log."""
        self._thread.join(seconds)

    def _read(self) -> None:
        with self._kept.open("wb") as kept:
            for line in self._pipe:
                seconds, self._stalled = self._stalled, 0.0
                if seconds:
                    time.sleep(seconds)
                kept.write(line)
                self._look(line)

    def _look(self, line: bytes) -> None:
        self._verdicts.counted["log lines"] += 1
        try:
            event = json.loads(line)
            name = str(event["event"])
            self.events[name] += 1
            if name != _CALL or self.events[name] % _EVERY == 1:
                check_event(event)
        except Exception as mistake:  # noqa: BLE001 - whatever is wrong with it, it is told
            self._verdicts.breaks(SOUND, f"a line of the log: {mistake!s:.200} in {line!r:.300}")
            return
        if any(word in line.decode() for word in _SUSPECT):
            self._verdicts.breaks(SOUND, f"the log says {line!r:.2000}")
