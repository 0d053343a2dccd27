"""What clients were told, held against what the sidecar promises and against the ledger."""

from collections import Counter
from dataclasses import replace

from benchmarks.chaos.findings import Finding
from benchmarks.soak.shape import faults
from tests.edge.wire import Said
from tests.kit.ledger import Ledger, check
from tests.kit.seen import Fate, Seen

ONCE = "no write is executed twice, and what is told of it is true"
OWN = "nobody gets the answer of another"
SHAPED = "each answer is structured, and says whether to try again"
NO_HANG = "no call hangs"
SOUND = "the process: log, exit, nothing left"
PROMISES = (ONCE, OWN, SHAPED, NO_HANG, SOUND)
_KEPT = 200  # sentences on what is wrong, of each promise


class Verdicts:
    """Judge at once what can be judged at once; keep what was told of writes until the end."""

    def __init__(self, ledger: Ledger) -> None:
        self._writes: list[Seen] = []
        self._nothing = Ledger()  # reads are in no ledger
        self._once = ledger.once
        self._wrong: dict[str, list[str]] = {promise: [] for promise in PROMISES}
        self.broken: Counter[str] = Counter()  # sentences, by promise
        self.counted: Counter[str] = Counter()  # what clients did and saw

    def breaks(self, promise: str, sentence: str) -> None:
        """Say what is wrong."""
        self.broken[promise] += 1
        if len(self._wrong[promise]) < _KEPT:
            self._wrong[promise].append(sentence)

    def told(self, seen: Seen) -> None:
        """Take what a caller saw of a call."""
        write = seen.sent.tool in self._once
        self.counted[f"{'write' if write else 'read'}: {seen.fate.value}"] += 1
        if seen.details is not None:
            self.counted[f"code {seen.details.get('code')}"] += 1
        if write:
            self._writes.append(seen)
        if seen.fate is Fate.DONE and seen.answers != (seen.sent.nonce, seen.sent.caller):
            self.breaks(OWN, f"{seen.sent}: got the answer to {seen.answers}")
        elif not write:
            for sentence in check(self._nothing, [seen]):
                self.breaks(SHAPED, sentence)

    def answered(self, what: object, said: Said) -> None:
        """Look at the form of an answer."""
        self.counted["answers looked at"] += 1
        if said.whole:
            for fault in faults(said):
                self.breaks(SHAPED, f"{what}: {said.line} {fault}")

    def hung(self, what: object, seconds: float) -> None:
        """Take a call that outlasted its client's patience."""
        self.breaks(NO_HANG, f"{what}: no answer after {seconds:.0f} s")

    def close(self, ledger: Ledger) -> None:
        """Hold all writes against the ledger, once nothing is executed any more."""
        for sentence in check(ledger, self._writes):
            self.breaks(ONCE, sentence)
        self.counted["executions"] = len(ledger.entries)
        self.counted["executed at most"] = max(
            Counter(entry.nonce for entry in ledger.entries).values(), default=0
        )

    def findings(self) -> list[Finding]:
        """Return a row for each promise."""
        counted = self.counted
        writes = {fate: counted[f"write: {fate.value}"] for fate in Fate}
        reads = {fate: counted[f"read: {fate.value}"] for fate in Fate}
        told = "; told: " + ", ".join(
            f"{number} {fate.value}" for fate, number in writes.items() if number
        )
        done = {
            ONCE: f"{sum(writes.values())} writes" + told,
            OWN: f"{writes[Fate.DONE] + reads[Fate.DONE]} successes, each with its caller's name",
            SHAPED: f"{counted['answers looked at']} answers",
            NO_HANG: f"{sum(writes.values()) + sum(reads.values())} calls",
            SOUND: f"{counted['log lines']} lines of log, {counted['samples']} samples",
        }
        said = {
            ONCE: f"{counted['executions']} executions, "
            f"{counted['executed at most']} at most of a write; ",
        }
        return [
            Finding(
                promise,
                done[promise],
                f"{said.get(promise, '')}{self.broken[promise]} wrong",
                not self.broken[promise],
                wrong=tuple(self._wrong[promise]),
            )
            for promise in PROMISES
        ]


def with_hint(seen: Seen) -> Seen:
    """Return it as if the hint of its failure object stood in the head, too.

    For answers whose heads had gone before the failure, and for callers that see no heads.
    """
    after = (seen.details or {}).get("retry_after_ms")
    return seen if after is None else replace(seen, retry_after=str(after))
