"""Split what a child writes into lines, each of bounded length."""

from typing import NamedTuple

# Of a line that is too long, enough to find the id of what it answers at either end.
_KEPT = 512


class Line(NamedTuple):
    """One line; of one that was too long, its first and its last bytes."""

    data: bytes
    whole: bool = True


class Lines:
    """Split bytes at line feeds, holding at most `limit` bytes of one line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._held = 0
        self._cut = False

    def feed(self, piece: bytes) -> list[Line]:
        """Return the lines that `piece` completes; empty ones are none."""
        *complete, rest = piece.split(b"\n")
        lines = []
        for end in complete:
            self._add(end)
            line = Line(b"".join(self._pieces).strip(), not self._cut)
            if line.data:
                lines.append(line)
            self._pieces, self._held, self._cut = [], 0, False
        self._add(rest)
        return lines

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > self._limit or self._cut:
            data = b"".join(self._pieces)
            self._cut = True
            if len(data) > 2 * _KEPT:
                data = data[:_KEPT] + data[-_KEPT:]
            self._pieces, self._held = [data], len(data)
