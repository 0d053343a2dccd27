"""How did it go? One judgement, shared by cache, retry, breaker and metrics (DESIGN section 4)."""

from enum import StrEnum


class Verdict(StrEnum):
    """What an answer, or the lack of one, says about the server and the tool."""

    OK = "ok"
    TOOL_FAILED = "tool_failed"  # an answer: passed on, counted, neutral to the circuit
    BUSY = "busy"  # 429, or 503 with Retry-After: neutral
    UPSTREAM_FAILED = "upstream_failed"
    CLIENT_FAULT = "client_fault"  # 4xx: neutral
    LEFT = "left"  # the client went away: neutral


def judge_status(status: int, *, hinted: bool) -> Verdict:
    """Judge by the status alone; `hinted` tells whether the answer has a Retry-After.

    A 1xx never gets here, and a 3xx is an answer like any other.
    """
    if status < 400:
        return Verdict.OK
    if status == 429 or (status == 503 and hinted):
        return Verdict.BUSY
    if status < 500:
        return Verdict.CLIENT_FAULT
    return Verdict.UPSTREAM_FAILED
