"""The README says what the code does."""

import re
import runpy
from pathlib import Path

from mcp_proxy.core.errors import ProxyError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_that_of_the_model() -> None:
    table = runpy.run_path(str(ROOT / "scripts" / "settings-table"))["table"]()
    between = re.search(r"<!-- settings:[^\n]*-->\n(.*?)<!-- /settings -->", README, re.DOTALL)
    assert between is not None
    assert between[1].strip() == table, "run scripts/settings-table"


def test_the_table_of_events_is_that_of_their_schemas() -> None:
    table = runpy.run_path(str(ROOT / "scripts" / "events-table"))["table"]()
    page = (ROOT / "docs" / "events.md").read_text()
    between = re.search(r"<!-- events:[^\n]*-->\n(.*?)<!-- /events -->", page, re.DOTALL)
    assert between is not None
    assert between[1].strip() == table, "run scripts/events-table"


def test_every_file_that_is_linked_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    ]
    assert links
    missing = [(page.name, link) for page, link in links if not (page.parent / link).exists()]
    assert missing == []


def test_every_error_code_is_explained() -> None:
    explained = (ROOT / "docs" / "errors.md").read_text()
    for kind in ProxyError.__subclasses__():
        assert re.search(rf"\| `{kind.code}` \| {kind.status} \|", explained), kind
