"""Whether something grows: a line of least squares through samples, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median

HOUR = 3600.0
WARM_UP = 1 / 3  # of the time: caches, tables and rings fill up to their bounds
SHORTEST = 600.0  # seconds of samples after it; a line through less says nothing of hours
_STICKIEST = 0.95  # so that the noise of samples that hardly move stays a number

Point = tuple[float, float]  # seconds, value


@dataclass(frozen=True, slots=True)
class Slope:
    """How much a figure grows in an hour."""

    per_hour: float
    error: float  # standard error of it, in the same unit
    middle: float  # median of the samples
    first: float  # medians of their first and last fifth
    last: float
    samples: int
    seconds: float

    def grows(self, limit: float) -> bool:
        """Tell whether it grows by more than so much an hour, even if noise is in our favour."""
        return self.per_hour - 2 * self.error > limit

    @property
    def long_enough(self) -> bool:
        """Tell whether there is enough of it to be judged."""
        return self.seconds >= SHORTEST


def warm(points: Sequence[Point]) -> list[Point]:
    """Return the points after the warm-up."""
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    return [one for one in points if one[0] >= first + (last - first) * WARM_UP]


def slope(points: Sequence[Point]) -> Slope:
    """Return the slope of at least three points, as least squares find it.

    Samples that follow each other closely are alike, so that there is less to learn from them than
    their number says: the error is widened by the correlation of each residual with its neighbour.
    """
    times, values = [one[0] for one in points], [one[1] for one in points]
    at, level = fmean(times), fmean(values)
    spread = sum((time - at) ** 2 for time in times)
    per_second = sum((time - at) * (value - level) for time, value in points) / spread
    left = [value - level - per_second * (time - at) for time, value in points]
    squares = sum(one * one for one in left)
    error = sqrt(squares / (len(points) - 2) / spread)
    alike = sum(one * other for one, other in pairwise(left))
    alike = min(max(alike / squares if squares else 0.0, 0.0), _STICKIEST)
    fifth = max(1, len(values) // 5)
    return Slope(
        per_second * HOUR,
        error * sqrt((1 + alike) / (1 - alike)) * HOUR,
        median(values),
        median(values[:fifth]),
        median(values[-fifth:]),
        len(points),
        times[-1] - times[0],
    )
