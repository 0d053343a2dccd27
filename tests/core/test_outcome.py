"""How a call ended."""

import pytest

from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict


def test_an_outcome_cannot_be_changed_by_one_of_those_who_count_it() -> None:
    """House style section 6: what is told to several is immutable."""
    outcome = Outcome("jira", "look", Verdict.OK, 0.1, 1, "miss", None)
    with pytest.raises(AttributeError):
        outcome.cache = "hit"  # type: ignore[misc]
