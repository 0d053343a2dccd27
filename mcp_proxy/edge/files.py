"""Lines of files that grow, and of pipes."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.lines import Lines

_BLOCK = 1 << 16
_POLL = 0.2  # seconds between looks at a file that has not grown


class File:
    """A file that may grow, be cut to nothing, or be replaced by another (as `tail -F` follows it)."""

    def __init__(self, path: Path, clock: Clock, *, follow: bool = True) -> None:
        self._path = path
        self._clock = clock
        self._follow = follow
        self._file: BinaryIO = path.open("rb")
        self._lines = Lines()

    def past(self, last: int | None) -> Iterator[str]:
        """Read the last lines, or all, up to the present end."""
        self._file.seek(0 if last is None else beginning(self._file, last))
        yield from self._grown()

    async def coming(self) -> AsyncIterator[str]:
        """Read what is written from now on, without end; else what no line end has ended yet."""
        while self._follow:
            for line in self._news():
                yield line
            await self._clock.sleep(_POLL)
        for line in self._lines.rest():
            yield line

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _grown(self) -> Iterator[str]:
        while piece := self._file.read(_BLOCK):
            yield from self._lines.feed(piece)

    def _news(self) -> Iterator[str]:
        yield from self._grown()
        here = os.fstat(self._file.fileno())
        try:
            now = self._path.stat()
            replaced = (now.st_dev, now.st_ino) != (here.st_dev, here.st_ino)
            other = self._path.open("rb") if replaced else None
        except OSError:  # moved away; the one that takes its place is not there yet
            return
        if other is not None:
            yield from self._grown()  # what was still written before it was moved
            yield from self._lines.rest()
            self._file.close()
            self._file = other
        elif here.st_size < self._file.tell():
            self._file.seek(0)
            self._lines = Lines()
        yield from self._grown()


def beginning(file: BinaryIO, lines: int) -> int:
    """Return where the last so many lines begin; only they are read, from the end."""
    position = end = file.seek(0, os.SEEK_END)
    if not lines:
        return end
    while position:
        start = max(0, position - _BLOCK)
        file.seek(start)
        block = file.read(position - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 < end:  # the last one ends the last line
                lines -= 1
                if not lines:
                    return start + at + 1
        position = start
    return 0


class Pipe:
    """What comes through a pipe, until its other end closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def past(self, last: int | None) -> Iterator[str]:  # noqa: ARG002 - a pipe has none
        """Return nothing: a pipe has no past."""
        return iter(())

    async def coming(self) -> AsyncIterator[str]:
        """Read to the end. It holds up the loop, in which there is nothing else."""
        lines = Lines()
        while piece := os.read(self._descriptor, _BLOCK):
            for line in lines.feed(piece):
                yield line
        for line in lines.rest():
            yield line
