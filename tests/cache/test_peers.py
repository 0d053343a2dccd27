"""Defects of other caches in this field (autumn 2026), and that ours has none of them.

Each test names the project, and the public issue where there is one; without one the behaviour was
observed by running the project, or read in its source.
"""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.edge.conftest import Opened, front, upstream
from tests.edge.wire import (
    Answer,
    Exchange,
    Front,
    Upstream,
    answer,
    bound,
    chunk,
    post,
    result,
    rpc,
    streamed,
    tool,
)

__all__ = ["front", "upstream"]  # fixtures

LIST = rpc("tools/list")
READ_ONLY = '[tools."look*"]\nread_only = true\n'


def numbered(*headers: str, **fields: Any) -> Answer:
    """Answer each request with a number of its own, so that nothing looks like anything else."""
    numbers = count(1)

    async def play(exchange: Exchange) -> None:
        said = result(exchange.asked.json["id"], number=next(numbers), **fields)
        await exchange.send(answer(said, *headers))

    return play


async def numbers(sidecar: Front, *raws: bytes) -> list[int]:
    """Ask one after the other; return which of the server's answers came."""
    return [(await sidecar.ask(raw)).json["result"]["number"] for raw in raws]


@pytest.fixture
async def sidecar(front: Opened, upstream: Upstream, tmp_path: Path) -> Front:
    """Return a sidecar with a rule that makes `look` a read, before a server that counts."""
    rules = tmp_path / "rules.toml"
    rules.write_text(READ_ONLY)
    upstream.plays(numbered())
    return await front(MCP_CONFIG_FILE=rules)


# --- answers of others


@pytest.mark.parametrize(
    ("alice", "bob"),
    [
        (("x-api-key: alice",), ("x-api-key: bob",)),
        (("Authorization: Bearer alice",), ("Authorization: Bearer bob",)),
        (("Authorization: Bearer alice",), ()),
        (("Cookie: user=alice",), ("Cookie: user=bob",)),
        (("X-Tenant-Of-Ours: alice",), ("X-Tenant-Of-Ours: bob",)),
    ],
    ids=["api key", "two tokens", "no token", "cookie", "unknown header"],
)
async def test_nobody_gets_what_was_told_to_another(
    sidecar: Front, alice: tuple[str, ...], bob: tuple[str, ...]
) -> None:
    """FastMCP's proxy cache hands alice's result to bob [ran]; fastmcp#4037, context-forge#2055,
    #4205, mcpjungle#252: it parts callers by tokens that it verified itself."""
    for asked in (tool("look"), LIST):
        mine, theirs = post("/mcp", asked, *alice), post("/mcp", asked, *bob)
        first, other, again = await numbers(sidecar, mine, theirs, mine)
        assert first == again != other


async def test_no_session_of_one_client_serves_another(sidecar: Front) -> None:
    """mcp-conduit and mcp-proxy (sparfenyuk) keep one upstream session on a shared object."""
    first, second = (post("/mcp", tool("look"), f"Mcp-Session-Id: {name}") for name in "ab")
    none = post("/mcp", tool("look"))
    assert await numbers(sidecar, first, second, none, first, second, none) == [1, 2, 3, 1, 2, 3]


