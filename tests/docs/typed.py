"""A shell in which the commands of a page are typed, and what each becomes there.

The servers of the pages are at free ports of this machine. What would take minutes, or needs another machine, is typed
in a cheap form, and the form says why.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from mcp_proxy import cli
from tests.docs.pages import ROOT

_END = "__ended__"
_PORTS = re.compile(r"(?<=[: ])(?:6379|8000|8001|9000)\b")
_BIN = Path(sys.executable).parent


class Form(NamedTuple):
    """What becomes of the commands that a pattern matches whole."""

    pattern: str
    typed: str
    why: str = ""


# `{}` is the command, `{quoted}` the same for a shell, `{root}` the checkout.
AS_IT_IS = "{}"
SERVES = "{} >served-{port} 2>&1 &"  # and is waited for
FIRST_LINE = "head -n 1 < <(exec {} 2>&1); kill -INT $!"
TARGET = "make --dry-run --directory {root} {words[1]} >/dev/null"
HELPED = "cd {root} && {words[0]} {words[1]} {words[2]} --help >/dev/null"
SOUND = "python -m py_compile {root}/{words[0]}"
PARSED = ""  # by the command's own parser, in this process
NAMED = ":"  # the files of the repository that it names are there

FORMS = [
    Form(r"(?:export )?[A-Z_]+=(?:'[^']*'|\S+)(?: [A-Z_]+=\S+)*", AS_IT_IS),
    Form(r"(?:time )?\$CALL '… .*", "true", "stands for the call above it"),
    Form(r"(?:curl|(?:time )?\$CALL|\$ASK) (?!-N).*", AS_IT_IS),
    Form(r"mcp-sidecar (?:cache|check|circuit|client-config|config|doctor|reload) .*", AS_IT_IS),
    Form(r"mcp-sidecar (?:circuit ls|reload|stats|--version)", AS_IT_IS),
    Form(r"(?:time )?mcp-sidecar demo", AS_IT_IS),
    Form(r"mcp-sidecar tail \S+ --no-follow.*", AS_IT_IS),
    Form(r'eval "\$\(mcp-sidecar completion bash\)"', AS_IT_IS),
    Form(r"\. \.venv/bin/activate", AS_IT_IS),
    Form(r"kill %1|sleep 2", AS_IT_IS),
    Form(r"\.venv/bin/python client\.py", AS_IT_IS),
    Form(r"(?:\.venv/bin/)?mcp-sidecar run [^|]*", SERVES),
    Form(r"python -m mcp_proxy\.demo 9000 &", SERVES),
    Form(r"redis-server .*&", "{} >served-{port} 2>&1 --bind 127.0.0.1 &"),
    Form(
        r"\.venv/bin/python -m examples\.basic_server &",
        "{} --port {port} >served-{port} 2>&1 &",
        "its usual port may be taken",
    ),
    Form(r"kill -9 \d+", "true", "a process of another day; tests/journeys kills the server"),
    Form(r"curl -N .*", FIRST_LINE, "goes on for ever"),
    Form(r"mcp-sidecar stats --watch", FIRST_LINE, "goes on for ever"),
    Form(r"mcp-sidecar tail", FIRST_LINE, "goes on for ever"),
    Form(r"mcp-sidecar bench --upstream \S+", "{} --requests 20", "its usual number takes a while"),
    Form(
        r"mcp-sidecar bench --direct .*", PARSED, "a limit in milliseconds depends on the machine"
    ),
    Form(r"mcp-sidecar tail .*", PARSED, "goes on for ever, or speaks to another machine"),
    Form(r"mcp-sidecar run .* \| mcp-sidecar tail.*", PARSED, "goes on for ever"),
    Form(r"docker compose logs .* \| mcp-sidecar tail.*", PARSED, "needs an engine; tests/docker"),
    Form(
        r"(?:[A-Z_]+=\S+ )*docker(?:-compose)? .*",
        NAMED,
        "needs an engine; tests/docker builds and runs the pair",
    ),
    Form(r"helm .*|kubectl .*", NAMED, "needs a cluster; tests/deploy renders chart and component"),
    Form(r"make \S+( SECONDS=\d+)?", TARGET, "takes minutes or serves for ever; CI runs it"),
    Form(r"\.venv/bin/python -m benchmarks\.\w+.*", HELPED, "takes minutes"),
    Form(
        r'eval "\$\(mcp-sidecar completion zsh\)"|mcp-sidecar completion fish \| source',
        "mcp-sidecar completion zsh >/dev/null; mcp-sidecar completion fish >/dev/null",
        "these shells may not be installed",
    ),
    Form(
        r"pip install 'mcp-sidecar\[otel\]'",
        "grep -q '^otel = ' {root}/pyproject.toml",
        "needs an index of packages: the extra is known",
    ),
    Form(
        r"time pip install -q \S+\.whl",
        "true",
        "needs an index of packages: tests/test_release.py installs the wheel, and shows the demo",
    ),
    Form(r"scripts/release \S+", "bash -n {root}/{words[0]}", "tests/test_release.py runs it"),
    Form(r"scripts/conformance .*", SOUND, "needs npm; tests/conformance runs it"),
]


def form_of(command: str) -> Form | None:
    """Return the form in which a command is typed here, or None if nobody has thought of it."""
    return next((form for form in FORMS if re.fullmatch(form.pattern, command)), None)


def named(command: str) -> list[str]:
    """Return what a command names of the repository: words that begin with one of its directories."""
    words = re.split(r"[\s=,]", command)
    return [
        word
        for word in words
        if "/" in word and word[0] not in "/'" and (ROOT / word.split("/")[0]).is_dir()
    ]


def parse(command: str) -> None:
    """Let our own parser read what is typed; raises click.UsageError."""
    for part in re.split(r"\s\|\s", command):
        words = shlex.split(part)
        if words[0] != "mcp-sidecar":
            continue
        at: Any = cli.main
        words = words[1:]
        while isinstance(at, click.Group):
            found = at.get_command(click.Context(at), words[0])
            if found is None:
                raise click.UsageError(f"there is no command {words[0]}")
            at, words = found, words[1:]
        at.make_context(at.name, words)


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Shell:
    """A bash in a directory of its own; the ports of the pages stand for others."""

    def __init__(self, where: Path, ports: dict[str, int]) -> None:
        self._where = where
        self._ports = dict(ports)
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MCP_", "REDIS_", "OTEL_"))
        }
        ours = {
            "PATH": f"{_BIN}:{clean['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MCP_LOG_FORMAT": "console",
            "COLUMNS": "200",
        }
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=where,
            env={**clean, **ours},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._said("set -m")  # so that `%1` is known

    def type(self, command: str) -> tuple[int, str]:
        """Type a command in its form; return its exit code and what it said."""
        form = form_of(command)
        assert form is not None, f"nobody has said in tests/docs/typed.py how to run: {command}"
        if form.typed == PARSED:
            parse(command)
            return 0, ""
        if form.typed == NAMED:
            lost = [name for name in named(command) if not (ROOT / name).exists()]
            return len(lost), "\n".join(lost)
        port = self._moved(command) if "{port}" in form.typed else 0
        local = self._local(command)
        self._said(f"export MCP_PORT={self._port('8000')}")  # which our commands ask
        typed = form.typed.replace("{root}", shlex.quote(str(ROOT))).format(
            local.removesuffix("&") if port else local,
            port=port,
            words=local.split(),
        )
        code, out = self._said(typed.replace(".venv/bin/", f"{_BIN}/"))
        if port:
            out = self._served(port)
        elif form.typed == FIRST_LINE:
            code = 0 if out.strip() else 1
        return code, out

    def write(self, name: str, content: str) -> None:
        """Write a file that a page shows."""
        (self._where / name).write_text(self._local(content), encoding="utf-8")

    def end(self) -> None:
        """End the shell and all that it has started."""
        with suppress(BrokenPipeError):
            self._said("kill $(jobs -p) 2>/dev/null; wait")
        self._bash.kill()
        self._bash.communicate()

    def _said(self, typed: str) -> tuple[int, str]:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{ {typed}\n}} </dev/null\nprintf '\\n%s %s\\n' {_END} $?\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            if line.startswith(_END):
                return int(line.split()[1]), "".join(lines).removesuffix("\n")
            lines.append(line)
        raise AssertionError(f"the shell has ended: {''.join(lines)}")

    def _local(self, text: str) -> str:
        return _PORTS.sub(lambda found: str(self._port(found[0])), text)

    def _port(self, named: str) -> int:
        return self._ports.setdefault(named, free_port())

    def _moved(self, command: str) -> int:
        """Give a server that is to be started a port where nobody is; return it."""
        given = re.search(r"(?:--port|mcp_proxy\.demo) (\d+)", command)
        named = given[1] if given else "9000" if "basic_server" in command else "8000"
        with suppress(OSError):
            socket.create_connection(("localhost", self._port(named)), 1).close()
            self._ports[named] = free_port()
        return self._ports[named]

    def _served(self, port: int) -> str:
        """Wait until somebody listens at a port; return what he has said."""
        said = self._where / f"served-{port}"
        looked = self._said(
            f"for try in {{1..100}}; do (: </dev/tcp/localhost/{port}) 2>/dev/null && break; "
            "sleep 0.1; done; "
            f"(: </dev/tcp/localhost/{port})"
        )
        assert looked[0] == 0, said.read_text()
        return said.read_text()
