"""What Helm and Kustomize make of deploy/, and what Kubernetes demands of that."""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.settings import Settings
from mcp_proxy.sources import Loader

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-deploy" / "bin"
PATH = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251 - where programs are looked for
CHART = "deploy/helm/mcp-sidecar"
# The oldest that the chart admits, and the newest whose schemas are installed.
VERSIONS = ("1.30", "1.37")
READ = "import json, sys, yaml; print(json.dumps([one for one in yaml.safe_load_all(sys.stdin) if one]))"

Manifest = dict[str, Any]
COMPONENT = "deploy/kustomize/sidecar"

needs_helm = pytest.mark.skipif(
    not shutil.which("helm", path=PATH), reason="the program helm is not installed"
)
needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl", path=PATH), reason="the program kubectl is not installed"
)
needs_schemas = pytest.mark.skipif(
    not (TOOLS / "kubernetes-validate").exists(), reason=".venv-deploy is not there (make setup)"
)


def run(*command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program at the root of the repository, without any cluster."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": PATH, "HOME": "/nonexistent", "KUBECONFIG": os.devnull},
        input=given,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def said(*command: str, given: str | None = None) -> str:
    ran = run(*command, given=given)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
    return ran.stdout


@contextmanager
def overlay(folder: Path, **files: str) -> Iterator[str]:
    """Write a Kustomization into the repository, where it may name what is there, for as long as it lasts.

    `folder` lends a name that nobody else has.
    """
    place = ROOT / "build" / f"kustomize-{folder.name}"
    place.mkdir(parents=True)
    try:
        for name, text in files.items():
            (place / f"{name}.yaml").write_text(text)
        yield str(place)
    finally:
        shutil.rmtree(place)


@functools.cache
def _read(text: str) -> str:
    return said(str(TOOLS / "python"), "-c", READ, given=text)


def manifests(text: str) -> list[Manifest]:
    return json.loads(_read(text))


def the(kind: str, found: list[Manifest]) -> Manifest:
    (one,) = (each for each in found if each["kind"] == kind)
    return one


def kinds(found: list[Manifest]) -> set[str]:
    return {one["kind"] for one in found}


def assert_fit(text: str, folder: Path) -> None:
    """Hold every manifest against the strict schemas of Kubernetes."""
    # of other people's kinds it has no schemas
    known = [one for one in manifests(text) if one["kind"] != "ServiceMonitor"]
    for number, one in enumerate(known):
        (folder / f"{number}.json").write_text(json.dumps(one))
    files = [str(folder / f"{number}.json") for number in range(len(known))]
    for version in VERSIONS:
        ran = run(str(TOOLS / "kubernetes-validate"), "--strict", "-k", version, *files)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert (ran.stdout + ran.stderr).count(" passed ") == len(known)


def pod(found: list[Manifest]) -> Manifest:
    return the("Deployment", found)["spec"]["template"]["spec"]


def containers(spec: Manifest) -> Iterator[Manifest]:
    yield from spec.get("initContainers", [])
    yield from spec["containers"]


def sidecar(found: list[Manifest]) -> Manifest:
    (one,) = (each for each in containers(pod(found)) if each["name"] == "mcp-sidecar")
    return one


def assert_restricted(spec: Manifest) -> None:
    """Demand what the Pod Security Standard "restricted" does of these fields."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        assert not spec.get(name)
    allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI"}
    for volume in spec.get("volumes", []):
        assert volume.keys() - {"name"} <= allowed
    whole = spec.get("securityContext", {})
    for one in containers(spec):
        own = {**whole, **one.get("securityContext", {})}
        assert own.get("allowPrivilegeEscalation") is False, one["name"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["runAsNonRoot"] is True
        assert own.get("runAsUser") != 0
        assert own["seccompProfile"]["type"] == "RuntimeDefault"
        assert not own.get("privileged")
        assert not any("hostPort" in port for port in one.get("ports", []))


def environment(found: list[Manifest]) -> dict[str, str]:
    """Return what the sidecar's process will see, but for secrets; the last word wins, as there."""
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    seen = {"MCP_HOST": "0.0.0.0", "MCP_PORT": "8000"}  # the image's own
    one = sidecar(found)
    for source in one.get("envFrom", []):
        seen |= maps[source["configMapRef"]["name"]]
    return seen | {each["name"]: each["value"] for each in one["env"] if "value" in each}


def settings(found: list[Manifest], folder: Path, secrets: Mapping[str, str]) -> Settings:
    """Load the settings as the sidecar will: every file is where it was mounted."""
    maps = {one["metadata"]["name"]: one["data"] for one in found if one["kind"] == "ConfigMap"}
    volumes = {one["name"]: one for one in pod(found).get("volumes", [])}
    for mount in sidecar(found).get("volumeMounts", []):
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True)
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            files = maps[volume["configMap"]["name"]]
        else:
            files = {
                item["path"]: secrets[f"{volume['secret']['secretName']}/{item['key']}"]
                for item in volume["secret"]["items"]
            }
        for name, text in files.items():
            (place / name).write_text(text)
    environ = {
        name: str(folder / value.lstrip("/")) if name.endswith("_FILE") else value
        for name, value in environment(found).items()
    }
    loader = Loader({}, environ)
    loaded = loader.load()
    assert loader.warnings == []
    return loaded
