"""Every command of the README and of docs/ is typed, and says what the page says."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.docs import typed
from tests.docs.pages import PAGES, ROOT, Typed, commands
from tests.docs.typed import FORMS, Shell, form_of, parse

# Pages whose outputs are shortened beyond comparison, or are of another day; their commands run all the same.
RECORDED = {
    "docs/first-run.md": "a recorded outage: its server is killed between two commands",
    "docs/commands.md": "its `demo` and `doctor` are shortened",
}
NEEDS = {"redis-server": "docs/how-to/redis.md"}
_CHANGES = re.compile(r"\b[0-9a-f]{8,}\b|\d+(?:\.\d+)?")


def likeness(line: str) -> str:
    """Return a line without what changes from run to run: numbers, ids, the width of columns."""
    return " ".join(_CHANGES.sub("#", line).split())


def missing(shown: str, said: str) -> list[str]:
    """Return the lines of a page that a command has not said in this order; `…` is anything."""
    lines = iter([likeness(line) for line in said.splitlines()])
    lost = []
    for line in shown.splitlines():
        pieces = [re.escape(likeness(piece)) for piece in line.split("…")]
        wanted = re.compile(r"\s*.*?\s*".join(pieces))
        if likeness(line) and not any(wanted.fullmatch(one) for one in lines):
            lost.append(line)
            lines = iter([likeness(one) for one in said.splitlines()])
    return lost


@pytest.fixture(scope="module")
def world() -> Iterator[dict[str, int]]:
    """The basic server at 9000 and a sidecar with rules at 8000, for pages that start none."""
    ports = {"9000": typed.free_port(), "8000": typed.free_port()}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *line],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"MCP_CONFIG_FILE": "config/mcp_proxy.toml", "PATH": "", "PYTHONUNBUFFERED": "1"},
        )
        for line in (
            ("examples.basic_server", "--port", str(ports["9000"])),
            (
                *("mcp_proxy", "run", "--upstream", f"http://localhost:{ports['9000']}"),
                *("--port", str(ports["8000"])),
            ),
        )
    ]
    try:
        healthy = f'curl -s localhost:{ports["8000"]}/api/health | grep -q \'"status":"healthy"\''
        waiting = f"for try in {{1..150}}; do {healthy} && exit; sleep 0.1; done; exit 1"
        subprocess.run(["bash", "-c", waiting], check=True, timeout=60)
        yield ports
    finally:
        for one in reversed(started):
            one.send_signal(signal.SIGTERM)
            one.wait(20)


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_what_a_page_says_can_be_typed(page: str, world: dict[str, int], tmp_path: Path) -> None:
    for program, where in NEEDS.items():
        if page == where and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "log.jsonl").write_text('{"event": "proxy.started", "level": "info"}\n')
    shell = Shell(tmp_path, world)
    try:
        for one in commands(page):
            if one.file:
                shell.write(one.file, one.shown)
                continue
            code, said = shell.type(one.command)
            assert code == 0, f"{one.command}: exit {code}\n{said}"
            lost = [] if page in RECORDED else missing(one.shown, said)
            assert not lost, f"{one.command}\nhas not said\n{lost}\nbut\n{said}"
    finally:
        shell.end()


def test_every_form_is_of_use() -> None:
    """A form that no page has is a reason for nothing."""
    met = {form_of(one.command) for page in PAGES for one in commands(page) if not one.file}
    assert [form.pattern for form in FORMS if form not in met] == []


def test_what_nobody_has_thought_of_is_not_passed_over(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {})
    try:
        with pytest.raises(AssertionError, match="nobody has said"):
            shell.type("rm -r docs")
        assert shell.type("X=1")[0] == 0
        assert shell.type("kill %1")[0] != 0
    finally:
        shell.end()


@pytest.mark.parametrize(
    "line",
    ["mcp-sidecar tail --levl warning", "mcp-sidecar tial", "docker logs x | mcp-sidecar tail --x"],
)
def test_a_wrong_option_is_found_without_running(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


@pytest.mark.parametrize(
    ("shown", "lost"),
    [
        ("a 1\nc 9", []),
        ("a …\nb  2", []),
        ("a 1 …", []),
        ("b 2\na 1", ["a 1"]),
        ("a x", ["a x"]),
        ("…", []),
    ],
)
def test_what_was_not_said_is_found(shown: str, lost: list[str]) -> None:
    assert missing(shown, "a 7\nb 3\nc 0.5\n") == lost


def test_commands_are_read_as_they_are_typed() -> None:
    assert Typed("curl x y", "") in Typed.read("sh", "curl x \\\n  y   # why\n")
    assert Typed.read("console", "$ a\n1\n2\n$ b") == [Typed("a", "1\n2"), Typed("b", "")]
    assert Typed.read("toml", "# rules.toml\n[tools]\n")[0].file == "rules.toml"
    assert Typed.read("toml", "[tools]\n") == []
