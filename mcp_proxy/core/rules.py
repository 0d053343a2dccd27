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
    max_concurrency: int | None = None  # calls with the server at once
    rate_limit: str | None = None  # how often each of its tools may be called (core/rates)
    invalidates: tuple[str, ...] | None = None  # patterns of what its calls may change


_NO_RULE = Rule("")


class Rules:
    """Find the rule for a tool: an exact name first, then the longest literal prefix."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        ordered = sorted(rules, key=lambda rule: specificity(rule.pattern), reverse=True)
        self._ordered = [(compiled(rule.pattern), "/" in rule.pattern, rule) for rule in ordered]

    def find(self, service: str, tool: str) -> Rule:
        """Return the most specific rule for `service/tool`, or one that says nothing.

        Tools of the MCP endpoint have no service; a slash is then part of the tool's name.
        """
        full = f"{service}/{tool}" if service else tool
        for expression, with_service, rule in self._ordered:
            if expression.fullmatch(full if with_service else tool):
                return rule
        return _NO_RULE


def specificity(pattern: str) -> tuple[bool, int, int]:
    """Return a rank: exact before wildcard, then the literal prefix, then the whole length."""
    literal = pattern.find("*")
    return (literal < 0, len(pattern) if literal < 0 else literal, len(pattern))


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which `*` stands for any characters and nothing else is special.

    All stars but the last take the shortest match and never come back to it (as in
    `fnmatch.translate`): names come from callers, and may be as long as a body.
    """
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    shortest = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{shortest}.*{last}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a server says of its own tool (MCP `ToolAnnotations`; absent means false)."""

    read_only: bool = False
    idempotent: bool = False
