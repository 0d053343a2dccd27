"""Which of several processes have given no sign of life for too long."""

# Seconds between two signs of life of a process, and between two looks for them.
BEAT = 5.0
# So many looks in a row without one: after 30 s at most nobody waits for it any more. What blocks a
# loop for so long never ends well, and a starved machine still lets each run every few seconds.
_MISSED = 6


class Beats:
    """Count the looks at which a process had given no sign of life since the look before.

    Looks are counted and not seconds: where all stood still together (Ctrl-Z, a container that was
    paused) nobody looked either, so nobody is missed.
    """

    def __init__(self) -> None:
        self._missed: dict[int, int] = {}

    def heard(self, index: int) -> None:
        """Take note of a sign of life; from the first one on it is missed."""
        self._missed[index] = 0

    def left(self, index: int) -> None:
        """Miss a process no more, as it has ended."""
        self._missed.pop(index, None)

    def look(self) -> list[int]:
        """Return those that have been silent for too long."""
        for index in self._missed:
            self._missed[index] += 1
        # those that were heard of since the look before stand at 1
        return [index for index, missed in self._missed.items() if missed > _MISSED]

    def missed(self, index: int) -> int:
        """Return the looks since a process was heard of."""
        return self._missed.get(index, 0)
