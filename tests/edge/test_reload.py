"""Settings that are read anew: what takes effect, and that nothing is lost by it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Front,
    Said,
    Upstream,
    answer,
    get,
    post,
    request,
    result,
    rpc,
    tool,
)

RELOAD = "/api/config/reload"
LOOK = post("/mcp", tool("look"))
LIST = post("/mcp", rpc("tools/list"))
READS = "[tools.look]\nread_only = true\n"
TOLD = answer(result(1, content=[]))
FAILED = answer(b"{}", status="500 Internal Server Error")


class Configured:
    """A sidecar whose file changes."""

    def __init__(self, front: Front, file: Path) -> None:
        self.front = front
        self.file = file

    async def ask(self, raw: bytes) -> Said:
        return await self.front.ask(raw)

    async def reload(self, text: str, *headers: str) -> Said:
        self.file.write_text(text)
        return await self.ask(request("POST", RELOAD, *headers))

    async def changes(self, text: str) -> Any:
        heard = await self.reload(text)
        assert heard.status == 200
        return heard.json["changed"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mcp.toml"


async def configured(front: Opened, file: Path, text: str = "", **settings: Any) -> Configured:
    file.write_text(text)  # noqa: ASYNC240 - a small file
    return Configured(await front(MCP_CONFIG_FILE=file, **settings), file)


# --- what takes effect


async def test_a_rule_takes_effect_and_is_withdrawn(
    front: Opened, upstream: Upstream, file: Path
) -> None:
    upstream.plays(TOLD)
    sidecar = await configured(front, file)
    for _ in range(2):
        assert "hit" not in (await sidecar.ask(LOOK))["Cache-Status"]
    assert await sidecar.changes(READS) == ["tools"]
    assert "stored" in (await sidecar.ask(LOOK))["Cache-Status"]
    assert "hit" in (await sidecar.ask(LOOK))["Cache-Status"]
    assert await sidecar.changes("") == ["tools"]
    assert "hit" not in (await sidecar.ask(LOOK))["Cache-Status"]


async def test_a_host_takes_effect_and_is_withdrawn_on_open_connections_too(
    front: Opened, upstream: Upstream, file: Path
) -> None:
    """Heads that have passed are remembered, hits are answered by their bytes alone."""
    upstream.plays(answer(result(1, tools=[])))
    asked = post("/mcp", rpc("tools/list"), "Host: mcp.example.com")
    sidecar = await configured(front, file)
    async with sidecar.front.client() as client:
        assert (await client.ask(asked)).status == 421
        assert await sidecar.changes('server.allowed_hosts = "mcp.example.com"') == [
            "server.allowed_hosts"
        ]
        for _ in range(5):
            assert (await client.ask(asked)).status == 200
        express = sidecar.front.sidecar.inbound.express
        assert express is not None
        assert express.answered > 0, "else this proves nothing"
        await sidecar.changes("")
        assert (await client.ask(asked)).status == 421


async def test_a_head_that_was_checked_before_is_not_learned_after(
    front: Opened, upstream: Upstream, file: Path
) -> None:
    """Its body comes late: by then its Host is no longer served."""
    upstream.plays(answer(result(1, tools=[])))
    asked = post("/mcp", rpc("tools/list"), "Host: mcp.example.com")
    sidecar = await configured(front, file, 'server.allowed_hosts = "mcp.example.com"')
    async with sidecar.front.client() as client:
        end = asked.index(b"\r\n\r\n") + 4
        await client.send(asked[: end + 3])
        while sidecar.front.sidecar.inbound._passed == {}:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)  # noqa: TID251 - lets the head in
        await sidecar.changes("")
        await client.send(asked[end + 3 :])
        assert (await client.hear()).status == 200
        assert (await client.ask(asked)).status == 421


async def test_origins_take_effect(front: Opened, upstream: Upstream, file: Path) -> None:
    sidecar = await configured(front, file)
    asked = get("/x", "Origin: https://page.example")
    assert (await sidecar.ask(asked)).status == 403
    await sidecar.changes('server.allowed_origins = ["https://page.example"]')
    assert (await sidecar.ask(asked)).status == 200


async def test_retries_take_effect(front: Opened, upstream: Upstream, file: Path) -> None:
    upstream.plays(FAILED)
    sidecar = await configured(front, file, "retry.max_retries = 0")
    await sidecar.ask(LIST)
    assert upstream.begun == 1
    await sidecar.changes("retry.max_retries = 2")
    await sidecar.ask(LIST)
    assert upstream.begun == 4


async def test_failure_patterns_take_effect(front: Opened, upstream: Upstream, file: Path) -> None:
    said = answer(b'{"success": false, "error": "gone fishing"}')
    upstream.plays(said)
    sidecar = await configured(front, file, MCP_MAX_RETRIES=0)
    call = post("/api/call-tool", {"service": "s", "tool_name": "t", "params": {}})
    await sidecar.ask(call)
    await sidecar.changes('[failures]\npatterns = ["gone fishing"]')
    await sidecar.ask(call)
    assert sidecar.front.sidecar.metrics.outcomes == {"tool_failed": 1, "upstream_failed": 1}


async def test_rate_limits_come_and_go_and_other_changes_leave_their_counts(
    front: Opened, upstream: Upstream, file: Path
) -> None:
    upstream.plays(TOLD)
    sidecar = await configured(front, file)
    assert "RateLimit" not in await sidecar.ask(LOOK)
    limited = 'rate_limit.tool = "1/hour"\n'
    assert await sidecar.changes(limited) == ["rate_limit.tool"]
    assert "RateLimit" in await sidecar.ask(LOOK)
    await sidecar.changes(limited + READS)
    assert (await sidecar.ask(LOOK)).json["result"]["isError"]
    await sidecar.changes(READS)
    assert "RateLimit" not in await sidecar.ask(LOOK)
    await sidecar.changes('[tools.look]\nrate_limit = "1/hour"\n')
    assert "RateLimit" in await sidecar.ask(LOOK)


async def test_the_log_level_takes_effect(front: Opened, upstream: Upstream, file: Path) -> None:
    sidecar = await configured(front, file, 'signals.log_level = "error"')
    sidecar.front.sidecar.emit("config.warning", "warning", message="unheard")
    await sidecar.changes('signals.log_level = "info"')
    sidecar.front.sidecar.emit("config.warning", "warning", message="heard")
    last = sidecar.front.sidecar.events.last
    assert last == 2  # the reload, and what was heard
    await sidecar.changes('signals.log_level = "debug"')
    sidecar.front.sidecar.emit("config.warning", "debug", message="whispered")
    assert sidecar.front.sidecar.events.last == last + 2
    await sidecar.changes('signals.log_level = "info"')
    sidecar.front.sidecar.emit("config.warning", "debug", message="unheard")
    messages = [one["message"] for one in sidecar.front.told() if "message" in one]
    assert messages[-2:] == ["heard", "whispered"]


async def test_shapes_of_errors_take_effect(front: Opened, upstream: Upstream, file: Path) -> None:
    upstream.plays(FAILED)
    sidecar = await configured(front, file, MCP_CB_FAILURE_THRESHOLD=1, MCP_MAX_RETRIES=0)
    await sidecar.ask(LOOK)
    assert (await sidecar.ask(LOOK)).json["result"]["isError"]
    await sidecar.changes('server.tool_error_style = "error"')
    assert "error" in (await sidecar.ask(LOOK)).json


async def test_what_is_in_force_is_shown_with_its_origin(front: Opened, file: Path) -> None:
    sidecar = await configured(front, file)
    await sidecar.changes("cache.ttl = 7")
    rows = (await sidecar.ask(get("/api/config"))).json["settings"]
    (ttl,) = [row for row in rows if row["key"] == "cache.ttl"]
    assert (ttl["value"], ttl["origin"]) == (7, f"file {file}")


# --- what stays


async def test_circuits_and_answers_stay(front: Opened, upstream: Upstream, file: Path) -> None:
    upstream.plays(answer(result(1, tools=[])), FAILED)
    sidecar = await configured(
        front, file, MCP_CB_FAILURE_THRESHOLD=1, MCP_CACHE_QUARANTINE=0, MCP_MAX_RETRIES=0
    )
    await sidecar.ask(post("/mcp", rpc("tools/list")))
    with_circuit = post("/mcp", rpc("prompts/get", name="x"))
    await sidecar.ask(with_circuit)
    begun = upstream.begun
    await sidecar.changes("retry.max_retries = 1")
    assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]
    assert (await sidecar.ask(with_circuit)).json["error"]["data"]["code"] == "circuit_open"
    assert upstream.begun == begun


async def test_no_call_is_lost(front: Opened, upstream: Upstream, file: Path) -> None:
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(TOLD)

    upstream.plays(slow)
    sidecar = await configured(front, file, MCP_CONCURRENCY_PER_TOOL=1)
    async with sidecar.front.client() as first, sidecar.front.client() as second:
        await first.send(LOOK)
        await upstream.until(lambda: upstream.begun == 1)
        await second.send(LOOK)  # it waits for its place
        await sidecar.changes(READS + "[retry]\nmax_retries = 0\n")
        go_on.set()
        assert (await first.hear()).json["result"] == {"content": []}
        assert (await second.hear()).json["result"] == {"content": []}
    assert sidecar.front.sidecar.metrics.in_flight == 0
    assert sidecar.front.sidecar.admit.snapshot()["in_flight"] == 0


# --- what does not


async def test_a_file_that_cannot_be_used_changes_nothing(
    front: Opened, upstream: Upstream, file: Path
) -> None:
    sidecar = await configured(front, file, "cache.ttl = 7")
    heard = await sidecar.reload("cache.ttl = -1\ncache.tll = 3\nretry.window = 'x'\n" + READS)
    assert (heard.status, heard["Content-Type"]) == (422, "application/problem+json")
    said = heard.json
    assert said["code"] == "settings_rejected"
    assert [fault.split(" ")[0] for fault in sorted(said["faults"])] == [
        "cache.tll",
        "cache.ttl",
        "retry.window",
    ]
    settings = sidecar.front.sidecar._settings
    assert (settings.cache.ttl, dict(settings.tools)) == (7, {})
    told = sidecar.front.told()
    assert [one["event"] for one in told].count("config.warning") == 3
    assert "config.reloaded" not in [one["event"] for one in told]


async def test_no_toml_and_no_file_change_nothing(front: Opened, file: Path) -> None:
    sidecar = await configured(front, file, "cache.ttl = 7")
    assert (await sidecar.reload("cache.ttl =")).status == 422
    file.unlink()  # noqa: ASYNC240 - a small file
    assert (await sidecar.ask(request("POST", RELOAD))).status == 422
    assert sidecar.front.sidecar._settings.cache.ttl == 7


async def test_what_needs_a_restart_is_named_without_its_value(front: Opened, file: Path) -> None:
    sidecar = await configured(front, file)
    heard = await sidecar.reload('upstream.name = "c4nary"\ncache.ttl = 71\n')
    assert heard.json == {"changed": ["cache.ttl"], "restart": ["upstream.name"]}
    told = sidecar.front.told()
    (reloaded,) = [one for one in told if one["event"] == "config.reloaded"]
    assert (reloaded["changed"], reloaded["restart"]) == (["cache.ttl"], ["upstream.name"])
    (warned,) = [one for one in told if one["event"] == "config.warning"]
    assert warned["message"].startswith("upstream.name has another value")
    assert "c4nary" not in str(told)


async def test_a_reload_is_guarded_and_a_get_is_none(front: Opened, file: Path) -> None:
    sidecar = await configured(front, file, MCP_ADMIN_TOKEN="s3cret")
    bearer = "Authorization: Bearer s3cret"
    assert (await sidecar.reload(READS)).status == 401
    assert (await sidecar.reload(READS, bearer, "Origin: https://evil.example")).status == 403
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        heard = await sidecar.ask(request(method, RELOAD, bearer))
        assert (heard.status, heard["Allow"]) == (405, "POST, OPTIONS")
    for body in ({"tools": {}}, b"[]"):
        assert (await sidecar.ask(post(RELOAD, body, bearer))).status == 400
    assert not sidecar.front.sidecar._settings.tools
    assert (await sidecar.reload(READS, bearer)).status == 200
    assert sidecar.front.sidecar._settings.tools


async def test_a_secret_in_a_file_takes_effect(front: Opened, file: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    sidecar = await configured(front, file, MCP_ADMIN_TOKEN_FILE=token)
    token.write_text("second")
    heard = await sidecar.reload("", "Authorization: Bearer first")
    assert heard.json["changed"] == ["server.admin_token"]
    assert (await sidecar.reload("", "Authorization: Bearer first")).status == 401
    assert (await sidecar.reload("", "Authorization: Bearer second")).status == 200
    token.write_text("")  # else what it guards would stand open
    assert (await sidecar.reload("", "Authorization: Bearer second")).status == 422
