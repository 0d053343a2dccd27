"""The port through which layers reach stored answers; `stores/` holds the shelves."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Edition(NamedTuple):
    """Which answers are valid now: a token that is part of their keys and is never used again."""

    token: str
    storable: bool = True  # False while a write of unknown fate may still change something
    since: float = 0.0  # what was stored before is void; seconds of the epoch


class Generations(NamedTuple):
    """The editions of all scopes at one moment."""

    whole: Edition  # what holds for every answer
    narrow: Mapping[str, str]  # further tokens, of scopes that were made invalid apart

    def edition(self, scopes: tuple[str, ...]) -> Edition:
        """Return the edition of these scopes; one and the same where none was made invalid apart."""
        narrow = self.narrow
        further = "".join([narrow[scope] for scope in scopes if scope in narrow]) if narrow else ""
        return self.whole._replace(token=self.whole.token + further) if further else self.whole


class Shelf(Protocol):
    """Where answers are kept. It never raises: trouble is a miss, and a lost put is lost."""

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition of these scopes, or None when it is not known: then do not ask."""
        ...

    def glance(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition if it is known without waiting, else None."""
        ...

    def at_hand(self, key: str) -> bytes | None:
        """Return what was put there if it is found without waiting, else None."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return what was put there, unless its time is over."""
        ...

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        """Keep a frame for `seconds`; tell whether it is kept."""
        ...

    async def delete(self, key: str) -> None:
        """Forget a frame."""
        ...

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int | None:
        """Make the answers of a scope (all by default) invalid; store none for `quarantine` s.

        A caller who leaves meanwhile does not stop it half-way.
        Returns how many answers were dropped from this process, None when they are elsewhere.
        """
        ...

    async def expire(self, before: float) -> int | None:
        """Make what was stored before a moment (seconds of the epoch) invalid; count as above."""
        ...

    def snapshot(self) -> dict[str, object]:
        """Return sizes and bounds, for people."""
        ...

    def kept(self) -> Mapping[str, Mapping[str, int]]:
        """Return entries, bytes and evicted of this process, by label (core/scopes)."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
