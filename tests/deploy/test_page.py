"""docs/kubernetes.md: each of its commands is rendered, and fits the schemas of Kubernetes."""

import re
import shlex
from collections.abc import Iterator

import pytest

from mcp_proxy.core.accept import TEXT
from tests.deploy.rendering import ROOT, assert_fit, manifests, needs_helm, needs_schemas, said
from tests.signals.test_prometheus import families, outcome, seen

pytestmark = [needs_helm, needs_schemas]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
METRICS = {
    one.name for family in families(seen(outcome()), TEXT).values() for one in family.samples
}


def commands() -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        yield from block.replace("\\\n", " ").strip().splitlines()


def offline(command: str) -> list[str]:
    """Return what makes the same manifests without a cluster."""
    match shlex.split(command):
        case ["helm", "upgrade", "--install", *rest]:
            return ["helm", "template", *rest]
        case ["kubectl", "create", *rest]:
            return ["kubectl", "create", *rest, "--dry-run=client", "-o", "yaml"]
        case ["kubectl", "kustomize", folder] | ["kubectl", "apply", "-k", folder]:
            return ["kubectl", "kustomize", folder]
    raise AssertionError(f"nobody tests {command!r}")


def test_there_are_commands():
    assert len(list(commands())) >= 7


@pytest.mark.parametrize("command", [one for one in commands() if "--raw" not in one])
def test_each_command_makes_manifests(command, tmp_path):
    text = said(*offline(command))
    assert manifests(text)
    assert_fit(text, tmp_path)


def test_what_is_asked_of_the_cluster_is_a_metric_that_is_told():
    (asked,) = (one for one in commands() if "--raw" in one)
    assert re.search(r"/(\w+)'$", asked)[1] in METRICS
    (rules,) = re.findall(r"```yaml\n(rules:.*?)```", PAGE, re.DOTALL)
    (rule,) = manifests(rules)[0]["rules"]
    assert re.match(r"\w+", rule["seriesQuery"])[0] in METRICS
    assert rule["name"]["matches"] in METRICS


def test_the_notes_are_rendered():
    install = ("helm", "install", "demo", "deploy/helm/mcp-sidecar", "--dry-run=client")
    notes = said(*install, "--set", "upstream.url=http://my-server:9000").split("NOTES:")[1]
    assert "http://demo-mcp-sidecar.default:8000" in notes
    assert "No answer is kept" in notes
    alone = said(*install, "--set", "upstream.url=http://my-server:9000,replicas=1")
    assert "No answer is kept" not in alone
