"""Which tools the server has, and what it says of them, to whom."""

from typing import Any

import pytest

from mcp_proxy.core.rules import Annotations
from mcp_proxy.upstream.catalogue import OURSELVES, Catalogue

READS = Annotations(read_only=True)
WRITES = Annotations()


def listed(*names: str, **said: Any) -> dict[str, Any]:
    return {"tools": [{"name": name, "annotations": said} for name in names]}


def test_nothing_is_known_at_first() -> None:
    catalogue = Catalogue()
    assert (catalogue.empty, catalogue.size, catalogue.of("me", "look")) == (True, 0, None)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"readOnlyHint": True}, READS),
        ({"idempotentHint": True}, Annotations(idempotent=True)),
        ({"readOnlyHint": False, "idempotentHint": False}, WRITES),
        ({"readOnlyHint": "true", "idempotentHint": 1}, WRITES),
        ({}, WRITES),
    ],
)
def test_only_true_is_true(said: dict[str, Any], meant: Annotations) -> None:
    """MCP ToolAnnotations; what is not a boolean is no promise."""
    catalogue = Catalogue()
    catalogue.learn("me", listed("look", **said))
    assert catalogue.of("me", "look") == meant


def test_what_one_caller_was_told_does_not_hold_for_another() -> None:
    """Lists may vary by authorization (MCP 2026-07-28, tools/list)."""
    catalogue = Catalogue()
    catalogue.learn("me", listed("look", readOnlyHint=True))
    assert catalogue.of("you", "look") is None


def test_a_caller_that_has_not_listed_is_served_by_our_own_look() -> None:
    catalogue = Catalogue()
    catalogue.learn(OURSELVES, listed("look", readOnlyHint=True))
    assert catalogue.of("me", "look") == READS
    catalogue.learn("me", listed("other"))
    assert catalogue.of("me", "look") is None, "the server did not tell this caller of it"


def test_a_later_page_adds_and_a_first_page_begins_anew() -> None:
    catalogue = Catalogue()
    catalogue.learn("me", listed("a"))
    catalogue.learn("me", listed("b"), first_page=False)
    assert (catalogue.of("me", "a"), catalogue.of("me", "b")) == (WRITES, WRITES)
    catalogue.learn("me", listed("c"))
    assert catalogue.of("me", "a") is None


def test_a_later_page_without_a_first_is_what_is_known() -> None:
    catalogue = Catalogue()
    catalogue.learn("me", listed("b"), first_page=False)
    assert catalogue.of("me", "b") == WRITES


def test_a_tool_that_became_a_write_is_one() -> None:
    catalogue = Catalogue()
    catalogue.learn("me", listed("look", readOnlyHint=True))
    catalogue.learn("me", listed("look"))
    assert catalogue.of("me", "look") == WRITES


@pytest.mark.parametrize(
    "odd", [{}, {"tools": None}, {"tools": [1, None, {"name": 5}, {"annotations": {}}]}]
)
def test_an_odd_list_teaches_nothing(odd: dict[str, Any]) -> None:
    catalogue = Catalogue()
    catalogue.learn("me", odd)
    assert catalogue.of("me", "look") is None


def test_forgetting_forgets_everything() -> None:
    catalogue = Catalogue()
    catalogue.learn("me", listed("a"))
    catalogue.forget()
    assert catalogue.empty


def test_callers_that_come_and_go_do_not_grow_it_for_ever() -> None:
    """F46: every map is bounded; the longest silent goes first."""
    catalogue = Catalogue()
    catalogue.learn("first", listed("a"))
    catalogue.learn("second", listed("a"))
    for number in range(254):
        catalogue.learn(str(number), listed("a"))
    catalogue.learn("first", listed("a"))
    catalogue.learn("one more", listed("a"))
    assert len(catalogue._lists) == 256
    assert (catalogue.of("first", "a"), catalogue.of("second", "a")) == (WRITES, None)


def test_a_list_without_end_does_not_grow_it_for_ever() -> None:
    catalogue = Catalogue()
    for page in range(30):
        names = [f"tool-{page}-{number}" for number in range(100)]
        catalogue.learn("me", listed(*names), first_page=page == 0)
    assert catalogue.size == 2000


def test_its_size_is_that_of_our_own_list_or_else_of_the_longest() -> None:
    catalogue = Catalogue()
    catalogue.learn("me", listed("a", "b", "c"))
    catalogue.learn("you", listed("a"))
    assert catalogue.size == 3
    catalogue.learn(OURSELVES, listed("a", "b"))
    assert catalogue.size == 2
