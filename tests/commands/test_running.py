"""Commands that ask a running sidecar: stats, cache, circuit."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy import cli
from mcp_proxy.commands.stats import fitting
from tests.commands.typed import asked, told
from tests.edge.conftest import Opened
from tests.edge.wire import Front, Upstream, answer, post, result, rpc, tool, unused_port

ROOT = Path(cli.__file__).parents[1]
LIST = post("/mcp", rpc("tools/list"))
ASKING = [
    ("stats",),
    ("cache", "ls"),
    ("cache", "clear", "--yes"),
    ("circuit", "ls"),
    ("circuit", "reset"),
]


# --- where nobody answers, or somebody else


@pytest.mark.parametrize("command", ASKING)
def test_without_a_sidecar_one_line_says_what_to_do(command: tuple[str, ...]) -> None:
    url = f"http://localhost:{unused_port()}"
    found = told(*command, "--url", url)
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.splitlines() == [
        f"Error: cannot reach {url} (Connection refused); start `mcp-sidecar run`, or name another URL"
    ]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://u:c4nary@h"])
def test_what_is_no_url_of_a_sidecar_is_a_usage_error(url: str) -> None:
    found = told("stats", "--url", url)
    assert found.exit_code == 2
    assert "--url: expected a URL" in found.stderr
    assert "c4nary" not in found.output


async def test_the_server_itself_is_no_sidecar(front: Opened, upstream: Upstream) -> None:
    upstream.own = answer(b"<html>", kind="text/html")
    found = await asked(await front(), "stats", "--url", upstream.url)
    assert found.exit_code == 1
    assert "is that the port of an mcp-sidecar?" in found.stderr
    assert len(found.stderr.splitlines()) == 1


async def test_a_token_is_asked_for_and_taken(front: Opened) -> None:
    sidecar = await front(MCP_ADMIN_TOKEN="s3cret")
    refused = await asked(sidecar, "stats")
    assert refused.exit_code == 1
    assert "set the variable, or give --token" in refused.stderr
    assert (await asked(sidecar, "stats", MCP_ADMIN_TOKEN="s3cret")).exit_code == 0
    assert (await asked(sidecar, "stats", "--token", "s3cret")).exit_code == 0


# --- stats


async def counted(front: Opened, upstream: Upstream) -> Front:
    """Return a sidecar with a hit, a miss, and a tool that fails and opened its circuit."""
    upstream.plays(answer(b"", status="500 Internal Server Error"), answer(result(1, tools=[])))
    sidecar = await front(MCP_CB_FAILURE_THRESHOLD=1, MCP_MAX_RETRIES=0, MCP_CACHE_QUARANTINE=0)
    await sidecar.ask(post("/mcp", tool("look\x1b[2J")))
    for _ in range(2):
        await sidecar.ask(LIST)
    return sidecar


async def test_stats_are_a_table(front: Opened, upstream: Upstream) -> None:
    found = await asked(await counted(front, upstream), "stats")
    assert found.exit_code == 0
    rows = {line.split("  ")[0]: line.split()[-6:] for line in found.stdout.splitlines()}
    assert rows["tools/list"][:3] == ["2", "0", "50%"]
    assert rows["_other"][:3] == ["1", "1", "0%"]
    assert rows["total"][:3] == ["3", "1", "50%"]
    assert "tool look\\x1b[2J: open, next try in" in found.stdout
    assert "upstream http://localhost:" in found.stdout
    assert "cache (memory): " in found.stdout
    assert "\x1b" not in found.stdout


async def test_stats_for_programs(front: Opened, upstream: Upstream) -> None:
    found = await asked(await counted(front, upstream), "stats", "--json")
    said = json.loads(found.stdout)
    assert said["metrics"]["total"]["requests"] == 3
    assert said["health"]["circuits"]["tool look\x1b[2J"]["state"] == "open"


async def test_stats_tell_of_a_server_that_is_away(front: Opened) -> None:
    """/api/health answers 503 then, and says why."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    await sidecar.ask(LIST)
    found = await asked(sidecar, "stats")
    assert found.exit_code == 0
    assert found.stdout.startswith("unhealthy, up ")


