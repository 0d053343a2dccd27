"""What the reference says is what the code does."""

import re
import runpy

import pytest

from mcp_proxy.edge import dashboard
from mcp_proxy.edge.own import Own
from mcp_proxy.settings import variables
from mcp_proxy.sources import FILE_VARIABLE
from tests.docs.pages import PAGES, ROOT, text

REFERENCE = runpy.run_path(str(ROOT / "scripts" / "reference"))
README = text("README.md")


@pytest.mark.parametrize("name", REFERENCE["TABLES"])
def test_the_table_is_that_of_the_code(name: str) -> None:
    page = text(REFERENCE["TABLES"][name][0])
    assert REFERENCE["renewed"](name, page) == page, "run scripts/reference"


def test_a_page_without_a_place_for_its_table_is_no_success() -> None:
    with pytest.raises(ValueError, match="0"):
        REFERENCE["renewed"]("settings", "# Nothing")


def test_a_row_that_was_written_by_hand_is_taken_out() -> None:
    page = "<!-- errors: made by x -->\n| `made_up` | 418 | no | never |\n<!-- /errors -->"
    assert "made_up" not in REFERENCE["renewed"]("errors", page)


def test_the_readme_names_every_endpoint_for_people() -> None:
    """The page of endpoints has all of them; the README those that one types."""
    known = {path for path in Own(None, None, None).routes if not path.startswith(dashboard.PAGE)}  # type: ignore[arg-type]
    named = set(re.findall(r"`(?:GET|POST) (/[\w/]+)`", README))
    assert known - named == {"/api/events/schema"}
    assert named - known == {"/dashboard"}


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    """A misspelt setting helps nobody; `MCP_PUBLISHED_*` are the Compose file's own."""
    wrong = {
        (page, name)
        for page in PAGES
        for name in re.findall(r"\bMCP_[A-Z_]+[A-Z](?![A-Z_*])", text(page))
        if name.removesuffix("_FILE") not in variables()
        and name != FILE_VARIABLE
        and not name.startswith("MCP_PUBLISHED_")
    }
    assert wrong == set()
