"""What `make soak` judges by: each judgement is handed what it must find (docs/reliability.md)."""

import json
from pathlib import Path
from random import Random

import pytest

from benchmarks.soak.ledger import FileLedger, read
from benchmarks.soak.report import Report, growths
from benchmarks.soak.samples import DESCRIPTORS, MEDIAN, MEMORY
from benchmarks.soak.shape import faults
from benchmarks.soak.slopes import HOUR, Point, slope, warm
from benchmarks.soak.verdicts import NO_HANG, ONCE, OWN, SHAPED, SOUND, Verdicts, with_hint
from tests.edge.wire import Said
from tests.kit.ledger import Ledger
from tests.kit.seen import Fate, Seen
from tests.kit.sent import Sent

ANN = "Bearer ann"
WRITE = Sent("n1", "jira_create_issue", ANN)
READ = Sent("n2", "jira_get_issue", ANN)
DETAILS = {
    "code": "circuit_open",
    "origin": "proxy",
    "retryable": True,
    "retry_after_ms": 1000,
    "attempts": 0,
    "delivered": "no",
    "breaker": "open",
    "request_id": "a1",
    "message": "The circuit is open.",
}


def done(sent: Sent) -> Seen:
    return Seen(sent, Fate.DONE, answers=(sent.nonce, sent.caller))


def undelivered(sent: Sent) -> Seen:
    return Seen(sent, Fate.NOT_DELIVERED, {**DETAILS}, "1")


# --- what was told, against the ledger


def broken(path: Path, executed: list[Sent], told: list[Seen]) -> dict[str, int]:
    """Return what is found wrong, by promise, if a server that died in between did this."""
    for sent in executed:
        FileLedger(path).note(sent.tool, sent.nonce, sent.caller)  # another life for each
    verdicts = Verdicts(Ledger())
    for seen in told:
        verdicts.told(seen)
    path.touch()
    verdicts.close(read(path))
    return dict(verdicts.broken)


@pytest.mark.parametrize(
    ("executed", "told"),
    [
        ([WRITE], [done(WRITE)]),
        ([], [undelivered(WRITE)]),
        ([WRITE], [undelivered(WRITE), done(WRITE)]),
        ([WRITE], [Seen(WRITE, Fate.LOST)]),
        ([READ], [done(READ)]),
    ],
    ids=["done", "not delivered", "repeated by its client", "left", "a read"],
)
def test_what_is_true_is_not_found_wrong(
    tmp_path: Path, executed: list[Sent], told: list[Seen]
) -> None:
    assert broken(tmp_path / "ledger", executed, told) == {}


@pytest.mark.parametrize(
    ("executed", "told", "promise"),
    [
        ([WRITE, WRITE], [done(WRITE)], ONCE),
        ([WRITE, WRITE], [Seen(WRITE, Fate.LOST)], ONCE),
        ([], [done(WRITE)], ONCE),
        ([WRITE], [undelivered(WRITE)], ONCE),
        ([WRITE], [], ONCE),
        ([WRITE], [Seen(WRITE, Fate.DONE, answers=("n1", "Bearer bob"))], OWN),
        ([], [Seen(READ, Fate.DONE, answers=("n2", "Bearer bob"))], OWN),
        ([], [Seen(READ, Fate.NOT_DELIVERED, {**DETAILS})], SHAPED),
    ],
    ids=["twice", "unseen", "never", "delivered", "unasked", "foreign", "foreign-read", "no-hint"],
)
def test_a_lie_is_found_out(
    tmp_path: Path, executed: list[Sent], told: list[Seen], promise: str
) -> None:
    assert promise in broken(tmp_path / "ledger", executed, told)


def test_a_hint_counts_where_the_head_had_gone_before(tmp_path: Path) -> None:
    seen = with_hint(Seen(READ, Fate.NOT_DELIVERED, {**DETAILS}))
    assert broken(tmp_path / "ledger", [], [seen]) == {}


# --- the form of an answer


