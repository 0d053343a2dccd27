"""Which tools the server has, and what it says of them."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from mcp_proxy.core.jsonrpc import annotations_of
from mcp_proxy.core.rules import Annotations

# Lists are kept per caller, since they may vary by authorization (MCP 2026-07-28, tools/list).
_CALLERS_LIMIT = 256
_TOOLS_LIMIT = 2000
_NAME_LIMIT = 256  # characters; MCP gives a name 128 at most
# Our own look at the list, without credentials; serves callers that have not listed themselves.
OURSELVES = ""


class Catalogue:
    """Remember what the server's own `tools/list` answers say of its tools, per caller."""

    def __init__(self) -> None:
        self._lists: OrderedDict[str, dict[str, Annotations]] = OrderedDict()

    def learn(self, caller: str, result: Mapping[str, Any], *, first_page: bool = True) -> bool:
        """Take in the result of a `tools/list`; a later page adds to the first.

        Tells whether that was news.
        """
        before = self._lists.get(caller)
        known = {} if first_page or before is None else dict(before)
        for name, said in annotations_of(result).items():
            if len(known) < _TOOLS_LIMIT and len(name) <= _NAME_LIMIT:
                known[name] = Annotations(
                    read_only=said.get("readOnlyHint") is True,
                    idempotent=said.get("idempotentHint") is True,
                )
        self._lists[caller] = known
        self._lists.move_to_end(caller)
        if len(self._lists) > _CALLERS_LIMIT:
            self._lists.popitem(last=False)
        return known != before

    def of(self, caller: str, tool: str) -> Annotations | None:
        """Return what the server told this caller of a tool, else what it told us."""
        known = self._lists.get(caller)
        if known is None:
            known = self._lists.get(OURSELVES, {})
        return known.get(tool)

    def forget(self) -> None:
        """Unlearn everything: the server said that its list has changed, or is another one now."""
        self._lists.clear()

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to look up."""
        return not self._lists

    @property
    def size(self) -> int:
        """Return the number of tools in our own list, else in the longest that passed."""
        own = self._lists.get(OURSELVES)
        return len(own) if own is not None else max(map(len, self._lists.values()), default=0)
