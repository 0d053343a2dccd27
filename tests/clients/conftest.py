"""The journeys' processes, and the environments of the clients that nobody here wrote."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.journeys.conftest import ROOT, sidecar_for, start

__all__ = ["sidecar_for", "start"]

# One test may take 120 s in all.
NPM_SECONDS = 100


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Settings of the sidecar that call one tool of server.py a read."""
    file = tmp_path / "rules.toml"
    file.write_text("[tools.look]\nread_only = true\n")
    return file


@pytest.fixture(scope="session")
def typescript() -> str:
    """Return node, with the TypeScript clients installed on first use."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip("no node and npm")
    try:
        subprocess.run(
            [str(ROOT / "scripts" / "setup-npm")],
            check=True,
            timeout=NPM_SECONDS,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install the TypeScript clients in time")
    except subprocess.CalledProcessError as failed:
        pytest.skip(f"npm cannot install the TypeScript clients: {failed.stderr[-200:]}")
    return node
