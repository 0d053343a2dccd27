"""What waits to be told on one HTTP answer."""

from asyncio import Event
from collections import deque

# Beyond it a message is refused: nobody reads what is on its way, and the child must not wait for that.
_MESSAGES = 256
_BYTES = 4 * 1024 * 1024


class BrokenError(Exception):
    """The child has gone before it answered."""


class Mailbox:
    """Hold messages until somebody reads them; bounded by number and by bytes."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._changed = Event()
        self._ended = False
        self._broken = False

    def put(self, message: bytes) -> bool:
        """Take a message; False where there is no room for it."""
        full = len(self._messages) >= _MESSAGES or self._bytes + len(message) > _BYTES
        if self._ended or (full and self._messages):
            return False
        self._add(message)
        return True

    def end(self, last: bytes | None = None) -> None:
        """Take the last message, for which there is always room."""
        if last is not None and not self._ended:
            self._add(last)
        self._ended = True
        self._changed.set()

    def fail(self) -> None:
        """Let the reader hear, after what is here, that there is no more where there should be."""
        self._broken = not self._ended
        self.end()

    @property
    def is_at_its_end(self) -> bool:
        """Tell whether the message that was read last was the last of all."""
        return self._ended and not self._broken and not self._messages

    async def get(self) -> bytes | None:
        """Return the next message; None after the last. Raises BrokenError."""
        while not self._messages:
            if self._broken:
                raise BrokenError
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message

    def _add(self, message: bytes) -> None:
        self._messages.append(message)
        self._bytes += len(message)
        self._changed.set()
