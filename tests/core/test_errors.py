"""The failures that the sidecar answers for, and what it tells callers to do."""

import json
from itertools import product

import pytest

from mcp_proxy.core import errors
from mcp_proxy.core.call import Delivery
from mcp_proxy.core.errors import ProxyError
from tests.fakes import error_of

# DESIGN section 5, codes; statuses as RFC 9110 and protocol section 7 have them.
CODES = {
    "upstream_unreachable": 503,
    "upstream_timeout": 504,
    "upstream_broken": 502,
    "circuit_open": 503,
    "overloaded": 503,
    "rate_limited": 429,
    "deadline_exceeded": 504,
    "body_too_large": 413,
    "origin_not_allowed": 403,
    "host_not_allowed": 421,
    "draining": 503,
    "loop_detected": 508,
    "bad_request": 400,
    "internal": 500,
}
KINDS = ProxyError.__subclasses__()
# The same request would meet the same refusal.
HOPELESS = {
    "bad_request",
    "body_too_large",
    "host_not_allowed",
    "loop_detected",
    "origin_not_allowed",
}
CASES = [
    pytest.param(kind, delivered, repeatable, id=f"{kind.code}-{delivered.value}-{repeatable}")
    for kind, delivered, repeatable in product(KINDS, Delivery, (False, True))
]


def test_every_failure_has_a_code_and_a_status_of_the_contract() -> None:
    """DESIGN section 5: clients branch on the code, so no two failures share one."""
    known = {kind.code: kind.status for kind in KINDS}
    assert len(known) == len(KINDS)
    assert known.items() <= CODES.items()


@pytest.mark.parametrize(("kind", "delivered", "repeatable"), CASES)
def test_a_call_that_may_have_been_delivered_is_never_called_retryable_unless_it_may_repeat(
    kind: type[ProxyError], delivered: Delivery, repeatable: bool
) -> None:
    """DESIGN section 5: retryable only if `delivered` is `no`, or section 4 allows repetition."""
    error = error_of(kind, delivered=delivered, retry_after=7.0)
    said = errors.details(error, repeatable=repeatable, request_id="r")
    harmless = delivered is Delivery.NO or repeatable
    assert said["retryable"] == (harmless and kind.code not in HOPELESS)
    assert said["delivered"] == delivered.value


@pytest.mark.parametrize(("kind", "delivered", "repeatable"), CASES)
def test_a_hint_goes_with_every_retryable_failure_and_with_no_other(
    kind: type[ProxyError], delivered: Delivery, repeatable: bool
) -> None:
    """DESIGN section 5: `Retry-After` goes with every retryable one."""
    for hint in (None, 0.0, 7.25):
        error = error_of(kind, delivered=delivered, retry_after=hint)
        said = errors.details(error, repeatable=repeatable, request_id="r")
        wait = errors.retry_after(error, repeatable=repeatable)
        assert (wait is not None) == said["retryable"]
        if wait is None:
            assert said["retry_after_ms"] is None
        else:
            assert said["retry_after_ms"] == wait * 1000
            # the health monitor looks once a second whether the server is back
            assert wait == (1.0 if hint is None else hint)


@pytest.mark.parametrize(("kind", "delivered", "repeatable"), CASES)
def test_the_advice_says_the_same_as_the_object(
    kind: type[ProxyError], delivered: Delivery, repeatable: bool
) -> None:
    """DESIGN section 5: the text is one that a model can act on, and must not mislead it."""
    error = error_of(kind, delivered=delivered, retry_after=1.2)
    text = errors.advice(error, repeatable=repeatable)
    assert text.startswith(error.message)
    retryable = errors.details(error, repeatable=repeatable, request_id="r")["retryable"]
    assert ("safe to try again in 2 s." in text) == retryable
    unknown = not retryable and delivered is Delivery.UNKNOWN
    assert ("may or may not have been carried out" in text) == unknown


def test_the_failure_object_has_the_fields_of_the_contract() -> None:
    """DESIGN section 5: one object everywhere."""
    error = errors.CircuitOpenError("Open.", retry_after=30.0)
    error.attempts = 3
    error.circuit = "open"
    assert errors.details(error, repeatable=False, request_id="req-1") == {
        "code": "circuit_open",
        "origin": "proxy",
        "retryable": True,
        "retry_after_ms": 30_000,
        "attempts": 3,
        "delivered": "no",
        "breaker": "open",
        "request_id": "req-1",
        "message": "Open.",
    }


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, 0), (0.001, 1), (1.0, 1), (29.5, 30), (-3.0, 0)]
)
def test_a_retry_after_is_whole_seconds_and_never_too_early(seconds: float, header: int) -> None:
    """RFC 9110 section 10.2.3; protocol section 8: seconds, rounded up."""
    assert errors.whole_seconds(seconds) == header


def test_the_failure_object_is_json_with_milliseconds_rounded_up() -> None:
    error = errors.OverloadedError("Busy.", retry_after=0.0001)
    said = json.loads(json.dumps(errors.details(error, repeatable=False, request_id="r")))
    assert said["retry_after_ms"] == 1


def test_a_call_that_came_too_early_may_come_again() -> None:
    """Nothing was sent: 429 (RFC 6585 section 4), retryable, and when there is room again."""
    error = errors.RateLimitedError("Too often.", retry_after=29.501)
    said = errors.details(error, repeatable=False, request_id="r")
    assert (error.status, said["code"], said["retryable"]) == (429, "rate_limited", True)
    assert (said["delivered"], said["retry_after_ms"]) == ("no", 29_501)
    assert errors.advice(error, repeatable=False).endswith("safe to try again in 30 s.")


def test_no_two_failures_share_the_headers_of_an_answer() -> None:
    one, other = error_of(ProxyError), error_of(ProxyError)
    assert one.headers == other.headers == {}
    assert one.headers is not other.headers


def test_causes_may_go_in_a_circle() -> None:
    """`raise first from second` in the handler of what `first` had caused."""
    first, second = error_of(errors.UpstreamBrokenError), ConnectionError()
    first.__cause__, second.__cause__ = second, first
    assert errors.without_frames(first) is first


def raise_in_three_steps() -> None:
    try:
        try:
            int("none")
        except ValueError as wrong:
            raise ConnectionError from wrong
    except ConnectionError:
        raise error_of(errors.UpstreamBrokenError) from None


def test_an_error_that_is_kept_holds_no_frames_nor_do_its_causes() -> None:
    """They hold the call, and perhaps the error."""
    with pytest.raises(ProxyError) as raised:
        raise_in_three_steps()
    first = errors.without_frames(raised.value)
    second = first.__context__
    third = second.__cause__ if second else None
    assert isinstance(second, ConnectionError)
    assert isinstance(third, ValueError)
    assert (first.__traceback__, second.__traceback__, third.__traceback__) == (None, None, None)
