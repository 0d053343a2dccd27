"""How a call ended, for those who count."""

from dataclasses import dataclass

from mcp_proxy.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """One ended call."""

    service: str
    tool: str  # or the JSON-RPC method, or the dialect of what is neither
    verdict: Verdict
    seconds: float
    attempts: int
    cache: str  # hit, miss, request, collapsed, or bypass
    code: str | None  # of an error that the sidecar made