async def test_colours_are_for_those_who_want_them(front: Opened) -> None:
    sidecar = await front()
    assert "\x1b[" in (await asked(sidecar, "stats", FORCE_COLOR="1")).stdout
    assert "\x1b[" not in (await asked(sidecar, "stats", FORCE_COLOR="1", NO_COLOR="1")).stdout


def test_a_watch_shows_what_fits_on_the_screen() -> None:
    """The first lines, or the state of all would scroll away; a line that wraps counts as several."""
    page = ["\x1b[33mdegraded\x1b[0m", "x" * 41, *["row"] * 9]
    assert fitting(page, 40, 13) == [*page[:-1], "… 1 more line; without --watch all are shown"]
    assert fitting(page, 40, 14) == page
    assert fitting(page, 40, 1) == [page[0], "… 10 more lines; without --watch all are shown"]


async def test_a_watch_goes_on_until_it_is_interrupted(front: Opened) -> None:
    """And ends without a word."""
    sidecar = await front()
    command = [sys.executable, "-m", "mcp_proxy", "stats", "--watch", "--interval", "0.2"]
    watching = await _started([*command, "--json"], sidecar.port)
    first, second = [await _line(watching) for _ in range(2)]
    assert (
        json.loads(second)["metrics"]["uptime_seconds"]
        > json.loads(first)["metrics"]["uptime_seconds"]
    )
    watching.send_signal(signal.SIGINT)
    _, complaint = await _ended(watching)
    assert (watching.returncode, complaint) == (0, b"")


async def test_a_watch_outlasts_a_restart(front: Opened) -> None:
    """The first time nobody there is the end, later it is tried again."""
    sidecar = await front()
    command = [sys.executable, "-m", "mcp_proxy", "stats", "-w", "--interval", "0.2", "--json"]
    watching = await _started(command, sidecar.port)
    assert json.loads(await _line(watching))
    sidecar.sidecar.inbound.draining = True  # every answer is a refusal
    assert watching.stderr is not None
    complaint = await asyncio.to_thread(watching.stderr.readline)
    assert complaint.endswith(b"; trying again\n")
    sidecar.sidecar.inbound.draining = False
    assert json.loads(await _line(watching))
    watching.send_signal(signal.SIGINT)
    await _ended(watching)
    assert watching.returncode == 0


async def test_a_reader_that_has_had_enough_ends_a_watch(front: Opened) -> None:
    """As in `stats --watch | head`."""
    sidecar = await front()
    command = [sys.executable, "-m", "mcp_proxy", "stats", "-w", "--interval", "0.2"]
    watching = await _started(command, sidecar.port)
    await _line(watching)
    assert watching.stdout is not None
    watching.stdout.close()
    await asyncio.to_thread(watching.wait, 20)
    assert watching.stderr is not None
    assert b"Traceback" not in watching.stderr.read()
    watching.stderr.close()


async def test_a_watch_on_a_terminal_begins_at_its_top(front: Opened) -> None:
    sidecar = await front()
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mcp_proxy", "stats", "-w"]
    watching = await _started(command, sidecar.port, follower)
    os.close(follower)
    shown = await _read(leader)
    assert shown.startswith(b"\x1b[H\x1b[2J")
    watching.send_signal(signal.SIGINT)
    _, complaint = await _ended(watching)
    assert (watching.returncode, complaint) == (0, b"")
    os.close(leader)


# --- cache


async def test_cache_ls_shows_what_is_kept(front: Opened, upstream: Upstream) -> None:
    found = await asked(await counted(front, upstream), "cache", "ls")
    assert found.exit_code == 0
    head, *rows = [line.split() for line in found.stdout.splitlines()]
    assert head[-8:] == ["entries", "size", "hits", "stale", "misses", "hit", "ratio", "evicted"]
    listed = next(row for row in rows if row[0] == "tools/list")
    assert (listed[1], listed[4:]) == ("1", ["1", "0", "1", "50%", "0"])
    assert found.stderr.startswith("memory: 1 of 10000 entries, ")


async def test_cache_ls_for_programs(front: Opened, upstream: Upstream) -> None:
    found = await asked(await counted(front, upstream), "cache", "ls", "--json")
    said = json.loads(found.stdout)
    assert said["store"]["entries"] == 1
    assert [one["tool"] for one in said["tools"] if one["cache"]["entries"]] == ["tools/list"]


