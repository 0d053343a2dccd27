"""The names under which stored answers can be made invalid apart from all others.

Each has a generation of its own, which is part of the keys of its answers: to clear a scope is to
write one token, whatever the number of answers (DESIGN section 4, Invalidation).
"""

from functools import lru_cache

from mcp_proxy.core.message import Message

# As much of a key's hash as `Cache-Status` shows; enough to tell all keys of a store apart.
KEY_LENGTH = 16


def label(message: Message) -> str:
    """Return what a stored answer is called for people: its tool or its method."""
    return f"{message.service}/{message.tool}" if message.tool else message.method


def of_caller(credentials: str) -> str:
    """Return the scope of one caller's answers; core/keys says what its credentials are."""
    return f"caller:{credentials}"


def of_key(digest: str) -> str:
    """Return the scope of one answer."""
    return f"key:{digest[:KEY_LENGTH]}"


def narrowed(service: str | None, tool: str | None) -> str:
    """Return the scope that service and tool name; both, either or none."""
    if service and tool:
        return f"{service}/{tool}"
    if service:
        return f"service:{service}"
    return f"tool:{tool}" if tool else ""


def of_pattern(pattern: str) -> str:
    """Return the scope of a rule's pattern: `*`, `service/*`, `service/tool` or `tool`.

    Raises ValueError for any other: its answers have no generation of their own.
    """
    service, slash, tool = pattern.rpartition("/")
    if pattern == "*":
        return ""
    if not tool or "*" in service or (slash and not service) or ("*" in tool and tool != "*"):
        raise ValueError("*, service/*, service/tool or tool")
    if tool == "*":
        return narrowed(service, None)
    return narrowed(service, tool)


def scopes(message: Message, digest: str, *caller: str) -> tuple[str, ...]:
    """Return all scopes that an answer belongs to; no caller's, if it is for anybody."""
    return (*_of_tool(message.service, message.tool), *caller, of_key(digest))


@lru_cache(1024)  # of at most 256 characters each (core/message)
def _of_tool(service: str, tool: str) -> tuple[str, ...]:
    if not tool:
        return ()
    return (f"service:{service}", f"tool:{tool}", f"{service}/{tool}")
