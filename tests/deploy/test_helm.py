"""The chart: rendered by Helm, held against the schemas of Kubernetes, and loaded as settings."""

import functools
import json
from pathlib import Path

import pytest

from mcp_proxy.core.accept import TEXT
from tests.deploy.rendering import (
    CHART,
    Manifest,
    assert_fit,
    assert_restricted,
    environment,
    kinds,
    manifests,
    needs_helm,
    needs_schemas,
    pod,
    run,
    said,
    settings,
    sidecar,
    the,
)
from tests.signals.test_prometheus import families, outcome, seen

pytestmark = [needs_helm, needs_schemas]

RULES = '[tools."salesforce_query*"]\nread_only = true\n'
STANDALONE = ("--set", "upstream.url=http://my-server:9000")
SIDECAR = ("--set", "mode=sidecar,server.image=my-server:1")
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
HARDENED = ("--set-json", f"server.securityContext={json.dumps(RESTRICTED)}")
REDIS = ("--set", "redis.existingSecret=shared,redis.key=address")
ALL = (
    *REDIS,
    "--set",
    "adminToken.existingSecret=admin",
    "--set",
    "autoscaling.enabled=true,serviceMonitor.enabled=true",
    "--set-string",
    "env.MCP_CACHE_TTL=60",
    "--set-literal",
    f"rules={RULES}",
    "--set",
    "image.digest=sha256:" + "0" * 64,
)
SECRETS = {"shared/address": "redis://cache:6379", "admin/token": "a-long-token-for-this-test"}


@functools.cache
def template(*options: str) -> str:
    return said("helm", "template", "demo", CHART, "--namespace", "tools", *options)


def rendered(*options: str) -> list[Manifest]:
    return manifests(template(*options))


@pytest.mark.parametrize("options", [STANDALONE, SIDECAR], ids=["standalone", "sidecar"])
@pytest.mark.parametrize("more", [(), ALL], ids=["plain", "everything"])
def test_it_lints_and_fits_the_schemas(options, more, tmp_path):
    said("helm", "lint", "--strict", CHART, *options, *more)
    assert_fit(template(*options, *more), tmp_path)


def test_it_renders_what_is_asked_for_and_no_more():
    plain = {"Deployment", "Service", "PodDisruptionBudget"}
    assert kinds(rendered(*STANDALONE)) == plain
    everything = plain | {"ConfigMap", "HorizontalPodAutoscaler", "ServiceMonitor"}
    assert kinds(rendered(*STANDALONE, *ALL)) == everything


