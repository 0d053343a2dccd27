"""The gate of docs/conformance.md: the public suite finds the same through the sidecar."""

import json
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The script has no suffix, and is no part of the package.
gate = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "conformance")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def urls(folder: Path) -> Iterator[dict[str, str]]:
    """Serve the stock server and the sidecar, once for all revisions."""
    try:
        gate.install()
    except gate.UnavailableError as lack:
        pytest.skip(str(lack))
    with gate.pair(folder) as urls:
        yield urls


@pytest.mark.conformance
@pytest.mark.timeout(900)  # the first run installs
@pytest.mark.parametrize("revision", gate.REVISIONS)
def test_the_suite_finds_the_same_through_the_sidecar(
    urls: dict[str, str], folder: Path, revision: str
) -> None:
    compared = gate.compare(revision, urls, folder)
    assert compared.differences() == []


def left(folder: Path, **scenarios: list[dict[str, Any]]) -> Any:
    """Leave checks behind as the suite does, and read them."""
    for name, checks in scenarios.items():
        one = folder / f"server-{name}-2026-11-22T22-25-56-736Z"
        one.mkdir(parents=True)
        (one / "checks.json").write_text(json.dumps(checks))
    return gate.read(folder)


def check(status: str, complaint: str | None = None) -> dict[str, Any]:
    return {"id": "an-id", "status": status} | ({"errorMessage": complaint} if complaint else {})


def compared(tmp_path: Path, direct: list[dict[str, Any]], sidecar: list[dict[str, Any]]) -> Any:
    one, other = (
        left(tmp_path / way, scenario=checks, other=[check("INFO")])
        for way, checks in (("direct", direct), ("sidecar", sidecar))
    )
    return gate.Comparison("2026-07-28", one, other, 1.0)


def test_each_check_that_came_out_otherwise_is_named(tmp_path: Path) -> None:
    direct, sidecar = [check("SUCCESS")] * 2, [check("SUCCESS"), check("FAILURE", "why\nnot")]
    assert compared(tmp_path, direct, sidecar).differences() == [
        "scenario: an-id: direct 2 SUCCESS; sidecar 1 FAILURE, 1 SUCCESS (why not)"
    ]


def test_the_table_counts_every_status_of_both_ways(tmp_path: Path) -> None:
    found = compared(tmp_path, [check("SUCCESS")] * 2, [check("SUCCESS"), check("SKIPPED")])
    assert gate.table([found]).splitlines()[-1] == (
        "| 2026-07-28 | 2 | 2 SUCCESS, 1 INFO | 1 INFO, 1 SKIPPED, 1 SUCCESS | 1 | 1.0 |"
    )


@pytest.mark.parametrize("sidecar", [[], ["INFO"], ["SUCCESS", "SUCCESS"]])
def test_a_check_that_is_missing_doubled_or_only_skipped_is_a_difference(
    tmp_path: Path, sidecar: list[str]
) -> None:
    """None of these is a failure to the suite."""
    found = compared(tmp_path, [check("SUCCESS")], [check(status) for status in sidecar])
    assert len(found.differences()) == 1


def test_the_time_and_order_of_checks_are_none(tmp_path: Path) -> None:
    checks = [check("SUCCESS"), check("INFO")]
    assert compared(tmp_path, checks, checks[::-1]).differences() == []


def test_an_empty_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gate.RefusedError, match="no checks"):
        left(tmp_path, scenario=[])


def test_without_npm_there_is_no_verdict(tmp_path: Path) -> None:
    """Exit 1 and a reason, not a green nothing."""
    copy = tmp_path / "scripts" / "conformance"
    copy.parent.mkdir()
    copy.write_bytes((ROOT / "scripts" / "conformance").read_bytes())
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").write_bytes(gate.LOCK.read_bytes())
    ran = subprocess.run(
        [gate.python(), str(copy)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no npm" in ran.stderr
