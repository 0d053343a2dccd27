"""Bytes that come in pieces, as lines of text."""

# A line that is longer is cut here: who writes without line ends must not fill our memory.
_LONGEST = 1 << 20


class Lines:
    """Split pieces of text into lines; what is not UTF-8 is replaced."""

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._begun = b""

    def feed(self, piece: bytes) -> list[str]:
        """Return the lines that a piece completes."""
        *whole, last = (self._begun + piece).split(b"\n")
        self._begun = last[: self._longest]
        return [self._text(line) for line in whole]

    def rest(self) -> list[str]:
        """Return the last line, which nothing has ended, if there is one."""
        begun, self._begun = self._begun, b""
        return [self._text(begun)] if begun else []

    def _text(self, line: bytes) -> str:
        return line[: self._longest].decode("utf-8", "replace")
