"""Where one of several workers stands (docs/workers.md)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the workers a process is, and where it meets the others."""

    index: int  # of this one, from 0
    workers: int
    name: str  # of all together; nobody else has it
    room: str  # a directory that only they and their supervisor may enter
    again: bool = False  # another one stood here before, and has died

    @property
    def others(self) -> list[int]:
        """Return the indexes of the other workers."""
        return [index for index in range(self.workers) if index != self.index]

    @property
    def speaks(self) -> bool:
        """Tell whether this one says what is said once for all."""
        return not self.index and not self.again
