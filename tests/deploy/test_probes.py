"""The probes of the chart and of the component, asked of a sidecar with the settings of its pod."""

import http.client
from collections.abc import Iterator

import pytest

from tests.deploy.rendering import (
    CHART,
    Manifest,
    environment,
    manifests,
    needs_helm,
    needs_kubectl,
    needs_schemas,
    overlay,
    said,
    sidecar,
)
from tests.edge.wire import unused_port
from tests.test_cli import process

pytestmark = needs_schemas
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
STANDALONE = "upstream.url=http://my-server:9000"
SIDECAR = "mode=sidecar,server.image=my-server:1"


def chart(*values: str) -> str:
    return said("helm", "template", "demo", CHART, "--set", ",".join(values))


@pytest.fixture(
    params=[
        pytest.param((STANDALONE,), id="standalone", marks=needs_helm),
        pytest.param((STANDALONE, "opsPort=9001"), id="standalone-ops", marks=needs_helm),
        pytest.param((SIDECAR,), id="sidecar", marks=needs_helm),
        pytest.param((SIDECAR, "opsPort=9001"), id="sidecar-ops", marks=needs_helm),
        pytest.param("[]", id="component", marks=needs_kubectl),
        pytest.param("[../../deploy/kustomize/ops]", id="component-ops", marks=needs_kubectl),
    ]
)
def found(request, tmp_path) -> Iterator[list[Manifest]]:
    if isinstance(request.param, tuple):
        yield manifests(chart(*request.param))
        return
    using = f"resources: [../../deploy/kustomize/example]\ncomponents: {request.param}\n"
    with overlay(tmp_path, kustomization=using) as folder:
        yield manifests(said("kubectl", "kustomize", folder))


def test_no_pod_is_restarted_or_taken_away_because_the_server_is_away(found):
    """A probe asks by the pod's address; on a port that is not ours it would hear the server's 503."""
    seen = {
        name: value
        for name, value in environment(found).items()
        if name not in {"MCP_HOST", "MCP_PORT", "MCP_UPSTREAM_URL", "MCP_CONFIG_FILE"}
    }
    listening = {int(environment(found)["MCP_PORT"]): "urls"}
    if seen.get("MCP_OPS_PORT"):
        listening[int(seen["MCP_OPS_PORT"])] = "ops_urls"
        seen["MCP_OPS_PORT"] = "0"
    with process(f"http://localhost:{unused_port()}", MCP_HOST="127.0.0.1", **seen) as running:
        started = running.until("proxy.started")
        for probe in PROBES:
            asked = sidecar(found)[probe]["httpGet"]
            (number,) = (
                one["containerPort"]
                for one in sidecar(found)["ports"]
                if one["name"] == asked["port"]
            )
            (url,) = started[listening[number]]
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
            connection.request("GET", asked["path"], headers={"Host": f"10.1.2.3:{number}"})
            assert connection.getresponse().status == http.client.OK, probe
            connection.close()
