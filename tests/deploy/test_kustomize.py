"""The Kustomize component: rendered by `kubectl kustomize`, and loaded as settings."""

import re

import pytest

from tests.deploy.rendering import (
    COMPONENT,
    ROOT,
    Manifest,
    assert_fit,
    assert_restricted,
    containers,
    environment,
    manifests,
    needs_kubectl,
    needs_schemas,
    overlay,
    pod,
    said,
    settings,
    sidecar,
    the,
)

pytestmark = [needs_schemas, needs_kubectl]
EXAMPLE = "deploy/kustomize/example"
OPS = "deploy/kustomize/ops"


@pytest.fixture(scope="module")
def found() -> list[Manifest]:
    return manifests(said("kubectl", "kustomize", EXAMPLE))


def test_it_fits_the_schemas(tmp_path):
    assert_fit(said("kubectl", "kustomize", EXAMPLE), tmp_path)


def test_it_adds_a_native_sidecar_and_leaves_the_server_as_it_was(found):
    before = manifests((ROOT / EXAMPLE / "server.yaml").read_text())
    (native,) = pod(found)["initContainers"]
    assert native["restartPolicy"] == "Always"
    (server,) = pod(found)["containers"]
    (was,) = pod(before)["containers"]
    assert {**server, "lifecycle": None} == {**was, "lifecycle": None}
    assert_restricted(pod(found))
    assert native["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_service_leads_to_the_sidecar_under_the_port_it_had(found):
    (port,) = the("Service", found)["spec"]["ports"]
    (own,) = sidecar(found)["ports"]
    assert port["targetPort"] == own["name"]
    assert port["port"] == 9000
    names = [each["name"] for one in containers(pod(found)) for each in one["ports"]]
    assert len(names) == len(set(names))


def test_the_sidecar_understands_every_setting_and_rule(found, tmp_path):
    loaded = settings(found, tmp_path, {})
    assert list(loaded.tools) == ["salesforce_query*"]
    assert loaded.upstream.name == "basic-server"
    assert environment(found)["MCP_UPSTREAM_URL"] == "http://localhost:9000"


def test_secrets_are_wanted_from_outside_and_may_be_missing(found):
    wanted = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in sidecar(found)["env"]
        if "valueFrom" in one
    }
    assert set(wanted) == {"MCP_ADMIN_TOKEN", "REDIS_URL"}
    assert all(one["optional"] for one in wanted.values())


def test_a_deployment_can_be_left_out(tmp_path):
    other = (ROOT / EXAMPLE / "server.yaml").read_text().split("---")[0]
    labelled = other.replace(
        "  name: basic-server\n", "  name: other\n  labels: {mcp-sidecar: disabled}\n", 1
    )
    using = f"resources: [other.yaml]\ncomponents: [../../{COMPONENT}, ../../{OPS}]\n"
    with overlay(tmp_path, other=labelled, kustomization=using) as folder:
        found = manifests(said("kubectl", "kustomize", folder))
    assert "initContainers" not in pod(found)


def test_it_can_make_way_for_a_server_that_has_its_port(tmp_path):
    """As docs/kubernetes.md says: nothing of the server is changed."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (patch,) = re.findall(r"```yaml\n(configMapGenerator:.*?)```", page, re.DOTALL)
    using = f"resources: [../../{EXAMPLE}]\n{patch.replace('create', 'merge')}"
    with overlay(tmp_path, kustomization=using) as folder:
        text = said("kubectl", "kustomize", folder)
    assert_fit(text, tmp_path)
    seen = environment(manifests(text))
    (port,) = sidecar(manifests(text))["ports"]
    assert port == {"name": "mcp-sidecar", "containerPort": int(seen["MCP_PORT"])}
    assert port["containerPort"] != 8000
    assert seen["MCP_UPSTREAM_URL"] == "http://localhost:8000"


def test_operators_may_have_a_port_of_their_own(tmp_path):
    using = f"resources: [../../{EXAMPLE}]\ncomponents: [../../{OPS}]\n"
    with overlay(tmp_path, kustomization=using) as folder:
        text = said("kubectl", "kustomize", folder)
    assert_fit(text, tmp_path)
    found = manifests(text)
    ports = {one["name"]: one["containerPort"] for one in sidecar(found)["ports"]}
    assert ports == {"mcp-sidecar": 8000, "mcp-sidecar-ops": 9001}
    assert environment(found)["MCP_OPS_PORT"] == "9001"
    assert the("Service", found)["spec"]["ports"][0]["targetPort"] == "mcp-sidecar"


def test_the_probes_do_not_stay_behind_when_a_setting_moves_their_port(tmp_path):
    """A Service named `mcp-ops` would set it, too; the liveness probe would then ask the server."""
    setting = "configMapGenerator:\n- {name: mcp-sidecar, behavior: merge, literals: [MCP_OPS_PORT=9009]}\n"
    with overlay(tmp_path, kustomization=f"resources: [../../{EXAMPLE}]\n{setting}") as folder:
        found = manifests(said("kubectl", "kustomize", folder))
    assert environment(found)["MCP_OPS_PORT"] == ""
