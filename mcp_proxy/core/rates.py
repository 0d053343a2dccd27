"""How often something may happen: what an operator writes, and how much of it is left."""

import re
from math import floor
from typing import NamedTuple

EXPECTED = "a number per unit, such as 100/minute"
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_NOTATION = re.compile(r"([1-9][0-9]{0,6})\s*/\s*(second|minute|hour|day)s?", re.ASCII)
# At the very moment at which a unit comes back it is not there yet.
_MOMENT = 0.001  # seconds


class Window(NamedTuple):
    """What was counted: in the window that runs, and in the one before, which slides out of sight."""

    previous: int
    previous_left: float  # seconds until nothing of it counts any more
    current: int
    current_left: float  # seconds likewise; 0 when it has not begun


class Rate(NamedTuple):
    """So many in so many seconds, by a sliding window counter.

    Of the window before counts the part that the last `seconds` still reach into, as if all in it
    had come evenly.
    """

    amount: int
    seconds: int

    def left(self, window: Window) -> int:
        """Return how many more may come now."""
        return max(0, self.amount - self._before(window) - window.current)

    def _before(self, window: Window) -> int:
        return floor(window.previous * window.previous_left / self.seconds)

    def wait(self, window: Window) -> float:
        """Return the seconds until there is one more than now."""
        waits = [(window.current_left or 2 * self.seconds) - self.seconds]
        if window.previous:
            still = self._before(window) * self.seconds / window.previous
            waits.append(window.previous_left - still)
        return max(0.0, min(waits)) + _MOMENT


def rate(text: str) -> Rate:
    """Read a rate such as `100/minute`. Raises ValueError."""
    found = _NOTATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(EXPECTED)
    amount, unit = found.groups()
    return Rate(int(amount), _UNITS[unit])