def said(status: int, body: object, request_id: str = "a1") -> Said:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Said(f"HTTP/1.1 {status} Whatever", [("X-Request-Id", request_id)], raw)


def test_ours_and_the_servers_own_answers_are_structured() -> None:
    assert faults(said(503, {"error_details": DETAILS})) == []
    assert faults(said(200, {"success": True})) == []
    assert faults(said(503, b"Service Unavailable")) == []
    assert faults(said(404, {"detail": "Not Found"})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "oops"},
        {"code": "internal"},
        {"retryable": None},
        {"retry_after_ms": None},
        {"retryable": False},
        {"delivered": "maybe"},
        {"message": ""},
        {"request_id": "another"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_failure_object_with_a_fault_is_found_out(wrong: dict[str, object]) -> None:
    assert faults(said(503, {"error_details": {**DETAILS, **wrong}}))


def test_what_nobody_has_structured_is_found_out() -> None:
    assert faults(said(500, b"Traceback (most recent call last):"))
    assert faults(said(500, b"500 Internal Server Error\n\nServer got itself in trouble"))
    assert faults(said(502, b""))


# --- whether something grows


def line(
    per_hour: float, minutes: float = 30, noise: float = 0.0, level: float = 100
) -> list[Point]:
    rng = Random(1)
    times = [5.0 * step for step in range(int(minutes * 12))]
    return [(time, level + per_hour * time / HOUR + rng.gauss(0, noise)) for time in times]


def test_a_slope_is_the_growth_of_an_hour() -> None:
    found = slope(line(12.0))
    assert found.per_hour == pytest.approx(12.0)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    noisy = slope(line(12.0, noise=2.0))
    assert abs(noisy.per_hour - 12.0) < 3 * noisy.error


def test_what_grows_is_told_from_noise() -> None:
    assert slope(line(20.0, noise=0.5)).grows(10.0)
    assert not slope(line(5.0, noise=0.5)).grows(10.0)
    assert not slope(line(0.0, noise=5.0)).grows(1.0)


def test_samples_that_hardly_move_are_trusted_less() -> None:
    """A walk at random is no trend, though a line through it looks like one."""
    rng, at = Random(3), 0.0
    walk, steps = [], []
    for step in range(300):
        move = rng.gauss(0, 1)
        at += move
        walk.append((5.0 * step, at))
        steps.append((5.0 * step, move))
    assert slope(walk).error > 10 * slope(steps).error


def test_the_warm_up_is_left_out() -> None:
    filling = [(time, min(value, 110.0)) for time, value in line(60.0)]
    assert slope(filling).grows(5.0)
    assert slope(warm(filling)).per_hour == pytest.approx(0.0)


def test_a_leak_fails_the_soak_and_a_short_one_is_not_judged() -> None:
    flat, calm = line(0.0), [(time, 2.0) for time, _ in line(0.0)]
    verdicts = Verdicts(Ledger())

    def holds(memory: list[Point], descriptors: list[Point]) -> bool:
        points = {MEMORY: memory, DESCRIPTORS: descriptors, MEDIAN: calm}
        found = growths(points, calls_per_hour=300_000)
        assert len(found) == 3
        return Report(1800, 1, verdicts.findings(), found, {}, {}, {}, {}).holds

    assert holds(flat, flat)
    assert not holds(line(10.0), flat)
    assert not holds(flat, line(40.0))
    assert holds(line(1000.0, minutes=3), flat), "too short to be judged"
    (memory, *_) = growths({MEMORY: line(1000.0, minutes=3)}, 300_000)
    assert memory.verdict.startswith("not judged")


@pytest.mark.parametrize("promise", [ONCE, OWN, SHAPED, NO_HANG, SOUND])
def test_a_broken_promise_fails_the_soak(promise: str) -> None:
    verdicts = Verdicts(Ledger())
    verdicts.breaks(promise, "so it is")
    report = Report(60, 1, verdicts.findings(), [], {}, {}, {}, {})
    assert not report.holds
    assert "so it is" in report.text()
    assert not report.json()["holds"]
