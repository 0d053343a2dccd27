"""Equal errors, counted together: an outage is a few lines, not thousands."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.signals.said import Said

# Names come from callers: the kinds that were not seen for longest are forgotten beyond this.
_KINDS = 500
SHOWN = 20
# An error that was not seen for so long is no current one.
_CURRENT = 600.0  # seconds
_FAILED = frozenset({"tool_failed", "upstream_failed", "busy", "client_fault"})


class Kind(NamedTuple):
    """What makes errors equal."""

    service: str
    tool: str
    code: str  # of an error that the sidecar made, else the verdict on the server's answer
    upstream: str


@dataclass(slots=True)
class _Count:
    first: float
    last: float
    request_id: str  # of the latest one
    total: int = 0
    window: int = 0  # since the last report
    window_first: float = 0.0

    def add(self, said: Said) -> None:
        if not self.window:
            self.window_first = said.when
        self.total += 1
        self.window += 1
        self.last = said.when
        self.request_id = str(said.fields.get("request_id", ""))


class Errors:
    """Count failed tool calls by kind, and report each kind once a window."""

    def __init__(self, window: float, clock: Clock, stamp: Callable[[float], str]) -> None:
        self._window = window  # seconds
        self._clock = clock
        self._stamp = stamp
        self._counts: OrderedDict[Kind, _Count] = OrderedDict()

    def take(self, said: Said) -> None:
        """Take an event in (a sink of the bus)."""
        if said.event != "tool.call.completed" or said.fields.get("verdict") not in _FAILED:
            return
        fields = said.fields
        kind = Kind(
            fields.get("service", ""),
            fields.get("tool", ""),
            str(fields.get("code") or fields["verdict"]),
            fields.get("upstream", ""),
        )
        count = self._counts.get(kind)
        if count is None:
            if len(self._counts) >= _KINDS:
                self._counts.popitem(last=False)
            count = self._counts[kind] = _Count(said.when, said.when, "")
        else:
            self._counts.move_to_end(kind)
        count.add(said)

    async def run(self, emit: Emit) -> None:
        """Report for ever."""
        while True:
            await self._clock.sleep(self._window)
            self.report(emit)

    def report(self, emit: Emit) -> None:
        """Tell each kind that was seen since the last report, and begin anew."""
        for kind, count in list(self._counts.items()):
            if count.window:
                emit(
                    "error.aggregated",
                    "warning",
                    **kind._asdict(),
                    count=count.window,
                    first=self._stamp(count.window_first),
                    last=self._stamp(count.last),
                    request_id=count.request_id,
                    window_s=self._window,
                )
                count.window = 0

    def top(self) -> list[dict[str, Any]]:
        """Return the current errors, the most frequent first."""
        since = self._clock.epoch() - _CURRENT
        current = [(kind, count) for kind, count in self._counts.items() if count.last >= since]
        current.sort(key=lambda pair: pair[1].total, reverse=True)
        return [
            {
                **kind._asdict(),
                "count": count.total,
                "first": self._stamp(count.first),
                "last": self._stamp(count.last),
                "request_id": count.request_id,
            }
            for kind, count in current[:SHOWN]
        ]
