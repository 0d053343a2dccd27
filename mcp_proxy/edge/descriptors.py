"""How many sockets this process may hold: the system's limit, raised as far as it goes."""

import resource
from contextlib import suppress

# What is open beside connections: files, pipes, Redis, the server's own looks.
_OTHERS = 256
# Where the system sets no bound, or a larger one, ours is the bound.
_ENOUGH = 1 << 20


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; return what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft
    # macOS refuses more than its kernel has (kern.maxfilesperproc), whatever the hard limit says
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def places(wanted: int, descriptors: int) -> int:
    """Return how many clients may connect at once, so that each finds a way to the server.

    A client's call or stream may take two descriptors, one on either side; taken in without the
    second, it could only fail. Where there are few, the rest makes do with half of them: a client of
    MCP holds one connection for its stream and needs another for its calls.
    """
    others = min(_OTHERS, descriptors // 2)
    return max(1, min(wanted, (descriptors - others) // 2))


def refusals(wanted: int, descriptors: int) -> int:
    """Return how many may be open at once to hear a refusal: they take of the rest.

    A process without any descriptor left accepts nobody for a second, and reaches no server.
    """
    return min(wanted, descriptors // 8)
