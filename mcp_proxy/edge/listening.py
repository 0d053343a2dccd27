"""Streams have no end of their own: when the sidecar drains, they are ended.

What is made here for a stream lives as long as it does, and there may be ten thousand: blocks with
fixed places take a third of what generators do (docs/performance.md).
"""

from types import TracebackType
from typing import Self

from mcp_proxy.edge.heartbeat import Pulse
from mcp_proxy.edge.mail import Box
from mcp_proxy.layers.timeouts import Bound, Together


class Listening(Together):
    """Know who listens, and let them go together."""

    def until_drained(self) -> "Stay":
        """Return a block that is broken off, as if it had come to its end, when `end` is called."""
        return Stay(self)


class Stay(Bound):
    """The block of one listener."""

    __slots__ = ()

    async def __aexit__(  # type: ignore[override] # it swallows its own end
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        """End, whether broken off or not."""
        try:
            await super().__aexit__(kind, error, at)
        except TimeoutError:
            return True
        return False


class Visit(Stay):
    """The block of one event stream: it may end between two events, if no answer is to come."""

    __slots__ = ("_box", "_listening", "_pulse")

    def __init__(self, listening: Listening, box: Box) -> None:
        super().__init__(listening)
        self._listening = listening
        self._box = box
        self._pulse: Pulse | None = None

    def of(self, pulse: Pulse | None) -> Self:
        """Listen to a stream; None is one of which nobody can tell where its events end."""
        self._pulse = pulse
        return self

    async def __aexit__(  # type: ignore[override]
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        """End, and owe nothing more."""
        self._box.close()
        return await super().__aexit__(kind, error, at)

    def sent(self, piece: bytes) -> None:
        """Take note of a piece that goes out."""
        if self._pulse is not None:
            self._box.saw(piece)

    @property
    def over(self) -> bool:
        """Tell whether it is to end here."""
        return self._listening.over and self.may_end

    @property
    def may_end(self) -> bool:
        """Tell whether it may be broken off now."""
        return self._box.settled and (self._pulse is None or self._pulse.between_events)
