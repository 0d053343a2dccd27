"""What somebody who watches events wants to see, and gets to see."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp_proxy.core.errors import BadRequestError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NARROWINGS = frozenset({"type", "tool", "level", "replay", "last_event_id"})
# More of the past than any ring holds.
_MOST = 1_000_000


class Wanted(NamedTuple):
    """What to show; an empty set is all."""

    types: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    lowest: int = 0  # level
    replay: int = 0  # so many of the past, first

    def has(self, event: str, level: str, tool: object) -> bool:
        """Tell whether an event is wanted."""
        return (
            LEVELS[level] >= self.lowest
            and (not self.types or event in self.types)
            and (not self.tools or tool in self.tools)
        )


class Seen(NamedTuple):
    """What is shown next."""

    events: list[tuple[str, str, bytes]]  # id, name, JSON text
    lost: int  # events that were gone before they could be seen
    cursor: Any  # where to go on


def wanted(query: Mapping[str, str]) -> Wanted:
    """Read `type=a,b&tool=x&level=warning&replay=100`; raises BadRequestError."""
    unknown = sorted(query.keys() - _NARROWINGS)
    if unknown:
        known = ", ".join(sorted(_NARROWINGS))
        raise BadRequestError(f"Cannot narrow events by {unknown[0][:40]!r}; known: {known}.")
    level = query.get("level", "debug")
    if level not in LEVELS:
        raise BadRequestError(f"level is one of {', '.join(LEVELS)}.")
    replay = query.get("replay", "0")
    if not replay.isdecimal() or len(replay) > len(str(_MOST)):
        raise BadRequestError("replay is a number of events.")
    return Wanted(_listed(query, "type"), _listed(query, "tool"), LEVELS[level], int(replay))


def _listed(query: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(part for part in query.get(name, "").split(",") if part)
