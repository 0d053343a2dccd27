"""The Kustomize component: rendered by `kubectl kustomize`, and loaded as settings."""

import shutil

import pytest

from tests.deploy.rendering import (
    PATH,
    ROOT,
    Manifest,
    assert_fit,
    assert_restricted,
    containers,
    environment,
    manifests,
    needs_schemas,
    pod,
    said,
    settings,
    sidecar,
    the,
)

pytestmark = [
    needs_schemas,
    pytest.mark.skipif(not shutil.which("kubectl", path=PATH), reason="kubectl is not installed"),
]
EXAMPLE = "deploy/kustomize/example"


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
    folder = ROOT / "build" / f"kustomize-{tmp_path.name}"
    folder.mkdir(parents=True)
    try:
        (folder / "other.yaml").write_text(labelled)
        (folder / "kustomization.yaml").write_text(
            "resources: [other.yaml]\ncomponents: [../../deploy/kustomize/sidecar]\n"
        )
        found = manifests(said("kubectl", "kustomize", str(folder)))
    finally:
        shutil.rmtree(folder)
    assert "initContainers" not in pod(found)
