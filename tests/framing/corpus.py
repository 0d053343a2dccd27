"""The corpus of public cases, where there is one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.framing.hostile import Case

VARIABLE = "HTTP_CORPUS"


def path() -> Path | None:
    """Return the file that HTTP_CORPUS names, if it is there."""
    named = os.environ.get(VARIABLE)  # noqa: TID251 - it is the tests' own
    return Path(named) if named and Path(named).is_file() else None


def cases(file: Path) -> Iterator[Case]:
    """Yield each request twice: on a fresh connection, and on one that the express way knows."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        entry = json.loads(line)
        raw = _bytes(entry["raw"])
        yield Case(entry["id"], (raw,))
        yield Case(f"{entry['id']} (warm)", (raw,), ("rest", "mcp")[number % 2])


def _bytes(text: str) -> bytes:
    """Return the bytes of a case, which stand as Latin-1; a few hold characters beyond it."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")
