"""What was really executed, and whether what callers were told is true (faults.md, section 3)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.kit.seen import Fate, Seen
from tests.kit.tools import TOOLS, Tool

# What the failure object may say (DESIGN section 5).
DELIVERED = {"no", "unknown"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One execution."""

    tool: str
    nonce: str
    caller: str  # the Authorization header
    run: int  # the how-manieth of this tool


class Ledger:
    """Write down every execution before its answer is attempted."""

    def __init__(self, tools: Iterable[Tool] = TOOLS) -> None:
        self.once = frozenset(tool.name for tool in tools if tool.once)
        self.entries: list[Entry] = []
        self._runs: defaultdict[str, int] = defaultdict(int)
        self._by_nonce: defaultdict[str, list[Entry]] = defaultdict(list)

    def note(self, tool: str, nonce: str, caller: str) -> Entry:
        """Add one execution."""
        self._runs[tool] += 1
        entry = Entry(tool, nonce, caller, self._runs[tool])
        self.entries.append(entry)
        self._by_nonce[nonce].append(entry)
        return entry

    def runs(self, tool: str) -> int:
        """Return how often a tool was executed."""
        return self._runs.get(tool, 0)

    def of(self, nonce: str) -> list[Entry]:
        """Return the executions of the calls with this nonce."""
        return list(self._by_nonce.get(nonce, ()))

    def nonces(self) -> set[str]:
        """Return all nonces that were executed."""
        return set(self._by_nonce)


def check(ledger: Ledger, seen: Iterable[Seen]) -> list[str]:
    """Return what is wrong, a sentence each; empty if every promise of executions was kept.

    Whoever sent the same nonce again after a failure hands in all that was seen of it.
    """
    by_nonce: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_nonce[one.sent.nonce].append(one)
    wrong = [
        f"{nonce}: was executed, and nobody asked for it"
        for nonce in sorted(ledger.nonces() - by_nonce.keys())
    ]
    for nonce, told in by_nonce.items():
        entries = ledger.of(nonce)
        wrong += [f"{told[0].sent}: {fault}" for fault in _counts(ledger, entries, told)]
        wrong += [f"{told[0].sent}: {fault}" for fault in _callers(entries, told)]
        for one in told:
            wrong += [f"{one.sent}: {fault}" for fault in _words(ledger, one)]
    return wrong


def _counts(ledger: Ledger, entries: list[Entry], told: list[Seen]) -> list[str]:
    """Hold the number of executions against what the caller saw."""
    fates = {one.fate for one in told}
    times = f"executed {len(entries)} x"
    wrong = []
    if entries and fates == {Fate.NOT_DELIVERED}:
        wrong.append(f"{times}, though the caller was told `delivered: no`")
    if told[0].sent.tool not in ledger.once:
        return wrong
    if len(entries) > 1:
        wrong.append(f"{times}, and once is the most that may be")
    if not entries and Fate.DONE in fates:
        wrong.append("never executed, though the caller saw a success")
    return wrong


def _callers(entries: list[Entry], told: list[Seen]) -> list[str]:
    """Hold who executed what against who asked for what."""
    asked = {(one.sent.tool, one.sent.caller) for one in told}
    return [
        f"executed as {entry.tool} for {entry.caller or 'nobody'!r}"
        for entry in entries
        if (entry.tool, entry.caller) not in asked
    ]


def _words(ledger: Ledger, one: Seen) -> list[str]:
    """Hold the caller's answer against the call, and the failure object against DESIGN section 5."""
    wrong = []
    if one.fate is Fate.DONE and one.answers != (one.sent.nonce, one.sent.caller):
        wrong.append(f"got the answer to {one.answers}")
    details = one.details
    if details is None:
        return wrong
    if details.get("delivered") not in DELIVERED:
        wrong.append(f"was told `delivered: {details.get('delivered')}`")
    if one.retry_after is None and details.get("retryable") is True:
        wrong.append("may be repeated, and there is no Retry-After")
    if one.retry_after is not None and details.get("retryable") is not True:
        wrong.append("may not be repeated, and there is a Retry-After")
    if not _may_say_retryable(ledger, one, details):
        wrong.append("a call of unknown fate that is no read was called retryable")
    return wrong


def _may_say_retryable(ledger: Ledger, one: Seen, details: dict[str, Any]) -> bool:
    unsafe = details.get("delivered") != "no" and one.sent.tool in ledger.once
    return not (unsafe and details.get("retryable"))
