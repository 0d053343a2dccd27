"""Clients that nobody here wrote see through the sidecar what they see without it."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import ROOT, Process

HERE = Path(__file__).parent
# Above the patience of every script and of the server, below pytest's own limit.
CLIENT_SECONDS = 60
TOOLS = ["climb", "fail", "look", "note", "paint", "stay", "think"]


@dataclass(frozen=True)
class Client:
    """A client: its script, the environment that runs it, what it is told and what it speaks."""

    script: str
    environment: str
    era: str
    arguments: tuple[str, ...] = ()
    missing: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return "-".join([self.script.partition(".")[0].removeprefix("with_"), *self.arguments])


HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"
CLIENTS = [
    Client("with_mcp1.py", ".venv-mcp1", HANDSHAKE),
    Client("with_mcp2.py", ".venv", HANDSHAKE, ("legacy",)),
    Client("with_mcp2.py", ".venv", STATELESS, ("auto",)),
    Client("with_fastmcp.py", ".venv-fastmcp", HANDSHAKE, ("legacy",)),
    Client("with_fastmcp.py", ".venv-fastmcp", STATELESS, ("auto",)),
    # It takes no callback for sampling and does not tell the server's name.
    Client("with_strands.py", ".venv-strands", STATELESS, missing=frozenset({"thought", "server"})),
    Client("with_typescript.mjs", "node", HANDSHAKE, ("v1",)),
    Client("with_typescript.mjs", "node", HANDSHAKE, ("v2", "legacy")),
    Client("with_typescript.mjs", "node", STATELESS, ("v2", "auto")),
]


@pytest.mark.parametrize("client", CLIENTS, ids=str)
async def test_a_foreign_client_sees_no_difference(
    client: Client,
    start: Callable[..., Process],
    sidecar_for: Callable[..., tuple[Process, str]],
    rules: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Every feature works through the sidecar as it does directly; only reads run less often."""
    program = interpreter(client, request)
    direct, behind = (f"http://127.0.0.1:{started(start)}" for _ in range(2))
    _, sidecar = sidecar_for(behind, MCP_CONFIG_FILE=str(rules))
    plain, through = await asyncio.gather(
        seen_by(client, program, direct, direct), seen_by(client, program, sidecar, behind)
    )

    assert (plain.pop("kept"), plain.pop("kept_later")) == (False, False)
    kept, kept_later = through.pop("kept"), through.pop("kept_later")
    said = through.pop("cache_status", None)
    plain.pop("cache_status", None)
    assert through == plain
    assert through == expected(client)
    if said is not None:  # only the TypeScript clients let us look at headers
        assert "fwd=miss" in said[0]
        assert "; hit" in said[1]

    once = dict.fromkeys(("fail", "climb", "paint", "think", "stay"), 1)
    if "thought" in client.missing:
        del once["think"]
    assert executed(direct) == {**once, "look": 2, "note": 2}
    assert executed(behind) == {**once, "look": 1, "note": 2}, "a read once, each write once a call"
    assert kept, "the second list comes from the cache"
    assert kept_later, "and so it does after the client has answered questions"


def expected(client: Client) -> dict[str, Any]:
    """Return what a client sees of server.py."""
    everything = {
        "protocol": client.era,
        "server": "clients",
        "reads": ["it is here"] * 2,
        "writes": ["one is note 1", "two is note 2"],
        "failed": [True, "Error executing tool fail: it does not work"],
        # The server went on only after the client had seen the first step.
        "climbed": "top",
        "steps": [[1, 3, "one"], [2, 3, "two"], [3, 3, "three"]],
        "painted": "the door is blue",
        "thought": "all: forty-two",
        "asked": ["Which colour has the door?", "all"],
        "resources": ["clients://leaf"],
        "resource": "green",
        "prompts": ["greet"],
        "prompt": "Say hello to Ada.",
        # It ran, the server saw the cancellation, and the caller was free.
        "cancelled": [True, True, True],
        "told": True,
        "lists": [TOOLS, TOOLS, sorted([*TOOLS, "grown"])],
    }
    if "thought" in client.missing:
        everything["asked"] = ["Which colour has the door?"]
    return {name: value for name, value in everything.items() if name not in client.missing}


def interpreter(client: Client, request: pytest.FixtureRequest) -> str:
    if client.environment == "node":
        node: str = request.getfixturevalue("typescript")
        return node
    python = ROOT / client.environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment {client.environment}: run `make setup`")
    return str(python)


def started(start: Callable[..., Process]) -> int:
    return int(start(str(HERE / "server.py")).first_line)


async def seen_by(client: Client, program: str, url: str, server: str) -> dict[str, Any]:
    """Run a client against a URL; return what it says that it saw."""
    process = await asyncio.create_subprocess_exec(
        program,
        str(HERE / client.script),
        f"{url}/mcp",
        server,
        *client.arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), CLIENT_SECONDS)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"{client} did not end: {err.decode()[-2000:]}") from None
    assert process.returncode == 0, err.decode()[-2000:]
    seen: dict[str, Any] = json.loads(out)
    return seen


def executed(server: str) -> dict[str, int]:
    """Return how often each tool has really run; lists are no tools."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server}/counts", timeout=10) as answer:
        runs: dict[str, int] = json.load(answer)["runs"]
    return {name: times for name, times in runs.items() if name != "tools/list"}
