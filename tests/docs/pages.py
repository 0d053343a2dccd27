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
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {"sh", "console"}


class Block(NamedTuple):
    """Code between fences."""

    language: str
    text: str


def text(page: str) -> str:
    """Return a page, named from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the code of a page."""
    return [Block(*found) for found in _BLOCK.findall(text(page))]


def commands(page: str) -> Iterator[str]:
    """Return what is typed on a page: lines of `sh`, those behind `$ ` of `console`."""
    for block in blocks(page):
        if block.language in _LANGUAGES:
            lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
            if block.language == "console":
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            for line in lines:
                typed = re.sub(r"(^|\s+)# .*$", "", line).strip()
                if typed:
                    yield typed
