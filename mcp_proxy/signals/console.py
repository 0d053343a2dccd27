"""The log for people: each JSON line in the readable form (`MCP_LOG_FORMAT=console`).

It is made of the very line that would have been written, so nothing is seen that JSON would not tell.
"""

import json

from mcp_proxy.core.readable import Style, readable


class Console:
    """Turn a JSON line into a line for people."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def __call__(self, line: bytes) -> bytes:
        """Return the line for people; a terminal is slow, this need not be fast."""
        # not orjson: where that could not write a line, it could not read it either
        return f"{readable(json.loads(line), self._style)}\n".encode()
