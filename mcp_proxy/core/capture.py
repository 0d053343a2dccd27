"""A bounded look at a call's arguments, for those who switch it on (`MCP_CAPTURE=redacted`).

What looks like a secret is replaced, by the name that it stands under or by what it looks like. A
short password under a harmless name looks like any word: that is why this is off by default.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mcp_proxy.core.message import Dialect, Message

LIMIT = 512  # characters of a preview
_DEPTH, _WIDTH = 4, 8
_TEXT = 64  # characters of a text that are shown
_LONGEST = 4096  # a longer text is not looked through
_DIGITS = 20  # what has more is no number that people count with
REDACTED = "[redacted]"

Captured = Callable[[Message], Mapping[str, str]]

# Names, in lower case and without what separates words.
_SECRET_NAMES = re.compile(
    r"pass|pwd|secret|token|keys?$|^key|auth(?!ors?$)|cookie|credential|session|jwt|bearer"
    r"|signature|private|otp$|pin$|cvv|ssn$|userinfo|dsn$|connectionstring"
)
_SEPARATORS = re.compile(r"[^a-z0-9]+")
_SECRET_TEXTS = re.compile(
    r"""
      \b(?:bearer|basic|digest|negotiate|token)\s+\S    # an Authorization header
    | eyJ[\w-]{4,}                                       # a JWT, or another JSON in base64url
    | \w:/{1,2}[^/\s]*@                                  # a URL with user info
    | -----BEGIN\                                        # PEM
    | \b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|glpat|xox[a-z]|npm|hf)[-_]\w   # usual prefixes of tokens
    | github_pat_ | AKIA[0-9A-Z] | AIza[\w-]
    | (?:pass|pwd|secret|token|key|auth|cookie|credential|session)\w*["']?\s*[:=]  # name: value
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Letters and digits in one run: keys, hashes, UUIDs. Ids that people use are shorter.
_RUNS = re.compile(r"[A-Za-z0-9+/_=.~-]{20,}")
_LONG_RUN = 32


def nothing(_: Message) -> Mapping[str, str]:
    """Return no field: `MCP_CAPTURE=off`."""
    return {}


def arguments(message: Message) -> Mapping[str, str]:
    """Return the field that previews a tool call's arguments."""
    name = "params" if message.dialect is Dialect.REST else "arguments"
    return {"arguments": preview(message.params.get(name))}


def preview(value: Any) -> str:
    """Return JSON, cut and redacted; what is cut ends with an ellipsis."""
    text = json.dumps(_seen(value, _DEPTH), ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def _seen(value: Any, depth: int) -> Any:
    """Return what may be seen of a value."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _members(value, depth) if depth else "{…}"
    if isinstance(value, list):
        return _items(value, depth) if depth else "[…]"
    if type(value) is int and abs(value) >= 10**_DIGITS:
        return REDACTED
    return value


def _items(value: list[Any], depth: int) -> list[Any]:
    seen = [_seen(one, depth - 1) for one in value[:_WIDTH]]
    return [*seen, f"… {len(value) - _WIDTH} more"] if len(value) > _WIDTH else seen


def _members(value: Mapping[str, Any], depth: int) -> dict[str, Any]:
    seen = {}
    for name, one in list(value.items())[:_WIDTH]:
        secret = _SECRET_NAMES.search(_SEPARATORS.sub("", name[:_LONGEST].lower()))
        seen[_text(name)] = REDACTED if secret else _seen(one, depth - 1)
    if len(value) > _WIDTH:
        seen["…"] = f"{len(value) - _WIDTH} more"
    return seen


def _text(text: str) -> str:
    if len(text) > _LONGEST:
        return f"[{len(text)} characters]"
    if _SECRET_TEXTS.search(text) or any(map(_is_random, _RUNS.findall(text))):
        return REDACTED
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"


def _is_random(run: str) -> bool:
    mixed = any(one.isdigit() for one in run) and any(one.isalpha() for one in run)
    return len(run) >= _LONG_RUN or mixed
