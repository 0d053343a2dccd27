"""How many calls a server bears at once, learnt from how long it takes to answer.

After Gradient2 of Netflix's concurrency-limits: the limit is multiplied by the ratio of a
long-term to a short-term average of latency, and gets sqrt(limit) on top as room for a queue:

    gradient  =  tolerance x usual / recent, within [0.5, 1]
    limit    <-  0.8 limit + 0.2 (gradient x limit + sqrt(limit)), within [least, most]

Two things differ. There, the long-term average learns from every answer, so that in a lasting
overload the queue becomes the usual thing and the limit climbs for ever (concurrency-limits, issue
137 and pull request 134). Here it learns only from answers that stood in no queue of our making:
while less than half of the limit is in use, when things get faster, and in a *look*: where the
limit is in full use, it is quartered for a moment every so often, to see what the server takes
without the crowd (their first gradient did so, too: pull request 39). And a window is no time but
a number of answers, one for each place, which is about one round trip: nothing here needs a clock.
"""

from math import sqrt

# Half as slow again as usual is no queue yet (Gradient2's default).
_TOLERANCE = 1.5
_SMOOTHING = 0.2
# A few slow answers must not shut the door (Gradient2's bound).
_STEEPEST = 0.5
# The mean of twenty latencies that scatter as an exponential's do is right to about a fifth.
_FEWEST = 20
_LEARNING = 0.1
# The first windows count alike, as in Gradient2: the very first answers are those of the quickest.
_WARM_UP = 10
# Faster by so much is more than chance. If each faster window counted, the least of them all would
# become the usual thing, and the limit would sink and sink.
_FASTER = 0.5
# Of fifty windows, two are spent on a look; but the first guess may have come out of a queue. At
# half the limit instead of a quarter, what was left of the queue sufficed to let the limit of a
# model server climb for ever.
_LOOK_EVERY = 50
_LOOK_FIRST = _WARM_UP
_LOOK_AT = 0.25
_LOOK_LEARNING = 0.5
# Slow calls that fill all places of a look are no crowd, and must not lock out the others. They
# show by so many refusals without one answer in between; the more, the more there were before.
_CHOKED = 50


class Gradient:
    """Move `limit` between `least` and `most`: down when answers slow down or fail, else up."""

    def __init__(self, most: int, *, least: int = 8, first: int = 32) -> None:
        self._most = float(most)
        self._least = float(min(least, most))
        self._estimate = float(min(first, most))
        self._usual: float | None = None  # seconds that an answer takes outside a queue
        self._until_look = _LOOK_FIRST  # windows; 0 and -1 are the two windows of a look
        self._windows = 0
        self._pressure = 0.0  # refusals for each answer, before a look
        self._in_a_row = 0  # refusals since the last answer
        self._open_window()

    def _open_window(self) -> None:
        self._answered = self._failed = self._refused = 0
        self._seconds = 0.0
        self._crowd = 0  # the most that were in flight

    @property
    def looking(self) -> bool:
        """Tell whether the limit is lowered just now, to see the server without a crowd."""
        return self._until_look <= 0

    @property
    def limit(self) -> int:
        """Return how many calls may be with the server at once."""
        return max(1, int(self._estimate * _LOOK_AT if self.looking else self._estimate))

    def answered(self, seconds: float, in_flight: int) -> None:
        """Count an answer; `in_flight` calls were with the server when it was asked, this one too."""
        self._answered += 1
        self._seconds += seconds
        self._count(in_flight)

    def failed(self, in_flight: int) -> None:
        """Count a call that the server failed or was too busy for: its time says nothing."""
        self._failed += 1
        self._count(in_flight)

    def refused(self) -> None:
        """Count a call that found no place; a look that lets nobody through ends."""
        self._refused += 1
        self._in_a_row += 1
        if self.looking and self._in_a_row >= _CHOKED * (1 + self._pressure):
            self._until_look = _LOOK_EVERY
            self._open_window()

    def _count(self, in_flight: int) -> None:
        self._in_a_row = 0
        self._crowd = max(self._crowd, in_flight)
        # A look begins with the answers to those who still stood in the crowd.
        places = self._estimate if self._until_look == 0 else self.limit
        if self._answered + self._failed >= max(_FEWEST, places):
            self._close_window()
            self._open_window()

    def _close_window(self) -> None:
        recent = self._seconds / self._answered if self._answered else None
        if self.looking:
            self._look(recent)
            return
        heard = self._answered + self._failed
        failing = self._failed / heard
        self._pressure = self._refused / heard
        # Little in use says nothing of how much could be (Gradient2: "app limited").
        crowded = self._crowd >= self._estimate / 2
        if recent is not None:
            self._learn(recent, crowded=crowded)
        self._move(recent if crowded else None, failing, room=crowded)
        self._until_look -= crowded

    def _look(self, recent: float | None) -> None:
        if self._until_look == 0:
            self._until_look = -1
            return
        self._until_look = _LOOK_EVERY
        if recent is not None and self._usual is not None:
            self._usual += (recent - self._usual) * _LOOK_LEARNING

    def _learn(self, recent: float, *, crowded: bool) -> None:
        self._windows += 1
        if self._usual is None:
            self._usual = recent
        elif self._windows <= _WARM_UP:
            self._usual += (recent - self._usual) / self._windows
        elif not crowded or recent < self._usual * _FASTER:
            self._usual += (recent - self._usual) * _LEARNING

    def _move(self, recent: float | None, failing: float, *, room: bool) -> None:
        gradient = 1.0 - failing
        if recent and self._usual is not None:
            gradient *= min(1.0, _TOLERANCE * self._usual / recent)
        wanted = self._estimate * max(_STEEPEST, gradient) + (sqrt(self._estimate) if room else 0.0)
        moved = self._estimate + (wanted - self._estimate) * _SMOOTHING
        self._estimate = max(self._least, min(self._most, moved))
