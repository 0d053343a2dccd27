"""On which of several targets a client's session lives."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

# Ids come from servers and callers: bounded by number and length; the least recently used go first.
_LIMIT = 20_000
_LONGEST = 1_024  # characters


class Homes:
    """Remember a target's name by what the client says to get there.

    That is the id of a handshake-era session, or the path to which a legacy stream's messages go.
    """

    def __init__(self, ask: Callable[[str], Awaitable[str | None]] | None = None) -> None:
        self._ask = ask  # another worker, on whose stream a path was told
        self._known: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, said: str) -> str | None:
        """Return the target's name, if it is known; it counts as used."""
        home = self._known.get(said)
        if home is not None:
            self._known.move_to_end(said)
        return home

    async def elsewhere(self, said: str) -> str | None:
        """Return the target's name as another worker knows it."""
        home = await self._ask(said) if self._ask is not None else None
        if home is not None:
            self.keep(said, home)
        return home

    def keep(self, said: str, target: str) -> None:
        """Remember where a session lives."""
        if len(said) > _LONGEST:
            return
        self._known[said] = target
        self._known.move_to_end(said)
        if len(self._known) > _LIMIT:
            self._known.popitem(last=False)

    def forget(self, said: str) -> None:
        """Forget a session that is over."""
        self._known.pop(said, None)
