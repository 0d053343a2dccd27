"""Tell each event once, to all who listen: the log, the live stream, the counting of errors."""

from collections.abc import Callable
from typing import Any

from mcp_proxy.signals.said import Said, Sink


class Bus:
    """The Emit that all rooms are given (core/clock).

    It runs for every call: a sink takes an event and is done; whatever costs is done elsewhere.
    """

    def __init__(self, epoch: Callable[[], float], *sinks: Sink, debug: bool = False) -> None:
        self._epoch = epoch
        self.debug = debug  # somebody wants to hear of what is of that level
        self._sinks = list(sinks)

    def add(self, sink: Sink) -> None:
        """Let one more listen."""
        self._sinks.append(sink)

    def __call__(self, event: str, level: str = "info", **fields: Any) -> None:
        """Tell one event."""
        if level == "debug" and not self.debug:
            return
        said = Said(self._epoch(), level, event, fields)
        for sink in self._sinks:
            sink(said)
