"""How long the calls of each tool took lately."""

from collections import deque
from math import ceil

from mcp_proxy.core.memo import Memo

_SAMPLES = 128
# Below this, a percentile tells of chance only.
_ENOUGH = 20
_NAMES = 1000  # tools; names come from callers
_EVERY = 16  # outcomes after which the percentile is worked out anew


class _Recent:
    __slots__ = ("noted", "p95", "samples")

    def __init__(self) -> None:
        self.samples: deque[float] = deque(maxlen=_SAMPLES)
        self.noted = 0
        self.p95: float | None = None


class Latencies:
    """Know the 95th percentile of each name's last calls."""

    def __init__(self) -> None:
        self._recent: Memo[str, _Recent] = Memo(_NAMES)

    def note(self, name: str, seconds: float) -> None:
        """Take in how long one call took."""
        recent = self._recent.get(name) or self._recent.keep(name, _Recent())
        recent.samples.append(seconds)
        recent.noted += 1
        if len(recent.samples) >= _ENOUGH and (recent.p95 is None or recent.noted % _EVERY == 0):
            ordered = sorted(recent.samples)
            recent.p95 = ordered[ceil(len(ordered) * 0.95) - 1]

    def p95(self, name: str) -> float | None:
        """Return the percentile in seconds; None while too little is known."""
        recent = self._recent.get(name)
        return recent.p95 if recent is not None else None
