"""How long to wait before the next try, or whether to give up: values in, a decision out."""

from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

from mcp_proxy.core.call import Headers


def hinted_wait(headers: Headers, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After`, or None when there is none that makes sense.

    RFC 9110 section 10.2.3 allows whole seconds or an HTTP date. Garbage, signs, exponents and
    dates without a zone count as absent; a date that has passed is no wait.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        return None
    return max(0.0, (date - now).total_seconds())


def wait_before_next(
    ceiling: float, hint: float | None, left: float, rng: Callable[[], float]
) -> float | None:
    """Return the seconds to wait, or None when the next try would start too late.

    Full jitter below `ceiling` (AWS Builders' Library, "Timeouts, retries and backoff with
    jitter"), never earlier than the server's `hint`; `left` is what remains of the retry window.
    """
    wait = max(rng() * ceiling, hint or 0.0)
    return wait if wait < left else None
