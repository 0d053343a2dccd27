"""The share of failures among the outcomes of the last seconds."""


class Window:
    """Count outcomes over `seconds` and tell when too many of enough of them failed."""

    # One bucket a tenth of the window: bounded memory at any rate of calls.
    _BUCKETS = 10

    def __init__(self, seconds: float, minimum: int, share: float) -> None:
        self._width = seconds / self._BUCKETS
        self._minimum = minimum
        self._share = share
        # [index, outcomes, failures]; an empty deque takes 760 bytes, and there is one of each tool
        self._buckets: list[list[int]] = []
        self._outcomes = 0
        self._failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Count one outcome."""
        index = int(now / self._width)
        self._forget(index)
        if not self._buckets or self._buckets[-1][0] != index:
            self._buckets.append([index, 0, 0])
        bucket = self._buckets[-1]
        bucket[1] += 1
        self._outcomes += 1
        if failed:
            bucket[2] += 1
            self._failures += 1

    def _forget(self, index: int) -> None:
        while self._buckets and self._buckets[0][0] <= index - self._BUCKETS:
            _, outcomes, failures = self._buckets.pop(0)
            self._outcomes -= outcomes
            self._failures -= failures

    def tripped(self, now: float) -> bool:
        """Tell whether at least the minimum was seen and at least the share of it failed."""
        self._forget(int(now / self._width))
        return self._outcomes >= self._minimum and self._failures >= self._share * self._outcomes

    def clear(self) -> None:
        """Start anew."""
        self._buckets.clear()
        self._outcomes = self._failures = 0
