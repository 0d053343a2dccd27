"""Whether an answer is structured: ours with all that DESIGN promises, or the server's own."""

from http import HTTPStatus
from typing import Any

from tests.edge.wire import Said
from tests.kit.seen import failure_object, is_stream, last_answer, parsed

CODES = {
    *("upstream_unreachable", "upstream_timeout", "upstream_broken", "circuit_open", "overloaded"),
    *("rate_limited", "deadline_exceeded", "body_too_large", "origin_not_allowed"),
    *("host_not_allowed", "draining", "loop_detected", "bad_request", "internal"),
}
_PHRASES = frozenset(status.phrase.encode() for status in HTTPStatus)


def details_in(said: Said) -> dict[str, Any] | None:
    """Return the sidecar's failure object, if the answer has one."""
    headers = {name.lower(): value for name, value in said.headers}
    answer = last_answer(said.body) if is_stream(headers) else parsed(said.body)
    return failure_object(answer) if answer else None


def faults(said: Said) -> list[str]:
    """Return what is wrong with a whole answer, in words."""
    details = details_in(said)
    if details is not None:
        return [*_of_details(details), *_of_ids(said, details)]
    if said.status >= 400 and not _of_the_server(said):
        return [f"{said.status} with neither a failure object nor the server's words"]
    return []


def _of_details(details: dict[str, Any]) -> list[str]:
    retryable, after = details.get("retryable"), details.get("retry_after_ms")
    checks = {
        "code": details.get("code") in CODES,
        "origin": details.get("origin") == "proxy",
        "retryable": isinstance(retryable, bool),
        "retry_after_ms": type(after) is int and after >= 0 if retryable else after is None,
        "attempts": type(details.get("attempts")) is int,
        "delivered": details.get("delivered") in {"no", "unknown"},
        "breaker": details.get("breaker", "") in {None, "open", "half_open"},
        "request_id": bool(details.get("request_id")),
        "message": bool(details.get("message")),
    }
    wrong = [f"{name}: {details.get(name)!r}" for name, right in checks.items() if not right]
    if details.get("code") == "internal":
        wrong.append("code: 'internal' is a mistake of the sidecar")
    return wrong


def _of_ids(said: Said, details: dict[str, Any]) -> list[str]:
    ids = said.all("X-Request-Id")
    return [] if ids == [details.get("request_id")] else [f"X-Request-Id: {ids}"]


def _of_the_server(said: Said) -> bool:
    """Tell whether the server under test answers so: the phrase of a status, or its own errors."""
    if said.body in _PHRASES:
        return True
    answer = parsed(said.body) or {}
    error = answer.get("error")
    spoken = isinstance(error, dict) and "code" in error and "data" not in error
    return spoken or isinstance(answer.get("detail"), str)
