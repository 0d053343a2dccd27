"""Under which names answers can be cleared."""

import pytest
from multidict import CIMultiDict

from mcp_proxy.core import scopes
from mcp_proxy.core.keys import credentials
from tests.fakes import rest_tool, rpc, tool

DIGEST = "0123456789abcdef" * 2


def test_an_answer_belongs_to_its_tool_its_caller_and_its_key() -> None:
    message = rest_tool()
    found = scopes.scopes(message, DIGEST, "caller:a")
    assert found[:3] == (
        f"service:{message.service}",
        f"tool:{message.tool}",
        f"{message.service}/{message.tool}",
    )
    assert found[3:] == ("caller:a", "key:0123456789abcdef")
    assert scopes.scopes(rpc("tools/list"), DIGEST) == ("key:0123456789abcdef",)


def test_a_caller_is_told_apart_by_credentials_and_session() -> None:
    same = {scopes.of_caller(credentials(CIMultiDict({"Accept": accept}))) for accept in "ab"}
    others = {
        scopes.of_caller(credentials(CIMultiDict({name: value})))
        for name in ("Authorization", "Cookie", "Mcp-Session-Id")
        for value in "ab"
    }
    assert (len(same), len(others)) == (1, 6)


@pytest.mark.parametrize(
    ("service", "tool_name", "scope"),
    [
        ("jira", "look", "jira/look"),
        ("jira", None, "service:jira"),
        (None, "look", "tool:look"),
        (None, None, ""),
    ],
)
def test_a_scope_is_named_by_service_and_tool(
    service: str | None, tool_name: str | None, scope: str
) -> None:
    assert scopes.narrowed(service, tool_name) == scope


@pytest.mark.parametrize(
    ("pattern", "scope"),
    [
        ("*", ""),
        ("jira/*", "service:jira"),
        ("jira/look", "jira/look"),
        ("look", "tool:look"),
    ],
)
def test_a_rule_may_name_what_it_invalidates(pattern: str, scope: str) -> None:
    """DESIGN section 4: `invalidates = ["jira/*"]`."""
    assert scopes.of_pattern(pattern) == scope


@pytest.mark.parametrize(
    "pattern", ["", "/", "jira/", "/look", "jira/lo*", "j*/look", "*/look", "lo*"]
)
def test_a_pattern_without_a_generation_of_its_own_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="service/tool"):
        scopes.of_pattern(pattern)


def test_an_answer_is_called_by_its_tool_or_its_method() -> None:
    assert scopes.label(tool("look")) == "/look"
    assert scopes.label(rpc("tools/list")) == "tools/list"
