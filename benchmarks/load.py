"""What the benchmarks share: processes that are measured, load from wrk, CPU time from the kernel."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
_POST = """
wrk.method = "POST"
wrk.body = os.getenv("BODY")
for name, value in string.gmatch(os.getenv("HEADERS"), "([^:\\n]+): ([^\\n]+)") do
  wrk.headers[name] = value
end
local many, raw = tonumber(os.getenv("MANY")), os.getenv("RAW")
if many > 1 then
  function request()
    return (string.gsub(raw, "@@@@@@", 100000 + math.random(many)))
  end
end
"""
# Linux: utime and stime are the 14th and 15th field of /proc/<pid>/stat, 11 and 12 after the name.
_TIMES = slice(11, 13)
_PAUSE = 0.05  # seconds between two looks at whether somebody listens
_PATIENCE = 120  # seconds until a subject must answer; under valgrind it takes a minute


@dataclass(frozen=True, slots=True)
class Request:
    """What wrk sends, again and again."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    # above 1: "@@@@@@" in body and headers is one of so many numbers of six digits, at random
    many: int = 1

    @property
    def raw(self) -> str:
        """Return it as it goes out; wrk itself puts headers in another order in each process."""
        place, _, path = self.url.removeprefix("http://").partition("/")
        headers = {"Host": place, **self.headers, "Content-Length": str(len(self.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /{path} HTTP/1.1\r\n{lines}\r\n{self.body.decode()}"


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of one burst of load."""

    requests: int
    seconds: float
    median_ms: float
    cpu_us: float  # of the subject's processes, per request

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass
class Process:
    """One process that is looked at."""

    pid: int
    port: int

    def memory(self, name: str) -> float:
        """Return a figure of /proc/<pid>/status in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise SystemExit(f"no {name} in /proc")

    def forget_peak(self) -> None:
        """Let VmHWM begin anew; where that is not allowed it holds the start too, and says more."""
        with suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


class Stage:
    """The processes of one run; all of them end with it."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[Any]] = []
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        self._script = self.directory / "post.lua"
        self._script.write_text(_POST)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory)

    def start(
        self, *command: str, port: int, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[Any]":
        """Start a process and wait until it listens on `port`; its output is read and dropped."""
        # read as fast as it comes, as in production: a log that nobody reads would hold it up
        sink = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        complaints = (self.directory / f"{port}.err").open("wb")
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=sink.stdin,
            stderr=complaints,
            env={**os.environ, **(environment or {})},
        )
        if sink.stdin is not None:
            sink.stdin.close()
        self._processes += [sink, process]
        waited = time.monotonic() + _PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > waited:
                said = (self.directory / f"{port}.err").read_text()[-2000:]
                raise SystemExit(f"cannot start {' '.join(command)}\n{said}")
            time.sleep(_PAUSE)
        return process

    def stop(self, pid: int) -> None:
        """End one of them before the others."""
        for process in self._processes:
            if process.pid == pid:
                process.terminate()
                process.wait()

    def python(self, *arguments: str, port: int, **environment: str) -> "subprocess.Popen[Any]":
        """Start Python with these arguments."""
        return self.start(sys.executable, *arguments, port=port, environment=environment)

    def burst(
        self, request: Request, pid: int, seconds: int, connections: int = CONNECTIONS
    ) -> Burst:
        """Send as much as is answered for so long; raises SystemExit where an answer is no 2xx."""
        before = cpu_seconds(pid)
        done = subprocess.run(
            [
                "wrk",
                "--latency",
                "--threads=1",
                f"--connections={connections}",
                f"--duration={seconds}s",
                "--timeout=30s",
                f"--script={self._script}",
                request.url,
            ],
            env={
                **os.environ,
                "BODY": request.body.decode(),
                "MANY": str(request.many),
                "RAW": request.raw,
                "HEADERS": "\n".join(f"{name}: {value}" for name, value in request.headers.items()),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = cpu_seconds(pid) - before
        counted = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done)
        median = re.search(r"50%\s+([\d.]+)(us|ms|s)", done)
        if counted is None or median is None or "Non-2xx" in done or "Socket errors" in done:
            raise SystemExit(f"{request.url} was not answered as it should be:\n{done}")
        number = max(int(counted[1]), 1)
        scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
        return Burst(
            number,
            float(counted[2]) * scale[counted[3]] / 1e3,
            float(median[1]) * scale[median[2]],
            used / number * 1e6,
        )


def need(*programs: str) -> None:
    """Raise SystemExit where a program is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise SystemExit(
            f"missing: {', '.join(missing)} (Debian: apt-get install wrk nginx-light valgrind)"
        )


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants so far, user and system."""
    spent = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        spent += sum(map(int, fields[_TIMES]))
    return spent / TICK
