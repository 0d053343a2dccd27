"""Headers that aiohttp would lose, change or refuse to write."""

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import Upstream, answer, get, post, result, rpc


async def test_bytes_that_are_no_utf8_are_not_lost(front: Opened, upstream: Upstream) -> None:
    """Inherited default: aiohttp's writer drops them (RFC 9110 section 5.5, obs-text)."""
    upstream.plays(answer(b"", 'Content-Disposition: attachment; filename="\xe9\xdf.txt"'))
    heard = await (await front()).ask(get("/x", "X-Name: Jos\xe9", "X-Utf8: \xc3\xa9"))
    assert upstream.asked[0]["X-Name"] == "Jos\xe9"
    assert upstream.asked[0]["X-Utf8"] == "\xc3\xa9"
    assert heard["Content-Disposition"] == 'attachment; filename="\xe9\xdf.txt"'


async def test_an_answer_with_such_bytes_can_be_stored(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(result(1, tools=[]), "X-Name: Jos\xe9"))
    sidecar = await front()
    first, second = [await sidecar.ask(post("/mcp", rpc("tools/list"))) for _ in "ab"]
    assert "hit" in second["Cache-Status"]
    assert first["X-Name"] == second["X-Name"] == "Jos\xe9"


@pytest.mark.parametrize("control", ["\x01", "\x1b", "\x7f"])
async def test_a_control_character_in_an_answer_is_not_passed_on(
    front: Opened, upstream: Upstream, control: str
) -> None:
    """F11: 502, no 500, nothing injected downstream."""
    sidecar = await front(MCP_MAX_RETRIES=0)
    for bad in (answer(b"", f"X-A: a{control}b"), answer(b"", status=f"200 O{control}K")):
        upstream.plays(bad)
        heard = await sidecar.ask(get("/x"))
        assert heard.status == 502
        assert heard.json["code"] == "upstream_broken"


@pytest.mark.parametrize("control", ["\x01", "\x1b", "\x7f", "\x00"])
async def test_a_control_character_in_a_request_is_not_passed_on(
    front: Opened, upstream: Upstream, control: str
) -> None:
    heard = await (await front()).ask(get("/x", f"X-A: a{control}b"))
    assert heard.status == 400
    assert upstream.asked == []


async def test_a_tab_in_a_header_passes(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", "X-A: a\tb"))
    heard = await (await front()).ask(get("/x", "X-A: a\tb"))
    assert heard["X-A"] == upstream.asked[0]["X-A"] == "a\tb"


@pytest.mark.parametrize("path", ["/livez", "/api/health", "/nowhere"])
async def test_our_own_answers_do_not_name_our_parts(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """Inherited default: Server tells the versions of Python and aiohttp."""
    assert "Server" not in await (await front()).ask(get(path))
