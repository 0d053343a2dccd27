"""When a process that has died is started again, and when that has no sense any more."""

# Seconds: the first pause, doubled from death to death up to the longest.
_FIRST, _LONGEST = 0.1, 5.0
# Whoever served for so long has recovered: its next death is a first one.
_SERVED = 10.0
# So many deaths in a row within a second of the start, while nobody serves: none can start here.
_HOPELESS, _AT_ONCE = 5, 1.0


class Restarts:
    """Count the deaths of `size` processes and say how long to wait before each start."""

    def __init__(self, size: int) -> None:
        self._in_a_row = [0] * size
        self._at_once = 0

    def died(self, index: int, lived: float) -> float:
        """Return the seconds to wait before that process is started again; it lived for so long."""
        self._at_once = self._at_once + 1 if lived < _AT_ONCE else 0
        before = 0 if lived >= _SERVED else self._in_a_row[index]
        self._in_a_row[index] = before + 1
        # beyond 16 the longest pause is reached at any rate
        return float(min(_LONGEST, _FIRST * 2 ** min(before, 16)))

    @property
    def hopeless(self) -> bool:
        """Tell whether so many died at once that none will ever start, unless one serves."""
        return self._at_once >= _HOPELESS
