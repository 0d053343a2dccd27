"""What it costs to tell: events, log, metrics and traces, as shares of an uncached call.

    make bench-signals        (or: .venv/bin/python -m benchmarks.signals --rounds 30 --seconds 1)

The same sidecar in front of the same server, with parts of what it tells taken out: CPU time of its
process per request, medians of the ratios within a round to the sidecar that tells nothing. The parts
that no setting switches off are taken out by hand, here, before the sidecar is made.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from benchmarks import nginx
from benchmarks.bench import Subject, request, rest
from benchmarks.load import ROOT, Stage, free_port, need

GOAL = 0.15  # of the uncached call: all of it, traces sampled at 1 %
# By name: what is taken out, and what is set.
SUBJECTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "nothing": (("events", "metrics"), {}),
    "metrics": (("events",), {}),
    "events, and no log": (("metrics", "log"), {}),
    "events and log": (("metrics",), {}),
    "events, log and metrics": ((), {}),
    "all, and traces at 1 %": (
        (),
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        },
    ),
}


def take_out(parts: list[str]) -> None:
    """Let a part cost nothing: what is called for each call does nothing."""
    from mcp_proxy.signals.bus import Bus  # noqa: PLC0415 - only in the sidecar's process
    from mcp_proxy.signals.logs import Log  # noqa: PLC0415
    from mcp_proxy.signals.metrics import Metrics  # noqa: PLC0415

    def nothing(*_: object, **__: object) -> None:
        pass

    if "events" in parts:
        told = Bus.__call__

        def only_the_start(self: Bus, event: str, level: str = "info", **fields: object) -> None:
            if event == "proxy.started":
                told(self, event, level, **fields)

        Bus.__call__ = only_the_start  # type: ignore[method-assign]
    if "metrics" in parts:
        Metrics.ended = nothing  # type: ignore[method-assign]
    if "log" in parts:
        taken = Log.take

        def only_at_the_start(self: Log, said: object) -> None:
            if said.event == "proxy.started":  # type: ignore[attr-defined]
                taken(self, said)  # type: ignore[arg-type]

        Log.take = only_at_the_start  # type: ignore[method-assign]


def slow_down(times: float) -> None:
    """Let lines wait for company so much longer, where the process runs so much slower."""
    from mcp_proxy.signals import logs  # noqa: PLC0415 - only in the sidecar's process

    logs._GATHER *= times  # noqa: SLF001


def subjects(stage: Stage) -> list[Subject]:
    behind, receiver = free_port(), free_port()
    stage.start("nginx", "-c", str(nginx.static(stage.directory, behind)), port=behind)
    # takes spans, as any OTLP receiver
    stage.python("-m", "benchmarks.subjects", "fixed", str(receiver), port=receiver)
    found = []
    for name, (without, settings) in SUBJECTS.items():
        port = free_port()
        process = stage.python(
            "-m",
            "benchmarks.signals",
            "--without",
            ",".join(without),
            port=port,
            MCP_UPSTREAM_URL=f"http://127.0.0.1:{behind}",
            MCP_HOST="127.0.0.1",
            MCP_PORT=str(port),
            MCP_CONFIG_FILE=str(ROOT / "benchmarks/rules.toml"),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{receiver}",
            **{"OTEL_TRACES_EXPORTER": "none", **settings},
        )
        found.append(Subject(name, request(port, rest("write_account")), process.pid))
    return found


def measure(rounds: int, seconds: int) -> dict[str, list[float]]:
    """Return the CPU time of a request in µs, round by round."""
    need("wrk", "nginx")
    with Stage() as stage:
        found = subjects(stage)
        for subject in found:
            stage.burst(subject.request, subject.pid, 1)
        seen: dict[str, list[float]] = {subject.name: [] for subject in found}
        for number in range(rounds):
            turn = number % len(found)
            for subject in found[turn:] + found[:turn]:
                burst = stage.burst(subject.request, subject.pid, seconds)
                seen[subject.name].append(burst.cpu_us)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return seen


def show(seen: dict[str, list[float]]) -> None:
    base = seen["nothing"]
    print(f"{'told':28} {'CPU µs':>8} {'share of the call':>18} {'quartiles':>16}")
    for name, values in seen.items():
        shares = sorted(value / bare - 1 for value, bare in zip(values, base, strict=True))
        quarter = len(shares) // 4
        line = f"{name:28} {statistics.median(values):8.0f}"
        if name != "nothing":
            line += f" {statistics.median(shares):18.1%} {shares[quarter]:7.1%} to {shares[-1 - quarter]:.1%}"
        print(line)
    print(f"goal for the last line: {GOAL:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=1, help="of load, for each burst")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument(
        "--without", help=argparse.SUPPRESS
    )  # be a sidecar that does not tell these
    options = parser.parse_args()
    if options.without is not None:
        take_out(options.without.split(","))
        slow_down(float(os.environ.get("BENCH_SLOWER", "1")))
        from mcp_proxy.cli import main as sidecar  # noqa: PLC0415 - only in the sidecar's process

        sidecar(["run"])
    seen = measure(options.rounds, options.seconds)
    show(seen)
    if options.json:
        options.json.write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    os.environ.pop("MCP_LOG_LEVEL", None)
    main()
