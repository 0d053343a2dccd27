"""What is handed on: built from a clean tree, the same twice, and fit to run where nothing else is."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest

from mcp_proxy import __version__
from mcp_proxy.edge import dashboard
from tests.docker.engine import answers

ROOT = Path(__file__).parents[1]
# Nobody's commits, no engine, and no settings but those that a test makes.
CLEAN = {
    "PATH": os.environ["PATH"],
    "DOCKER_HOST": "tcp://127.0.0.1:9",
    "PYTHON": sys.executable,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{
        f"GIT_{who}_{what}": "nobody"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def run(where: Path, *line: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, cwd=where, env=CLEAN, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout as it would be committed, with an entry in the changelog."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    copy = tmp_path_factory.mktemp("release") / "tree"
    listed = run(ROOT, "git", "ls-files", "-co", "--exclude-standard", "-z", *tops()).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    said = (ROOT / "CHANGELOG.md").read_text()
    entry = f"## {__version__} - 2026-01-01"
    if f"## {__version__} - " not in said:
        said = said.replace("## Unreleased", entry)
    (copy / "CHANGELOG.md").write_text(said)
    run(copy, "git", "init", "--quiet")
    run(copy, "git", "add", "--all")
    run(copy, "git", "commit", "--quiet", "--message", "All")
    return copy


def tops() -> list[str]:
    """Return what the repository holds, but for environments beside it."""
    return [one.name for one in ROOT.iterdir() if not one.name.startswith(".")] + [".gitignore"]


@pytest.fixture(scope="module")
def dist(tree: Path) -> Path:
    said = run(tree, "scripts/release", __version__)
    assert "no image: no engine can be reached" in said.stdout
    return tree / "dist"


def test_it_builds_all_and_says_what_it_is(dist: Path) -> None:
    names = sorted(one.name for one in dist.iterdir())
    assert names == [
        "SHA256SUMS",
        f"mcp-sidecar-{__version__}.cdx.json",
        f"mcp_sidecar-{__version__}-py3-none-any.whl",
        f"mcp_sidecar-{__version__}.tar.gz",
    ]
    sums = dict(line.split()[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == set(names) - {"SHA256SUMS"}
    for name, said in sums.items():
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == said


def test_the_same_commit_gives_the_same_bytes(tree: Path, dist: Path, tmp_path: Path) -> None:
    """Elsewhere, and with another umask."""
    before = (dist / "SHA256SUMS").read_text()
    again = tmp_path / "again"
    run(tmp_path, "git", "clone", "--quiet", str(tree), str(again))
    run(again, "bash", "-c", f"umask 077 && scripts/release {__version__}")
    assert (again / "dist" / "SHA256SUMS").read_text() == before


def test_the_wheel_has_what_runs_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"mcp_proxy", f"mcp_sidecar-{__version__}.dist-info"}
    page = {f"mcp_proxy/edge/dashboard/{path.name}" for path in dashboard_files()}
    assert page
    assert names >= {"mcp_proxy/py.typed", "mcp_proxy/signals/schemas.py", *page}
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "mcp_proxy").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here
    assert not [name for name in names if "__pycache__" in name]


def dashboard_files() -> list[Path]:
    folder = Path(dashboard.__file__).with_name("dashboard")
    return [path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"]


def test_the_source_has_what_builds_and_nothing_else(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as source:
        names = [name.partition("/")[2] for name in source.getnames()]
    tops = {name.partition("/")[0] for name in names}
    assert tops == {
        *("mcp_proxy", "config", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"),
        *(".gitignore", "PKG-INFO"),
    }


def test_the_wheel_runs_where_nothing_else_is(dist: Path, tmp_path: Path) -> None:
    """Its dependencies are those of the lock, lent from here; the package is the wheel's."""
    home = tmp_path / "home"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    run(tmp_path, sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
        "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))  # fmt: skip
    (site,) = home.glob("lib/python*/site-packages")
    lent = sysconfig.get_paths()["purelib"]
    # a line that is a directory is put behind what is installed; .pth files in it are not read,
    # so the checkout, which is there by one, is not found
    (site / "lent.pth").write_text(f"{lent}\n")
    command = str(home / "bin" / "mcp-sidecar")
    assert run(tmp_path, command, "--version").stdout == f"mcp-sidecar, version {__version__}\n"
    where = run(tmp_path, str(python), "-c", "import mcp_proxy; print(mcp_proxy.__file__)").stdout
    assert Path(where.strip()).is_relative_to(site)
    told = run(tmp_path, command, "demo", "--json").stdout
    assert '"ok": true' in told or '"ok":true' in told


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_the_image_says_of_what_it_is_and_runs(tree: Path, tmp_path: Path) -> None:
    if not (host := os.environ.get("DOCKER_HOST")) or not answers("docker", "version"):
        pytest.skip("no Docker engine can be reached")
    copy, image = tmp_path / "copy", f"mcp-release-{uuid4().hex[:8]}:{__version__}"
    run(tmp_path, "git", "clone", "--quiet", str(tree), str(copy))
    given = {"DOCKER_HOST": host, "IMAGE_NAME": image.partition(":")[0]}
    more = CLEAN | given | {"IMAGE_SOURCE": "https://example.com/s"}
    subprocess.run(["scripts/release", __version__], cwd=copy, env=more, check=True)
    try:
        looked = run_docker("image", "inspect", image)
        labels = json.loads(looked)[0]["Config"]["Labels"]
        commit = run(copy, "git", "rev-parse", "HEAD").stdout.strip()
        prefix = "org.opencontainers.image."
        assert {
            one: labels[prefix + one] for one in ("version", "revision", "created", "source")
        } == {
            "version": __version__,
            "revision": commit,
            "created": run(copy, "git", "log", "-1", "--format=%cI").stdout.strip(),
            "source": "https://example.com/s",
        }
        assert run_docker("run", "--rm", image, "--version") == (
            f"mcp-sidecar, version {__version__}\n"
        )
    finally:
        run_docker("image", "rm", "--force", image)


def run_docker(*line: str) -> str:
    return subprocess.run(["docker", *line], check=True, capture_output=True, text=True).stdout


# --- what is refused


def refused(tree: Path, version: str = __version__) -> str:
    ended = run(tree, "scripts/release", version, check=False)
    assert ended.returncode == 1
    return ended.stderr


def test_a_tree_with_changes_is_refused(tree: Path) -> None:
    new = tree / "docs" / "new.md"
    new.write_text("new")
    try:
        assert "not clean" in refused(tree)
    finally:
        new.unlink()


def test_another_version_than_the_packages_is_refused(tree: Path) -> None:
    assert f"says {__version__}, not 9.9.9" in refused(tree, "9.9.9")


def test_a_version_without_an_entry_is_refused(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    run(tmp_path, "git", "clone", "--quiet", str(tree), str(copy))
    log = copy / "CHANGELOG.md"
    log.write_text(log.read_text().replace(f"## {__version__} - ", "## Unreleased "))
    run(copy, "git", "commit", "--quiet", "--all", "--message", "Forget it")
    assert "no entry" in refused(copy)
