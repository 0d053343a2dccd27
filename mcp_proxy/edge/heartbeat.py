"""Keep quiet event streams open: a comment now and then, and never inside an event.

Load balancers and browsers close what is silent for a minute; a comment is no event to any reader
(WHATWG HTML, 9.2).
"""

from typing import Self

from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.sse import Tail
from mcp_proxy.edge.answer import Answer

_COMMENT = b": keep-alive\n\n"
_LOOKS = 4  # per period: a comment is at most a quarter late


class Pulse:
    """What is known of one stream: when it last said something, and whether an event is open.

    It is a block, in which the stream is looked after.
    """

    __slots__ = ("_heartbeat", "_tail", "answer", "beats", "last")

    def __init__(self, answer: Answer, heartbeat: "Heartbeat") -> None:
        self.answer = answer
        self._heartbeat = heartbeat
        self.last = heartbeat.clock.now()
        self.beats = False  # a comment is under way, and its reader takes nothing
        self._tail = Tail()

    def __enter__(self) -> Self:
        """Begin."""
        self._heartbeat.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._heartbeat.leave(self)

    def sent(self, piece: bytes) -> None:
        """Take note of a piece that goes out."""
        self.last = self._heartbeat.clock.now()
        self._tail.saw(piece)

    @property
    def between_events(self) -> bool:
        """Tell whether a comment splits nothing."""
        return self._tail.between_events


class Heartbeat:
    """Look after all streams with one task, which runs while there is one."""

    def __init__(self, seconds: float, clock: Clock, spawn: Spawn) -> None:
        self._seconds = seconds  # 0 is off
        self.clock = clock
        self._spawn = spawn
        self._open: dict[Pulse, None] = {}
        self._looking = False

    def on(self, answer: Answer) -> Pulse:
        """Return a block in which a stream is looked after."""
        return Pulse(answer, self)

    def begin(self, pulse: Pulse) -> None:
        """Look after a stream from now on."""
        if self._seconds:
            self._open[pulse] = None
            if not self._looking:
                self._looking = True
                self._spawn(self._look(), "heartbeat")

    def leave(self, pulse: Pulse) -> None:
        """Look after it no more."""
        self._open.pop(pulse, None)

    async def _look(self) -> None:
        try:
            while self._open:
                await self.clock.sleep(self._seconds / _LOOKS)
                due = self.clock.now() - self._seconds
                for pulse in list(self._open):
                    if pulse.last <= due and not pulse.beats:
                        self._spawn(self._beat(pulse), "heartbeat")
        finally:
            self._looking = False

    async def _beat(self, pulse: Pulse) -> None:
        # In a task of its own: a reader that takes nothing holds up nobody else's comment.
        if pulse in self._open and pulse.between_events:
            pulse.last = self.clock.now()
            pulse.beats = True
            try:
                await pulse.answer.write(_COMMENT)
            except ConnectionError:  # it left; whoever reads the server's pieces will notice
                self._open.pop(pulse, None)
            finally:
                pulse.beats = False
