"""The pages hang together: each is listed, and each link leads somewhere."""

import re
from pathlib import PurePosixPath

import pytest

from tests.docs.pages import PAGES, ROOT, text

ALL = [*PAGES, "CHANGELOG.md", "SECURITY.md", "deploy/observability/README.md"]
DOCS = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}


def plain(page: str) -> str:
    """Return a page without its code."""
    return re.sub(r"^( *)```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """Return what a link may name on a page, as GitHub spells headings."""
    titles = re.findall(r"^#+ (.+)$", plain(page), re.MULTILINE)
    bare = [re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", title)) for title in titles]
    return {title.strip().lower().replace(" ", "-") for title in bare}


def lost(page: str, links: list[str]) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        inside = target.resolve().is_relative_to(ROOT) and target.exists()
        if not inside or (
            anchor and anchor not in anchors(str(target.resolve().relative_to(ROOT)))
        ):
            found.append(link)
    return found


def links(page: str) -> list[str]:
    return [one for one in re.findall(r"\]\(([^)\s]+)\)", plain(page)) if "://" not in one]


@pytest.mark.parametrize("page", ALL)
def test_every_link_leads_somewhere(page: str) -> None:
    assert lost(page, links(page)) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    tried = ["errors.md", "nowhere.md", "README.md#tutorial", "README.md#nowhere", "../../x"]
    assert lost("docs/order.md", tried) == ["nowhere.md", "README.md#nowhere", "../../x"]


def test_the_site_and_the_index_have_every_page() -> None:
    nav = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", text("mkdocs.yml"), re.MULTILINE)
    assert sorted(nav) == sorted(DOCS)
    index = {str(PurePosixPath(link.partition("#")[0])) for link in links("docs/README.md")}
    assert DOCS - index == {"README.md"}
    assert "docs/README.md" in links("README.md")