@pytest.mark.parametrize("options", [STANDALONE, (*SIDECAR, *HARDENED)])
def test_its_pods_are_restricted(options):
    spec = pod(rendered(*options, *ALL))
    assert_restricted(spec)
    assert spec["automountServiceAccountToken"] is False
    assert sidecar(rendered(*options))["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("options", [STANDALONE, SIDECAR])
def test_the_sidecar_understands_every_setting(options, tmp_path):
    loaded = settings(rendered(*options, *ALL), tmp_path, SECRETS)
    assert loaded.cache.ttl == 60
    assert loaded.cache.redis_url is not None
    assert loaded.cache.redis_url.get_secret_value() == SECRETS["shared/address"]
    assert loaded.server.admin_token is not None
    assert loaded.server.admin_token.get_secret_value() == SECRETS["admin/token"]
    assert list(loaded.tools) == ["salesforce_query*"]
    assert "demo-mcp-sidecar.tools.svc" in loaded.server.allowed_hosts
    assert loaded.upstream.name == "tools/demo-mcp-sidecar"


def test_no_secret_is_in_the_manifests():
    text = template(*STANDALONE, *ALL)
    assert "kind: Secret\n" not in text
    assert not any(secret in text for secret in SECRETS.values())


def test_the_pattern_decides_where_the_server_is():
    assert environment(rendered(*STANDALONE))["MCP_UPSTREAM_URL"] == "http://my-server:9000"
    beside = rendered(*SIDECAR, "--set", "server.port=3001")
    assert environment(beside)["MCP_UPSTREAM_URL"] == "http://localhost:3001"
    (native,) = pod(beside)["initContainers"]
    assert native["restartPolicy"] == "Always"
    assert native["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert [one["image"] for one in pod(beside)["containers"]] == ["my-server:1"]
    assert the("Service", beside)["spec"]["sessionAffinity"] == "ClientIP"
    assert the("Service", rendered(*STANDALONE))["spec"]["sessionAffinity"] == "None"


@pytest.mark.parametrize("options", [STANDALONE, SIDECAR])
def test_the_service_and_the_probes_meet_the_sidecar(options):
    found = rendered(*options)
    one = sidecar(found)
    (port,) = one["ports"]
    assert the("Service", found)["spec"]["ports"][0]["targetPort"] == port["name"]
    paths = {one[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"/livez", "/readyz"}
    labels = the("Deployment", found)["spec"]["template"]["metadata"]["labels"]
    assert the("Service", found)["spec"]["selector"].items() <= labels.items()
    budget = the("PodDisruptionBudget", found)["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_replicas_that_do_not_hear_of_each_others_writes_keep_nothing():
    def cache(*options: str) -> str | None:
        return environment(rendered(*STANDALONE, *options)).get("MCP_CACHE_ENABLED")

    assert cache() == "false"
    assert cache("--set", "replicas=1") is None
    assert cache("--set", "replicas=1,autoscaling.enabled=true") == "false"
    assert cache(*REDIS) is None
    assert cache("--set-string", "env.MCP_CACHE_ENABLED=true") == "true"


def test_it_scales_by_a_metric_that_is_told():
    scaler = the("HorizontalPodAutoscaler", rendered(*STANDALONE, *ALL))["spec"]
    (metric,) = scaler["metrics"]
    name = metric["pods"]["metric"]["name"]
    told = {
        sample.name
        for family in families(seen(outcome()), TEXT).values()
        for sample in family.samples
    }
    assert name in told
    assert "replicas" not in the("Deployment", rendered(*STANDALONE, *ALL))["spec"]


def test_the_monitor_finds_the_service_and_sends_the_token():
    found = rendered(*STANDALONE, *ALL)
    monitor = the("ServiceMonitor", found)["spec"]
    service = the("Service", found)
    wanted = monitor["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["authorization"] == {"credentials": {"name": "admin", "key": "token"}}
    without = rendered(*STANDALONE, "--set", "serviceMonitor.enabled=true")
    assert "authorization" not in the("ServiceMonitor", without)["spec"]["endpoints"][0]


@pytest.mark.parametrize("options", [STANDALONE, SIDECAR])
def test_operators_may_have_a_port_of_their_own(options, tmp_path):
    """It is never published with the other one, and it is where the monitor looks."""
    options = (*options, *ALL, "--set", "opsPort=9001,service.type=LoadBalancer")
    assert_fit(template(*options), tmp_path)
    found = rendered(*options)
    ports = {one["name"]: one["containerPort"] for one in sidecar(found)["ports"]}
    assert ports == {"http": 8000, "ops": 9001}
    assert environment(found)["MCP_OPS_PORT"] == "9001"
    services = {one["metadata"]["name"]: one for one in found if one["kind"] == "Service"}
    public, private = (services[f"demo-mcp-sidecar{end}"]["spec"] for end in ("", "-ops"))
    assert [one["targetPort"] for one in public["ports"]] == ["http"]
    assert [one["targetPort"] for one in private["ports"]] == ["ops"]
    assert private["clusterIP"] == "None"
    assert private["selector"] == public["selector"]
    (endpoint,) = the("ServiceMonitor", found)["spec"]["endpoints"]
    assert endpoint["port"] == private["ports"][0]["name"] != public["ports"][0]["name"]
    loaded = settings(found, tmp_path / "files", SECRETS)
    assert {"demo-mcp-sidecar.tools.svc", "demo-mcp-sidecar-ops.tools.svc"} <= set(
        loaded.server.allowed_hosts
    )


def test_a_server_may_have_secrets_files_and_an_account_of_its_own(tmp_path):
    """And the sidecar beside it sees none of its secrets and files."""
    mounted = {"name": "data", "mountPath": "/data"}
    options = (
        *(*SIDECAR, *ALL),
        *("--set-json", 'server.envFrom=[{"secretRef": {"name": "theirs"}}]'),
        *("--set-json", f"server.volumeMounts=[{json.dumps(mounted)}]"),
        *("--set-json", 'volumes=[{"name": "data", "emptyDir": {}}]'),
        *("--set", "serviceAccountName=asker"),
    )
    assert_fit(template(*options), tmp_path)
    spec = pod(rendered(*options))
    (server,) = spec["containers"]
    assert server["envFrom"] == [{"secretRef": {"name": "theirs"}}]
    assert server["volumeMounts"] == [mounted]
    assert [one["name"] for one in spec["volumes"]] == ["data", "rules", "admin-token", "redis-url"]
    assert spec["serviceAccountName"] == "asker"
    assert "automountServiceAccountToken" not in spec
    own = sidecar(rendered(*options))
    assert "envFrom" not in own
    assert mounted not in own["volumeMounts"]


def test_it_makes_way_for_a_server_that_has_its_port():
    found = rendered(*SIDECAR, "--set", "server.port=8000,port=8001")
    assert sidecar(found)["ports"] == [{"name": "http", "containerPort": 8001}]
    seen = environment(found)
    assert (seen["MCP_PORT"], seen["MCP_UPSTREAM_URL"]) == ("8001", "http://localhost:8000")


@pytest.mark.parametrize("options", [STANDALONE, SIDECAR])
def test_the_pod_is_given_longer_than_its_calls(options):
    spec = pod(rendered(*options))
    (last,) = spec["containers"]
    delay = last["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = int(environment(rendered(*options))["MCP_SHUTDOWN_GRACE"])
    assert spec["terminationGracePeriodSeconds"] > delay + grace + 1
    short = run("helm", "template", CHART, *options, "--set", "shutdown.podGrace=14")
    assert "shutdown.podGrace must be more" in short.stderr


def test_other_rules_are_other_pods():
    def checksum(*options: str) -> str:
        found = rendered(*STANDALONE, *options)
        return the("Deployment", found)["spec"]["template"]["metadata"]["annotations"][
            "checksum/rules"
        ]

    assert checksum("--set-literal", f"rules={RULES}") != checksum("--set", "rules=# none")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "url"),
        (("--set", "mode=sidecar"), "image"),
        ((*STANDALONE, "--set", "replica=3"), "replica"),
        ((*STANDALONE, "--set", "mode=daemon"), "mode"),
        (("--set", "upstream.url=http://user:secret@host:9000"), "url"),
        ((*STANDALONE, "--set", "env.MCP_ADMIN_TOKEN=secret"), "MCP_ADMIN_TOKEN"),
        ((*STANDALONE, "--set-string", "env.MCP_OPS_PORT=9001"), "MCP_OPS_PORT"),
        ((*STANDALONE, "--set", "opsPort=8000"), "opsPort and server.port must differ"),
        ((*SIDECAR, "--set", "server.port=8000"), "opsPort and server.port must differ"),
        ((*STANDALONE, "--set", "env.mcp=x"), "invalid propertyName 'mcp'"),
        ((*STANDALONE, "--set", "image.digest=latest"), "digest"),
    ],
)
def test_wrong_values_are_refused_by_name(options, named):
    ran = run("helm", "template", CHART, *options)
    assert ran.returncode != 0
    assert named in ran.stderr


def test_the_version_is_that_of_the_package():
    from mcp_proxy import __version__

    chart = (Path(__file__).parents[2] / CHART / "Chart.yaml").read_text()
    assert f"\nappVersion: {__version__}\n" in chart
