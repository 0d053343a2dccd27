"""Everything that can go wrong on our side of an answer.

    ProxyError
      refused before the server was asked        the server was asked, or could not be
        BadRequestError       400                  UpstreamUnreachableError  503  delivered: no
          RequestTooSlowError 408
          HeadTooLargeError   431
        OriginNotAllowedError 403                  UpstreamTimeoutError      504
        BodyTooLargeError     413                  UpstreamBrokenError       502
        HostNotAllowedError   421                  DeadlineExceededError     504
        RateLimitedError      429                  CircuitOpenError          503
        OverloadedError       503                  InternalError             500
        DrainingError         503
        LoopDetectedError     508

Raised anywhere, answered only in `layers/rescue`. Foreign exceptions become one of these at the
seam where they arise. `delivered` is NO only when it is proved.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any, TypeVar

from mcp_proxy.core.call import CacheNote, Delivery
from mcp_proxy.core.message import Message


class ProxyError(Exception):
    """A failure that the sidecar answers for (DESIGN section 5).

    `retry_after` is in seconds; None means that the error gives no hint of its own.
    """

    code = "internal"
    status = 500
    # False where the same request would fail in the same way again, whatever was delivered.
    may_pass_later = True

    def __init__(
        self,
        message: str,
        *,
        delivered: Delivery = Delivery.NO,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.delivered = delivered
        self.retry_after = retry_after
        self.attempts = 0
        self.circuit: str | None = None
        self.headers: Mapping[str, str] = {}  # further ones, for the answer
        self.cache: CacheNote | None = None  # None: the cache was not asked
        # what failed, if it was asked by another request than the one that hears of it
        self.asked: Message | None = None

    def retryable(self, *, repeatable: bool) -> bool:
        """Tell whether the caller may send the same call again without harm and with hope."""
        return self.may_pass_later and (self.delivered is Delivery.NO or repeatable)


class BadRequestError(ProxyError):
    """No path is the target, or `Connection` names a header that is not hop-by-hop.

    No server behind a proxy should see such a request.
    """

    code, status, may_pass_later = "bad_request", 400, False


class RequestTooSlowError(BadRequestError):
    """The head or the body stopped coming (`MCP_HEAD_TIMEOUT`, `MCP_BODY_TIMEOUT`).

    RFC 9110 section 15.5.9.
    """

    status, may_pass_later = 408, True


class HeadTooLargeError(BadRequestError):
    """The head does not end.

    RFC 6585 section 5.
    """

    status = 431


class OriginNotAllowedError(ProxyError):
    """A web page of another origin asked.

    DNS rebinding, or a cross-site request.
    """

    code, status, may_pass_later = "origin_not_allowed", 403, False


class BodyTooLargeError(ProxyError):
    """The body is larger than `MCP_MAX_BODY_BYTES`."""

    code, status, may_pass_later = "body_too_large", 413, False


class HostNotAllowedError(ProxyError):
    """The Host is not served here.

    DNS rebinding looks so.
    """

    code, status, may_pass_later = "host_not_allowed", 421, False


class RateLimitedError(ProxyError):
    """A client, a tool or both together came more often than `MCP_RATE_LIMIT_*` or a rule allows."""

    code, status = "rate_limited", 429


class OverloadedError(ProxyError):
    """Too much is open: calls (of the tool), streams, connections, or bytes (`MCP_HELD_BYTES`)."""

    code, status = "overloaded", 503


class DrainingError(ProxyError):
    """The sidecar stops: the call came too late, or outlasted `MCP_SHUTDOWN_GRACE`."""

    code, status = "draining", 503


class LoopDetectedError(ProxyError):
    """The request has passed through this very sidecar before."""

    code, status, may_pass_later = "loop_detected", 508, False


class UpstreamUnreachableError(ProxyError):
    """Nothing was written to the server: refused, unknown name, TLS or connect timeout."""

    code, status = "upstream_unreachable", 503
    refused = False  # the machine is there and nobody listens: what a restart looks like
    bridged = False  # it is refused since so lately that it is worth waiting for
    target = ""  # the one of several targets that is meant; empty where it is all of them


class UpstreamTimeoutError(ProxyError):
    """The server took the request and stayed silent for too long."""

    code, status = "upstream_timeout", 504


class UpstreamBrokenError(ProxyError):
    """The connection broke, or what came back was cut or is no HTTP."""

    code, status = "upstream_broken", 502


class DeadlineExceededError(ProxyError):
    """All tries together took longer than `MCP_REQUEST_TIMEOUT`."""

    code, status = "deadline_exceeded", 504


class CircuitOpenError(ProxyError):
    """A circuit is open: the server, or this tool, has kept failing."""

    code, status = "circuit_open", 503


class InternalError(ProxyError):
    """A mistake of the sidecar."""

    code, status = "internal", 500


# What a caller waits when an error that may pass gives no hint: the interval in which the health
# monitor probes a lost server (DESIGN section 4, restart grace).
DEFAULT_RETRY_AFTER = 1.0

Raised = TypeVar("Raised", bound=BaseException)


def without_frames(error: Raised) -> Raised:
    """Return an error that was caught for good, free of the frames that it and its causes came through.

    A frame that holds the error it raised, as `raise outcome` does, holds itself, with the call and
    its connection: until the collector's last generation came, which took minutes, each failed call
    left 100 objects, and an outage 60 000.
    """
    seen: set[int] = set()  # `raise … from` can close a circle
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            chain += (one.__cause__, one.__context__)
    return error


def retry_after(error: ProxyError, *, repeatable: bool) -> float | None:
    """Return after how many seconds the caller may try again, or None if it should not."""
    if not error.retryable(repeatable=repeatable):
        return None
    return DEFAULT_RETRY_AFTER if error.retry_after is None else error.retry_after


def whole_seconds(seconds: float) -> int:
    """Return a `Retry-After` value: whole seconds, rounded up (RFC 9110 section 10.2.3)."""
    return max(0, ceil(seconds))


def details(error: ProxyError, *, repeatable: bool, request_id: str) -> dict[str, Any]:
    """Return the one failure object, the same in every dialect (DESIGN section 5)."""
    wait = retry_after(error, repeatable=repeatable)
    return {
        "code": error.code,
        "origin": "proxy",
        "retryable": wait is not None,
        "retry_after_ms": None if wait is None else ceil(wait * 1000),
        "attempts": error.attempts,
        "delivered": error.delivered.value,
        "breaker": error.circuit,
        "request_id": request_id,
        "message": error.message,
    }


def advice(error: ProxyError, *, repeatable: bool) -> str:
    """Return the error as a sentence that a model or a person can act on."""
    wait = retry_after(error, repeatable=repeatable)
    if wait is not None:
        return f"{error.message} It is safe to try again in {whole_seconds(wait)} s."
    if error.delivered is Delivery.UNKNOWN:
        return (
            f"{error.message} The call may or may not have been carried out: "
            "check before you repeat it."
        )
    return f"{error.message} Repeating the same call will not help."
