"""The ledger finds every lie that is planted, and no other."""

from typing import Any

import pytest

from tests.kit.ledger import Ledger, check
from tests.kit.seen import Fate, Seen
from tests.kit.sent import Sent

ANN, BOB = "Bearer ann", "Bearer bob"
WRITE = Sent("n1", "jira_create_issue", ANN)
READ = Sent("n2", "jira_get_issue", ANN)
STATUS = Sent("n3", "jira_set_status", ANN)


def executed(*calls: Sent) -> Ledger:
    ledger = Ledger()
    for sent in calls:
        ledger.note(sent.tool, sent.nonce, sent.caller)
    return ledger


def done(sent: Sent) -> Seen:
    return Seen(sent, Fate.DONE, answers=(sent.nonce, sent.caller))


def failed(sent: Sent, delivered: str, retry_after: str | None = None, **fields: Any) -> Seen:
    """Return what the sidecar's own failure looks like; it is consistent unless told otherwise."""
    fate = Fate.NOT_DELIVERED if delivered == "no" else Fate.UNKNOWN
    retryable = fields.get("retryable", delivered == "no")
    hint = retry_after or ("1" if retryable else None)
    details = {"origin": "proxy", "delivered": delivered, "retryable": retryable, **fields}
    return Seen(sent, fate, details, hint)


TRUE = {
    "once, success": (executed(WRITE), [done(WRITE)]),
    "not delivered": (executed(), [failed(WRITE, "no")]),
    "unknown, not executed": (executed(), [failed(WRITE, "unknown")]),
    "unknown, executed": (executed(WRITE), [failed(WRITE, "unknown")]),
    "no answer, executed": (executed(WRITE), [Seen(WRITE, Fate.LOST)]),
    "no answer, not executed": (executed(), [Seen(WRITE, Fate.LOST)]),
    "the server's own failure": (executed(WRITE), [Seen(WRITE, Fate.ANSWERED)]),
    "not delivered, then sent again": (executed(WRITE), [failed(WRITE, "no"), done(WRITE)]),
    "a read repeated": (executed(READ, READ), [done(READ)]),
    "a read from the cache": (executed(), [done(READ)]),
    "an idempotent call repeated": (executed(STATUS, STATUS), [done(STATUS)]),
    "a read of unknown fate": (executed(READ), [failed(READ, "unknown", retryable=True)]),
}
LIES: dict[str, tuple[Ledger, list[Seen], str]] = {
    "twice": (executed(WRITE, WRITE), [done(WRITE)], "executed 2 x, and once is the most"),
    "twice, unknown": (executed(WRITE, WRITE), [failed(WRITE, "unknown")], "executed 2 x"),
    "twice, unseen": (executed(WRITE, WRITE), [Seen(WRITE, Fate.LOST)], "executed 2 x"),
    "never": (executed(), [done(WRITE)], "never executed, though the caller saw a success"),
    "delivered": (executed(WRITE), [failed(WRITE, "no")], "told `delivered: no`"),
    "a read delivered": (executed(READ), [failed(READ, "no")], "told `delivered: no`"),
    "unasked": (executed(WRITE), [], "n1: was executed, and nobody asked for it"),
    "another's": (
        executed(WRITE),
        [Seen(WRITE, Fate.DONE, answers=("n9", ANN))],
        "got the answer to ('n9', 'Bearer ann')",
    ),
    "another caller's": (
        executed(READ),
        [Seen(READ, Fate.DONE, answers=("n2", BOB))],
        "got the answer to ('n2', 'Bearer bob')",
    ),
    "in another name": (
        executed(Sent("n1", WRITE.tool, BOB)),
        [Seen(WRITE, Fate.LOST)],
        "executed as jira_create_issue for 'Bearer bob'",
    ),
    "another tool": (
        executed(Sent("n1", "salesforce_create", ANN)),
        [Seen(WRITE, Fate.LOST)],
        "executed as salesforce_create for 'Bearer ann'",
    ),
    "a word of ours": (executed(), [failed(WRITE, "maybe")], "was told `delivered: maybe`"),
    "unsafe advice": (
        executed(),
        [failed(WRITE, "unknown", retryable=True)],
        "of unknown fate that is no read was called retryable",
    ),
    "no hint": (
        executed(),
        [Seen(WRITE, Fate.NOT_DELIVERED, {"delivered": "no", "retryable": True})],
        "may be repeated, and there is no Retry-After",
    ),
    "a wrong hint": (
        executed(),
        [failed(WRITE, "unknown", "1")],
        "may not be repeated, and there is a Retry-After",
    ),
}


@pytest.mark.parametrize("case", TRUE)
def test_what_is_true_is_let_pass(case: str) -> None:
    ledger, seen = TRUE[case]
    assert check(ledger, seen) == []


@pytest.mark.parametrize("case", LIES)
def test_each_lie_is_found_and_named_once(case: str) -> None:
    ledger, seen, text = LIES[case]
    (violation,) = check(ledger, seen)
    assert text in violation
    assert violation.startswith(("n1", "n2"))


def test_one_lie_among_many_truths_is_found() -> None:
    calls = [Sent(f"n{number}", WRITE.tool) for number in range(1000)]
    ledger = executed(*calls, calls[617])
    assert check(ledger, map(done, calls)) == [
        "n617 (jira_create_issue, nobody): executed 2 x, and once is the most that may be"
    ]


def test_the_ledger_counts_by_tool_and_nonce() -> None:
    ledger = executed(WRITE, READ, READ)
    assert (ledger.runs(READ.tool), ledger.runs("nobody")) == (2, 0)
    assert [entry.run for entry in ledger.of("n2")] == [1, 2]
    assert ledger.of("n9") == []
    assert ledger.once == {"jira_create_issue", "salesforce_create"}