async def test_a_session_id_is_not_told_on(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """mcp-conduit reuses a session id for clients that have none."""
    upstream.plays(numbered("Mcp-Session-Id: secret"))
    first, again = [await sidecar.ask(post("/mcp", LIST)) for _ in "ab"]
    assert first["Mcp-Session-Id"] == "secret"
    assert "hit" in again["Cache-Status"]
    assert "Mcp-Session-Id" not in again


async def test_callers_with_the_same_request_id_get_their_own(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """TypeScript SDK CVE-2026-25536, Python SDK CVE-2026-52869, -52870: answers of others."""
    both = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        if len(upstream.asked) == 2:
            both.set()
        async with bound():
            await both.wait()
        await exchange.send(answer(result(1, who=exchange.asked["Authorization"])))

    upstream.plays(play)
    heard = await asyncio.gather(
        *(sidecar.ask(post("/mcp", tool("look"), f"Authorization: {who}")) for who in "ab")
    )
    assert [said.json["result"]["who"] for said in heard] == ["a", "b"]


# --- writes


async def test_a_write_is_executed_each_time(sidecar: Front) -> None:
    """FastMCP: two `create(x=1)` are executed once, all tools are kept for one hour [ran]."""
    write = post("/mcp", tool("create", x=1))
    assert await numbers(sidecar, write, write) == [1, 2]


async def test_writes_in_flight_are_not_merged(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """mcp-proxy (joshrotenberg) coalesces by tool and arguments."""
    both = asyncio.Event()
    serve = numbered()

    async def play(exchange: Exchange) -> None:
        if len(upstream.asked) == 2:
            both.set()
        async with bound():
            await both.wait()
        assert callable(serve)
        await serve(exchange)

    upstream.plays(play)
    write = post("/mcp", tool("create", x=1))
    heard = await asyncio.gather(sidecar.ask(write), sidecar.ask(write))
    assert sorted(said.json["result"]["number"] for said in heard) == [1, 2]


@pytest.mark.parametrize(
    "said", [{"openWorldHint": True}, {"idempotentHint": True}, {"destructiveHint": False}, {}]
)
async def test_hints_that_do_not_say_read_only_are_no_leave_to_keep(
    sidecar: Front,
    upstream: Upstream,
    said: dict[str, bool],
) -> None:
    """mcp-conduit keeps what is open-world or idempotent: in A, B, A the third write is lost."""
    tools = [{"name": "send", "annotations": said}]
    upstream.plays(answer(result(1, tools=tools)), numbered())
    await sidecar.ask(post("/mcp", LIST))
    a, b = post("/mcp", tool("send", to="a")), post("/mcp", tool("send", to="b"))
    assert await numbers(sidecar, a, b, a) == [1, 2, 3]


async def test_a_write_makes_reads_ask_anew(sidecar: Front) -> None:
    """FastMCP keeps the answers of all tools for one hour by default [ran]."""
    read = post("/mcp", tool("look"))
    write = post("/mcp", tool("create"), "Authorization: another")
    assert await numbers(sidecar, read, read, write, read) == [1, 1, 2, 3]


# --- what is no answer to keep


@pytest.mark.parametrize("asked", [tool("look"), tool("look_at", x=1)])
async def test_a_failed_tool_is_asked_again(
    sidecar: Front,
    upstream: Upstream,
    asked: dict[str, Any],
) -> None:
    """mcp-proxy (joshrotenberg) looks at the JSON-RPC level only, and keeps `isError`."""
    upstream.plays(numbered(isError=True))
    assert await numbers(sidecar, post("/mcp", asked), post("/mcp", asked)) == [1, 2]


# --- lists, and what the server says of them


async def test_a_list_is_asked_for_once(sidecar: Front) -> None:
    """litellm#23544, Unla#122, fastmcp#1218: up to five lists per call. ContextForge's own cache
    plugin cannot serve a hit (read)."""
    assert await numbers(sidecar, *[post("/mcp", LIST)] * 5) == [1] * 5


async def test_a_list_that_has_changed_is_asked_for_again(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """context-forge#3734, ai-gateway#1619, bifrost#6885, codex#33266: the old list stays."""
    changed = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'
    ready = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        await exchange.send(streamed())
        async with bound():
            await ready.wait()
        await exchange.send(chunk(changed))
        await exchange.left()

    serve = numbered()
    upstream.plays(serve, play, serve)
    assert await numbers(sidecar, post("/mcp", LIST), post("/mcp", LIST)) == [1, 1]
    async with sidecar.client() as client:
        await client.send(
            b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        await client.head()
        ready.set()
        assert await client.chunk() == changed
        assert await numbers(sidecar, post("/mcp", LIST)) == [2]


async def test_the_servers_hint_decides_and_passes_unchanged(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """agentgateway rewrites hints to `ttlMs: 0` and private (read); context-forge#5730 and
    Kuadrant#788 ask that they be obeyed."""
    upstream.plays(numbered(ttlMs=60_000, cacheScope="public"))
    first, again = [(await sidecar.ask(post("/mcp", LIST))) for _ in "ab"]
    assert first.body == again.body
    assert (first.json["result"]["ttlMs"], first.json["result"]["cacheScope"]) == (60_000, "public")
    upstream.plays(numbered(ttlMs=0, cacheScope="public"))
    page = post("/mcp", rpc("tools/list", cursor="2"))
    assert await numbers(sidecar, page, page) == [1, 2]


async def test_public_answers_are_not_shared_unless_the_operator_says_so(
    sidecar: Front,
    upstream: Upstream,
) -> None:
    """Kuadrant#788, modelcontextprotocol#3207: a server's `public` alone must not mix callers."""
    upstream.plays(numbered(ttlMs=60_000, cacheScope="public"))
    alice, bob = (post("/mcp", LIST, f"Authorization: Bearer {who}") for who in ("alice", "bob"))
    assert await numbers(sidecar, alice, bob, alice) == [1, 2, 1]
