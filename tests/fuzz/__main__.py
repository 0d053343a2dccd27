"""Fuzz one target, guided by coverage: `python -m tests.fuzz TARGET SECONDS FOLDER` (scripts/fuzz).

Without arguments the targets are listed. What breaks a promise is left in the folder.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mcp_proxy", "json", "tomllib"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 4:
        sys.stdout.write("\n".join(TARGETS) + "\n")
        return
    name, seconds, folder = sys.argv[1:4]
    target, seeds = TARGETS[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": 8192,
        "timeout": 20,
        "rss_limit_mb": 2048,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target
    )
    atheris.Fuzz()


main()
