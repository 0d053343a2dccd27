"""`mcp-sidecar tail`: what is asked for, where it comes from, what is shown, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.readable import Style
from mcp_proxy.core.sieve import Sieve
from mcp_proxy.edge.files import File, Pipe
from mcp_proxy.edge.follow import Live
from mcp_proxy.tail import Asked, Screen, asked, event_in, found, is_fed, opened, tail
from tests.fakes import FakeClock, within

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING: dict[str, Any] = dict.fromkeys(
    ("level", "types", "tools", "text", "since", "lines", "no_follow", "output")
)


def line(event: str = "tool.call.completed", level: str = "info", **fields: Any) -> str:
    stamp = "2026-01-01T00:00:00.5+00:00"
    return json.dumps({"timestamp": stamp, "level": level, "event": event, **fields})


# --- what is asked


def test_without_options_all_is_shown() -> None:
    assert asked(NOTHING, NOW, {}, terminal=False) == Asked()
    assert asked(NOTHING, NOW, {}, terminal=True) == Asked(style=Style(colour=True))


def test_options_are_read() -> None:
    typed = {
        "level": "error", "types": "circuit.*, a", "tools": "jira/*", "text": "x",
        "since": "2026-01-01T00:00:00Z", "lines": 3, "no_follow": True, "output": "json",
    }  # fmt: skip
    sieve = Sieve("error", ("circuit.*", "a"), ("jira/*",), "x", NOW)
    assert asked(typed, NOW, {}, terminal=False) == Asked(sieve, 3, follow=False, as_json=True)


def test_a_since_that_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--since: expected .*10m"):
        asked({**NOTHING, "since": "soon"}, NOW, {}, terminal=False)


@pytest.mark.parametrize(
    ("wish", "past"),
    [
        (Asked(), 10),
        (Asked(lines=0), 0),
        (Asked(follow=False), None),
        (Asked(Sieve(since=NOW)), None),
        (Asked(Sieve(since=NOW), lines=3), 3),
    ],
)
def test_how_much_of_the_past_is_shown(wish: Asked, past: int | None) -> None:
    assert wish.past == past


@pytest.mark.parametrize(
    ("sieve", "query"),
    [
        (Sieve(), {}),
        (Sieve(level="warning"), {"level": "warning"}),
        (Sieve(types=("a", "b"), tools=("x",)), {"type": "a,b", "tool": "x"}),
        (Sieve(types=("a", "b*"), tools=("jira/x",)), {}),
    ],
)
def test_the_sidecar_is_asked_for_what_it_can_tell_apart(
    sieve: Sieve, query: dict[str, str]
) -> None:
    assert Asked(sieve, lines=5).query == {"replay": "5", **query}


# --- where it comes from


def test_without_a_name_a_pipe_is_read_else_the_sidecar_of_this_machine(tmp_path: Path) -> None:
    read, write = os.pipe()
    with (tmp_path / "file").open("w") as file, Path(os.devnull).open() as nothing:
        assert found(None, {}, read) == "-"
        assert is_fed(file.fileno())
        # cron, `docker exec`: nobody feeds us
        assert found(None, {}, nothing.fileno()) == "http://localhost:8000"
    os.close(read)
    os.close(write)
    assert not is_fed(read)
    assert found("log", {}, read) == "log"


def test_a_name_opens_what_it_means(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    clock = FakeClock()
    file = opened(str(path), Asked(), None, clock, print)
    assert isinstance(file, File)
    file.close()
    assert isinstance(opened("http://h", Asked(), None, clock, print), Live)
    assert isinstance(opened("-", Asked(), None, clock, print), Pipe)
    assert isinstance(opened(os.devnull, Asked(), None, clock, print), Pipe)


@pytest.mark.parametrize(
    ("name", "wish", "remedy"),
    [
        ("nowhere", Asked(), r"cannot read nowhere \(No such file"),
        ("localhost:8000", Asked(), "say http://localhost:8000"),
        ("-", Asked(lines=3), "-n is for files"),
        ("http://h", Asked(follow=False), "--no-follow is for files"),
        ("http://u:p@h", Asked(), "--token"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_a_remedy(
    name: str, wish: Asked, remedy: str
) -> None:
    with pytest.raises(ValueError, match=remedy):
        opened(name, wish, None, FakeClock(), print)


# --- what is shown


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ('{"event": "a"}', {"event": "a"}),
        ('{"msg": "of another"}', {"msg": "of another"}),
        ('mcp-proxy-1  | {"event": "a"}', {"event": "a"}),
        ('config is {"a": 1}', None),
        ("no JSON", None),
        ("[1]", None),
        ("{half", None),
        ("{" * 100_000, None),
    ],
)
def test_events_are_found_in_lines(text: str, event: object) -> None:
    assert event_in(text) == event


def test_what_is_no_event_is_shown_as_it_is_to_people_only() -> None:
    assert Screen(Asked())("Traceback\x1b[2J\n") == "Traceback\\x1b[2J"
    assert Screen(Asked())("  ") is None
    assert Screen(Asked(as_json=True))("Traceback") is None


def test_json_stays_json_and_harms_no_terminal() -> None:
    shown = Screen(Asked(as_json=True))('{"event": "a", "tool": "\x9b31m\u202e"}')
    assert shown == '{"event": "a", "tool": "\\u009b31m\\u202e"}'


def test_lost_events_are_told_as_a_warning_through_every_filter() -> None:
    shown = Screen(Asked(Sieve(level="error", text="x")))('{"event":"events.lost","lost":3}')
    assert shown is not None
    assert re.search(r"WARN  events.lost +lost=3$", shown)


class Played:
    """A source of lines that are there, and of lines that come."""

    def __init__(self, past: list[str], *coming: str) -> None:
        self._past = past
        self._coming = coming
        self.asked_for: int | None = -1

    def past(self, last: int | None) -> Iterator[str]:
        self.asked_for = last
        return iter(self._past if last is None else self._past[len(self._past) - last :])

    async def coming(self) -> AsyncIterator[str]:
        for one in self._coming:
            yield one


async def shown(source: Played, wish: Asked) -> list[str]:
    found: list[str] = []
    await within(tail(source, wish, found.append))
    return [text.split()[-1] for text in found]


async def test_the_past_comes_first_then_what_is_new() -> None:
    past = [line(n=number) for number in range(20)]
    source = Played(past, line(n="new"))
    assert await shown(source, Asked(lines=2)) == ["n=18", "n=19", "n=new"]
    assert source.asked_for == 2, "no more is read than is shown"


async def test_the_past_is_counted_by_what_is_shown() -> None:
    past = [line(n=number, tool="xy"[number % 2]) for number in range(20)]
    source = Played(past, line(n="new", tool="x"), line(n="other", tool="y"))
    assert await shown(source, Asked(Sieve(tools=("x",)), lines=2)) == ["n=16", "n=18", "n=new"]
    assert await shown(Played(past), Asked(follow=False)) == [f"n={n}" for n in range(20)]


# --- as people run it


@contextmanager
def running(*arguments: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_proxy", "tail", *arguments],
        cwd=ROOT, env={"PATH": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip
    limit = threading.Timer(30, process.kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


def ends(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Return how it ended, and what it complained of."""
    complaint = process.communicate(timeout=20)[1] if process.stdout else b""
    return process.returncode, complaint


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text(line(n=1) + "\n" + line(n=2) + "\n")
    return path


