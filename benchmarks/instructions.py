"""How many instructions a call costs: a count, where the times of a shared machine only scatter.

    make bench-count        (or: .venv/bin/python -m benchmarks.instructions --seconds 60)

The subjects of benchmarks/bench and benchmarks/signals run under valgrind (Debian package), which
counts what they execute in user space between two moments; what the kernel does for them is not in it.
They are some fifty times slower there, so what gathers work by the clock is given as much more time.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import nginx, signals
from benchmarks.bench import request, rest
from benchmarks.load import ROOT, Request, Stage, free_port, need

# Few connections: the calls that are broken off at the end of a burst count as nothing.
_CONNECTIONS = 4
# Seconds of load before the count: memos, pools, the interpreter's specialised code (PEP 659).
_WARM = 12
# Pairs of which the ratio is shown.
RATIOS = (
    ("cached call", "sidecar, cached", "aiohttp, fixed answer"),
    ("uncached call", "sidecar, uncached", "aiohttp, pass-through"),
    *((f"telling {name}", name, "nothing") for name in signals.SUBJECTS if name != "nothing"),
)


class Counted:
    """A process under valgrind."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self._out = stage.directory / f"count-{number}"

    def start(self, *arguments: str, port: int, **environment: str) -> int:
        """Start Python with these arguments; return its process."""
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._out}"]
        process = self._stage.start(
            *command, sys.executable, *arguments, port=port, environment=environment
        )
        return process.pid

    def count(self, asked: Request, pid: int, seconds: int) -> float:
        """Return how many instructions a call takes.

        Of two bursts, the longer one has more calls, but the same share of what comes once (the
        connections, a full garbage collection): the difference is that of the calls alone.
        """
        self._stage.burst(asked, pid, _WARM, _CONNECTIONS)
        _tell("--zero", pid)
        seen = []
        for number, each in enumerate((seconds // 4, seconds), 1):
            burst = self._stage.burst(asked, pid, each, _CONNECTIONS)
            _tell("--dump", pid)  # and begin again at zero
            dump = self._out.with_name(f"{self._out.name}.{number}").read_text()
            total = re.search(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)
            assert total is not None
            seen.append((int(total[1]), burst.requests))
        (some, few), (more, many) = seen
        return (more - some) / (many - few)


def _tell(what: str, pid: int) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], stdout=subprocess.DEVNULL, check=True)


def counts(stage: Stage, wanted: str, seconds: int) -> Iterator[tuple[str, float]]:
    """Count one subject after the other: each has the machine for itself."""
    behind, receiver = free_port(), free_port()
    stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    stage.python("-m", "benchmarks.subjects", "fixed", str(receiver), port=receiver)
    url = f"http://127.0.0.1:{behind}"
    read, write = rest("read_accounts"), rest("write_account")
    subjects: list[tuple[str, bytes, list[str], dict[str, str]]] = [
        ("aiohttp, fixed answer", read, ["benchmarks.subjects", "fixed"], {}),
        ("aiohttp, pass-through", write, ["benchmarks.subjects", "pass"], {}),
        ("sidecar, cached", read, ["benchmarks.signals", "--without", ""], {}),
        ("sidecar, uncached", write, ["benchmarks.signals", "--without", ""], {}),
    ]
    for name, (without, settings) in signals.SUBJECTS.items():
        module = ["benchmarks.signals", "--without", ",".join(without)]
        subjects.append((name, write, module, settings))
    for number, (name, body, module, settings) in enumerate(subjects):
        if wanted not in name:
            continue
        port = free_port()
        arguments = ["-m", *module]
        if module[0] == "benchmarks.subjects":
            arguments += [str(port), url]
        counted = Counted(stage, number)
        pid = counted.start(
            *arguments,
            port=port,
            MCP_UPSTREAM_URL=url,
            MCP_HOST="127.0.0.1",
            MCP_PORT=str(port),
            MCP_CONFIG_FILE=str(ROOT / "benchmarks/rules.toml"),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{receiver}",
            BENCH_SLOWER="50",
            MCP_HEALTH_INTERVAL="250",
            OTEL_BSP_SCHEDULE_DELAY="250000",
            **{"OTEL_TRACES_EXPORTER": "none", **settings},
        )
        yield name, counted.count(request(port, body), pid, seconds)
        stage.stop(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="of load that is counted")
    parser.add_argument("--only", default="", help="subjects with this in their names")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    need("valgrind", "wrk", "nginx")
    found: dict[str, float] = {}
    with Stage() as stage:
        for name, each in counts(stage, options.only, options.seconds):
            found[name] = each
            print(f"{name:28} {each / 1000:8.0f} thousand instructions a call", flush=True)
    for title, subject, base in RATIOS:
        if subject in found and base in found:
            print(f"{title:36} {found[subject] / found[base]:6.3f} x {base}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
