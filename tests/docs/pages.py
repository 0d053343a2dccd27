"""The README and the pages of docs/, and the commands in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Typed(NamedTuple):
    """A command, and what the page shows of its output; or a file, and what is in it."""

    command: str
    shown: str
    file: str = ""

    @classmethod
    def read(cls, language: str, code: str) -> list["Typed"]:
        """Return what one block has: lines of `sh`, those behind `$ ` of `console`, or a file.

        The first line of a file names it: `# rules.toml`.
        """
        if language in {"python", "toml"}:
            named = re.match(r"# (\w+\.\w+)\n", code)
            return [cls("", code, named[1])] if named else []
        if language == "sh":
            lines = re.sub(r"\\\n\s*", "", code).splitlines()
            return [cls(line, "") for line in map(_bare, lines) if line]
        if language == "console":
            found = re.findall(r"^\$ (.*\n?)((?:(?!\$ ).*\n?)*)", code, re.MULTILINE)
            return [cls(_bare(line), shown.strip("\n")) for line, shown in found]
        return []


def text(page: str) -> str:
    """Return a page, named from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page: str) -> Iterator[Typed]:
    """Return what is typed on a page, in its order."""
    for indent, language, code in _BLOCK.findall(text(page)):
        yield from Typed.read(language, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE))


def _bare(line: str) -> str:
    """Return a line without its comment."""
    return re.sub(r"(^|\s+)# .*$", "", line).strip()
