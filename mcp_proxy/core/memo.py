"""Remember what has been worked out before."""

from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(dict[K, V]):
    """A dict of bounded size; a full one forgets all, which costs nothing per look-up.

    Keys come from callers, so whoever keeps one bounds the size of a single key, too.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: K, value: V) -> V:
        """Remember a value and return it."""
        if len(self) >= self._limit:
            self.clear()
        self[key] = value
        return value


class Sightings:
    """Tell what comes a second time; a full memory forgets all.

    Who remembers only what has come twice spares itself the work where everything comes once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hashes: set[int] = set()  # a wrong "again" costs a place in a memory, no more

    def again(self, thing: Hashable) -> bool:
        """Tell whether this was here before, as far as is known."""
        mark = hash(thing)
        if mark in self._hashes:
            return True
        if len(self._hashes) >= self._limit:
            self._hashes.clear()
        self._hashes.add(mark)
        return False
