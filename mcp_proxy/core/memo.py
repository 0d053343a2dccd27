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
