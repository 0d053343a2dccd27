"""Leave out of scripts and styles what only those need who read the source (docs/dashboard.md).

No minifier: our own files keep to what this understands (each statement ends with a semicolon, no text
goes over a line's end, a division has spaces around it), and tests/browser runs what comes out.
"""

import re

# Texts, templates and regular expressions stay; comments go, and blanks beside punctuation.
_SCRIPT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\\n])*`"""
    r"""|/(?![*/\s])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/)"""
    r"""|/\*.*?\*/|//[^\n]*"""
    r"""|\s*(?:,\s*(?=[}\])])|;\s*(?=\}))"""  # before what closes, neither says anything
    r"""|\s*(!==|[{}()\[\],;:?<>=+*&|-])\s*|(\s)\s*""",
    re.DOTALL,
)
_COMMENT = re.compile(r"^\s*(/\*.*?\*/|//[^\n]*)\n|\s//\s[^\n\"'`]*$", re.DOTALL | re.MULTILINE)
_STYLE = re.compile(r"\s*;\s*(?=\})|\s*([{};,])\s*|(:)\s+|(\s)\s*")


def script(source: str) -> str:
    """Return a script that does the same."""
    return _SCRIPT.sub(_kept, _COMMENT.sub("", source)).strip()


def style(source: str) -> str:
    """Return a style sheet that says the same."""
    return _STYLE.sub(_kept, source).strip()


def _kept(found: re.Match[str]) -> str:
    return next((part for part in found.groups() if part), "")