async def test_a_cache_that_is_off_is_said_so(front: Opened) -> None:
    found = await asked(await front(MCP_CACHE_ENABLED="false"), "cache", "ls")
    assert (found.exit_code, found.stdout) == (0, "")
    assert "nothing is cached" in found.stderr


async def test_cache_clear_drops_and_counts(front: Opened, upstream: Upstream) -> None:
    sidecar = await counted(front, upstream)
    found = await asked(sidecar, "cache", "clear", "--tool", "other", "--service", "s")
    assert found.stdout == "dropped 0 stored answers (tool other, service s)\n"
    found = await asked(sidecar, "cache", "clear")
    assert (found.exit_code, found.stdout) == (0, "dropped 1 stored answer (all)\n")
    assert json.loads((await asked(sidecar, "cache", "clear", "--json")).stdout) == {
        "cleared": "all",
        "entries": 0,
    }


async def test_what_cannot_be_narrowed_by_is_said(front: Opened) -> None:
    found = await asked(await front(), "cache", "clear", "--key", "k", "--older-than", "3")
    assert found.exit_code == 1
    assert "alone" in found.stderr


@pytest.mark.parametrize(("typed", "left"), [(b"n\n", 1), (b"y\n", 0)])
async def test_on_a_terminal_all_is_dropped_only_when_confirmed(
    front: Opened, upstream: Upstream, typed: bytes, left: int
) -> None:
    sidecar = await counted(front, upstream)
    leader, follower = pty.openpty()
    clearing = await _started(
        [sys.executable, "-m", "mcp_proxy", "cache", "clear"], sidecar.port, stdin=follower
    )
    os.close(follower)
    os.write(leader, typed)
    out, complaint = await _ended(clearing)
    assert b"Drop all stored answers? [y/N]" in complaint
    assert clearing.returncode == left
    assert (out == b"") is bool(left)
    assert sidecar.sidecar.shelf is not None
    assert sidecar.sidecar.shelf.snapshot()["entries"] == left
    os.close(leader)


# --- circuits


async def test_circuits_are_listed_the_open_ones_first(front: Opened, upstream: Upstream) -> None:
    sidecar = await counted(front, upstream)
    found = await asked(sidecar, "circuit", "ls")
    lines = found.stdout.splitlines()
    assert lines[1].split()[:3] == ["tool", "look\\x1b[2J", "open"]
    assert lines[2].split()[:3] == ["method", "tools/list", "closed"]
    said = json.loads((await asked(sidecar, "circuit", "ls", "--json")).stdout)
    assert said["tool look\x1b[2J"]["opened"] == 1


async def test_one_circuit_is_closed_by_its_name_or_its_tools(
    front: Opened, upstream: Upstream
) -> None:
    sidecar = await counted(front, upstream)
    found = await asked(sidecar, "circuit", "reset", "look\x1b[2J")
    assert (found.exit_code, found.stdout) == (0, "closed tool look\\x1b[2J\n")
    found = await asked(sidecar, "circuit", "reset", "tool look\x1b[2J")
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr.startswith("nothing to close")


async def test_all_circuits_are_closed_without_a_name(front: Opened, upstream: Upstream) -> None:
    sidecar = await counted(front, upstream)
    found = await asked(sidecar, "circuit", "reset", "--json")
    assert json.loads(found.stdout) == {"reset": ["tool look\x1b[2J"]}


async def test_an_unknown_circuit_ends_with_1(front: Opened) -> None:
    found = await asked(await front(), "circuit", "reset", "nothing")
    assert found.exit_code == 1
    assert "404 (There is no circuit of that name.)" in found.stderr


# --- processes


async def _started(
    command: list[str], port: int, out: int | None = None, stdin: int | None = None
) -> "subprocess.Popen[bytes]":
    environ = {"PATH": "", "MCP_PORT": str(port)}
    return subprocess.Popen(  # noqa: ASYNC220 - it is started, and not waited for
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE if out is None else out,
        stderr=subprocess.PIPE,
    )


async def _line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    return await asyncio.to_thread(process.stdout.readline)


async def _read(descriptor: int) -> bytes:
    return await asyncio.to_thread(os.read, descriptor, 1 << 16)


async def _ended(process: "subprocess.Popen[bytes]") -> tuple[Any, bytes]:
    out, complaint = await asyncio.to_thread(process.communicate, None, 20)
    return out, complaint
