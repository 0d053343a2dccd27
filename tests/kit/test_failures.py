"""Failures that are answers, as they show on the wire."""

from datetime import UTC, datetime

import pytest

from tests.kit.conftest import WRITE, struck
from tests.kit.damage import Fails, Status
from tests.kit.seen import Fate, messages, see
from tests.kit.sent import connected, open_session
from tests.kit.upstream import Upstream


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("executed", [False, True])
async def test_a_status_is_answered(upstream: Upstream, code: int, *, executed: bool) -> None:
    """F5."""
    heard = await struck(upstream, Status(code, executed=executed))
    assert heard.status == code
    assert "Retry-After" not in heard
    assert heard.whole
    assert see(WRITE, heard).fate is Fate.ANSWERED
    assert upstream.ledger.runs(WRITE.tool) == executed


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (2, "2"),
        (datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC), "Thu, 01 Jan 2026 00:00:02 GMT"),
        ("soon", "soon"),
        (10**9, "1000000000"),
        (-5, "-5"),
        ("", ""),
    ],
)
async def test_a_busy_server_says_when_to_come_back(
    upstream: Upstream, when: str | int | datetime, said: str
) -> None:
    """F6."""
    for code in (429, 503):
        assert (await struck(upstream, Status(code, when)))["Retry-After"] == said


@pytest.mark.parametrize("executed", [False, True])
async def test_a_tool_fails_in_each_dialect(upstream: Upstream, *, executed: bool) -> None:
    """F7."""
    async with connected(upstream.port) as client:
        session = await open_session(client)
    fails = Fails("no such issue", executed=executed)
    rest = await struck(upstream, fails)
    assert rest.status == 200
    assert (rest.json["success"], rest.json["error"]) == (False, "no such issue")
    for raw in (WRITE.mcp(session), WRITE.stateless()):
        heard = await struck(upstream, fails, raw)
        assert heard.json["result"]["isError"] is True
        assert heard.json["result"]["content"][0]["text"] == "no such issue"
        assert see(WRITE, heard).fate is Fate.ANSWERED
    as_error = await struck(upstream, Fails("bad", -32602), WRITE.stateless())
    assert as_error.json["error"] == {"code": -32602, "message": "bad"}
    assert upstream.ledger.runs(WRITE.tool) == 3 * executed


async def test_a_stream_can_fail_too(upstream: Upstream) -> None:
    upstream.mcp.streams = {"*"}
    heard = await struck(upstream, Fails(), WRITE.stateless())
    (message,) = messages(heard.body)
    assert message["result"]["isError"] is True
    assert see(WRITE, heard).fate is Fate.ANSWERED
