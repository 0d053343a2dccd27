"""How a call ended, for those who count."""

from typing import NamedTuple

from mcp_proxy.core.verdict import Verdict


class Outcome(NamedTuple):
    """One ended call."""

    service: str
    tool: str  # or the JSON-RPC method, or the dialect of what is neither
    verdict: Verdict
    seconds: float
    attempts: int
    cache: str  # hit, miss, request, collapsed, or bypass
    code: str | None  # of an error that the sidecar made
    trace_id: str = ""  # of a trace that is recorded: what an exemplar names
