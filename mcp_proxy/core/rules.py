"""What the operator says of tools: the `[tools]` rules, most specific first (DESIGN section 7)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[tools."pattern"]` table; None means that the rule does not say."""

    pattern: str
    read_only: bool | None = None
    idempotent: bool | None = None
    cache: bool = True
    ttl: float | None = None  # seconds
    attempt_timeout: float | None = None  # seconds of silence


_NO_RULE = Rule("")
# Tool names come from callers; the memo of look-ups forgets everything when it is full.
_MEMO_LIMIT = 4096


class Rules:
    """Find the rule for a tool: an exact name first, then the longest literal prefix."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        ordered = sorted(rules, key=lambda rule: specificity(rule.pattern), reverse=True)
        self._ordered = [(compiled(rule.pattern), "/" in rule.pattern, rule) for rule in ordered]
        self._memo: dict[tuple[str, str], Rule] = {}

    def find(self, service: str, tool: str) -> Rule:
        """Return the most specific rule for `service/tool`, or one that says nothing."""
        known = self._memo.get((service, tool))
        if known is not None:
            return known
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        found = self._memo[service, tool] = self._search(service, tool)
        return found

    def _search(self, service: str, tool: str) -> Rule:
        full = f"{service}/{tool}"
        for expression, with_service, rule in self._ordered:
            if expression.fullmatch(full if with_service else tool):
                return rule
        return _NO_RULE


def specificity(pattern: str) -> tuple[bool, int, int]:
    """Return a rank: exact before wildcard, then the literal prefix, then the whole length."""
    literal = pattern.find("*")
    return (literal < 0, len(pattern) if literal < 0 else literal, len(pattern))


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which `*` stands for any characters and nothing else is special."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a server says of its own tool (MCP `ToolAnnotations`; absent means false)."""

    read_only: bool = False
    idempotent: bool = False
