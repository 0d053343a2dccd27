"""Which events somebody wants to see."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from mcp_proxy.core.watching import LEVELS

# Says that events are missing: nobody may filter that away.
LOST = "events.lost"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"(\d{1,6})([smhd])")


@dataclass(frozen=True, slots=True)
class Sieve:
    """Let an event pass that every filter lets pass; an empty one lets all."""

    level: str = "debug"  # the lowest
    types: tuple[str, ...] = ()  # patterns, one of which its name fits
    tools: tuple[str, ...] = ()  # the same of "tool" or "service/tool"
    text: str = ""  # stands somewhere in its line, in whichever case
    since: datetime | None = None

    def passes(self, event: Mapping[str, Any], line: str) -> bool:
        """Tell whether an event is wanted; `line` is how it was written."""
        if event.get("event") == LOST:
            return True
        return (
            self._is_grave(event)
            and _fits(self.types, str(event.get("event", "")))
            and _fits(self.tools, *_names(event))
            and self._is_recent(event)
            and self.text.lower() in line.lower()
        )

    def passes_text(self, line: str) -> bool:
        """Tell whether a line that is no event is wanted: only of its text is anything known."""
        asks_more = self.level != "debug" or self.types or self.tools or self.since
        return not asks_more and self.text.lower() in line.lower()

    def _is_grave(self, event: Mapping[str, Any]) -> bool:
        level = event.get("level")
        return LEVELS.get(str(level), LEVELS["error"]) >= LEVELS[self.level]

    def _is_recent(self, event: Mapping[str, Any]) -> bool:
        if self.since is None:
            return True
        try:
            return aware(datetime.fromisoformat(str(event.get("timestamp")))) >= self.since
        except ValueError:
            return False


def _fits(patterns: tuple[str, ...], *names: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _names(event: Mapping[str, Any]) -> list[str]:
    """Return how an event's tool can be called, if it has one."""
    tool, service = event.get("tool"), event.get("service")
    return [f"{tool}", f"{service}/{tool}"] if tool else []


def aware(when: datetime) -> datetime:
    """Return a time with its zone; without one it is meant as this machine's."""
    return when.astimezone(UTC)


def moment(text: str, now: datetime) -> datetime:
    """Return the time that `--since` names: so long ago, or a date; raises ValueError."""
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return aware(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise ValueError(
            "so long ago (90s, 10m, 2h, 1d) or a time such as 2026-01-31T12:00"
        ) from None
