"""How many repeats a server can be asked to bear: a share of its recent requests."""

from collections import deque


class Budget:
    """Allow repeats up to a share of the requests of the last ten seconds, with a floor.

    10 % or 10 a second, whichever is greater (DESIGN section 4): a lone client may always retry,
    while in an outage under load the repeats add a tenth and do not multiply (Google SRE book,
    "Addressing Cascading Failures").
    """

    WINDOW = 10  # seconds

    def __init__(self, share: float = 0.1, floor_per_second: float = 10.0) -> None:
        self._share = share
        self._floor = floor_per_second * self.WINDOW
        self._seconds: deque[list[int]] = deque()  # [second, requests, repeats]
        self._requests = 0
        self._repeats = 0

    def _at(self, now: float) -> list[int]:
        second = int(now)
        while self._seconds and self._seconds[0][0] <= second - self.WINDOW:
            _, requests, repeats = self._seconds.popleft()
            self._requests -= requests
            self._repeats -= repeats
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]

    def asked(self, now: float) -> None:
        """Count a request that a client made."""
        self._at(now)[1] += 1
        self._requests += 1

    def take(self, now: float) -> bool:
        """Take leave for one repeat; False when the budget is spent."""
        counts = self._at(now)
        if self._repeats >= max(self._floor, self._share * self._requests):
            return False
        counts[2] += 1
        self._repeats += 1
        return True
