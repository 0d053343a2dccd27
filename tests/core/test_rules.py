"""What the operator says of tools, most specific first."""

from fnmatch import fnmatchcase
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_proxy.core.rules import Rule, Rules, compiled

PATTERNS = [
    "*",
    "jira*",
    "*issue",
    "jira_get_*",
    "jira_get_issue",
    "jira/*",
    "jira/jira_get_*",
    "jira/jira_get_issue",
    "jira/*issue",
]


@pytest.mark.parametrize(
    ("service", "tool", "pattern"),
    [
        ("jira", "jira_get_issue", "jira/jira_get_issue"),
        ("jira", "jira_get_project", "jira/jira_get_*"),
        ("jira", "jira_create_issue", "jira/*issue"),
        ("jira", "look", "jira/*"),
        ("other", "jira_get_issue", "jira_get_issue"),
        ("other", "jira_get_project", "jira_get_*"),
        ("other", "jira_search", "jira*"),
        ("other", "an_issue", "*issue"),
        ("other", "look", "*"),
        ("", "jira_get_issue", "jira_get_issue"),
        ("", "jira_get_project", "jira_get_*"),
        # MCP tool names may hold a slash; they have no service
        ("", "jira/jira_get_issue", "jira/jira_get_issue"),
        ("", "jira/anything", "jira/*"),
        ("other", "jira/anything", "jira*"),
    ],
)
def test_an_exact_name_wins_and_then_the_longest_literal_prefix(
    service: str, tool: str, pattern: str
) -> None:
    """DESIGN section 7: most specific first, in whatever order the file has them."""
    for turn in (PATTERNS, PATTERNS[::-1]):
        assert Rules(map(Rule, turn)).find(service, tool).pattern == pattern


def test_the_order_of_rules_in_the_file_does_not_matter() -> None:
    few = ["*", "jira*", "jira_*", "*_x", "jira_x"]
    for turn in permutations(map(Rule, few)):
        rules = Rules(turn)
        found = [rules.find("", tool).pattern for tool in ("jira_x", "jira_y", "jiray", "a_x", "a")]
        assert found == ["jira_x", "jira_*", "jira*", "*_x", "*"]


@pytest.mark.parametrize("rules", [[], [Rule("jira", read_only=True)], [Rule("", read_only=True)]])
def test_a_tool_without_a_rule_has_one_that_says_nothing(rules: list[Rule]) -> None:
    found = Rules(rules).find("jira", "jira_x")
    assert (found.read_only, found.idempotent, found.ttl, found.attempt_timeout) == (None,) * 4


@pytest.mark.parametrize("service", ["", "jira"])
def test_a_pattern_without_a_slash_names_tools_and_not_services(service: str) -> None:
    """DESIGN section 7: `service/tool` is the form that names a service."""
    assert Rules([Rule("jira*", read_only=True)]).find(service, "delete").read_only is None


@given(
    pattern=st.text("ab*/", max_size=8),
    name=st.text("ab/\n", max_size=10),
)
@example(pattern="a*b*/a*", name="a\nb/b/ab")
@example(pattern="*a*", name="bab")
@example(pattern="*a*b", name="ab/")
def test_a_star_stands_for_any_characters(pattern: str, name: str) -> None:
    assert bool(compiled(pattern).fullmatch(name)) == fnmatchcase(name, pattern)


@pytest.mark.parametrize("odd", ["a.b", "a?b", "[ab]", "a+b", "^ab$", "(a|b)", "a\\d", "{a}"])
def test_nothing_but_the_star_is_special(odd: str) -> None:
    assert compiled(odd).fullmatch(odd)
    assert not any(compiled(odd).fullmatch(other) for other in ("axb", "a", "b", "ab", "aab", "a1"))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pattern", ["a*a*a*a*b", "*a*a*a*b", "a*b*c"])
def test_no_name_is_slow_to_match(pattern: str) -> None:
    """F45: names come from callers, and may be as long as a body."""
    for name in ("a" * 200_000, "ab" * 100_000):
        assert not compiled(pattern).fullmatch(f"{name}-")