def test_a_file_is_followed_until_ctrl_c(log: Path) -> None:
    with running(str(log)) as process:
        assert process.stdout is not None
        assert b"n=1" in process.stdout.readline()
        assert b"n=2" in process.stdout.readline()
        with log.open("a") as file:
            file.write(line(n=3) + "\n")
        assert b"n=3" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # as tail(1): the shell shows 130
        assert ends(process) == (-signal.SIGINT, b"")


def test_a_reader_that_has_enough_ends_it_quietly(log: Path) -> None:
    with running(str(log)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stdout = None


def test_ctrl_c_lets_a_pipeline_say_goodbye() -> None:
    """It reaches all of it: what `mcp-sidecar run` tells while it drains is still shown."""
    with running(stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line(n=1).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdin.write(line("proxy.draining").encode() + b"\n")
        process.stdin.close()
        assert b"proxy.draining" in process.stdout.readline()
        process.stdin = None
        assert ends(process) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (["nowhere"], 2, b"cannot read nowhere"),
        (["-", "--since", "soon"], 2, b"10m"),
        (["--level", "loud"], 2, b"warning"),
        (["http://localhost:1"], 1, b"start `mcp-sidecar run`"),
    ],
)
def test_what_cannot_work_ends_with_a_remedy(
    arguments: list[str], code: int, remedy: bytes
) -> None:
    with running(*arguments) as process:
        ended, complaint = ends(process)
    assert ended == code
    assert remedy in complaint
    assert b"Traceback" not in complaint


def test_help_shows_examples() -> None:
    with running("--help") as process:
        out, _ = process.communicate(timeout=20)
    assert b"docker compose logs -f mcp-proxy | mcp-sidecar tail" in out


def test_a_live_sidecar_is_watched() -> None:
    """The real endpoint, its replay and its filters."""
    command = [sys.executable, "-m", "mcp_proxy", "run", "--upstream", "http://localhost:9"]
    sidecar = subprocess.Popen(
        [*command, "--port", "0"], cwd=ROOT, env={"PATH": "", "MCP_ADMIN_TOKEN": "t0ken"},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert sidecar.stdout is not None
        url = json.loads(sidecar.stdout.readline())["urls"][0]
        with running(url, "--type", "proxy.started", "--token", "t0ken") as process:
            assert process.stdout is not None
            assert b"proxy.started" in process.stdout.readline()
        with running(url) as process:
            ended, complaint = ends(process)
        assert (ended, b"MCP_ADMIN_TOKEN" in complaint) == (1, True)
    finally:
        sidecar.kill()
        sidecar.communicate()


def test_json_is_the_same_as_the_output_json(tmp_path: Path) -> None:
    """As all commands have it."""
    file = tmp_path / "log.jsonl"
    file.write_text(line() + "\nno event\n")
    command = [sys.executable, "-m", "mcp_proxy", "tail", str(file), "--no-follow"]
    heard = [
        subprocess.run([*command, *form], cwd=ROOT, capture_output=True, check=True).stdout
        for form in (["--json"], ["-o", "json"])
    ]
    assert heard[0] == heard[1]
    assert json.loads(heard[0])["event"] == "tool.call.completed"
