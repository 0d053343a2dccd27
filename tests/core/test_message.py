"""What was said, in whichever dialect."""

from typing import Any

import pytest

from mcp_proxy.core.message import NOTHING, Message, is_name
from tests.fakes import rest_tool, rpc, tool


@pytest.mark.parametrize(
    ("message", "wants"),
    [
        (rpc(), True),
        (rpc(request_id=""), True),
        (rpc(request_id=0), True),
        (rpc("notifications/initialized", None), False),
        (rest_tool(), True),
        (NOTHING, False),
    ],
)
def test_an_answer_is_wanted_by_who_can_tell_it_from_others(message: Message, wants: bool) -> None:
    """JSON-RPC 2.0 section 4.1: without id it is a notification; 0 and "" are ids."""
    assert message.wants_answer is wants


@pytest.mark.parametrize(
    ("meta", "has"),
    [
        ({"progressToken": 1}, True),
        ({"progressToken": None}, True),
        ({"traceparent": "00-1"}, False),
        ({}, False),
        ("progressToken", False),
        (["progressToken"], False),
        (None, False),
    ],
)
def test_a_progress_token_stands_in_meta(meta: Any, has: bool) -> None:
    """MCP, basic/utilities/progress: `params._meta.progressToken`."""
    assert tool(_meta=meta).has_progress_token is has
    assert not tool(arguments={"progressToken": 1}).has_progress_token


def test_a_name_that_is_longer_than_any_in_the_wild_is_not_read() -> None:
    """Names become keys of tables that are bounded by number (F43, F46)."""
    assert is_name("x" * 256)
    assert not is_name("x" * 257)
    assert not is_name(None)
