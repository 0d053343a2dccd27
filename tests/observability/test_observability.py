"""`deploy/observability`: every query of the alerts and the dashboard finds what it asks for.

Once by name, in what the sidecar renders; and once with a Prometheus that scrapes a sidecar, where the
Debian package `prometheus` (with `promtool`) is installed.
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_proxy.core.accept import TEXT
from mcp_proxy.core.outcome import Outcome
from mcp_proxy.core.verdict import Verdict
from tests.edge.wire import (
    Exchange,
    Front,
    Upstream,
    answer,
    get,
    post,
    result,
    sidecar,
    tool,
    unused_port,
)
from tests.signals.test_prometheus import families, outcome, seen

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "observability"
ALERTS = BUNDLE / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((BUNDLE / "grafana" / "dashboards" / "mcp-sidecar.json").read_text())
SECONDS = 60  # until Prometheus has seen enough
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="the programs prometheus and promtool are not installed",
)


def panels() -> Iterator[dict[str, Any]]:
    return (one for one in DASHBOARD["panels"] if one["type"] != "row")


def queries() -> dict[str, str]:
    """Return the dashboard's queries by panel and letter, as they are with all variables at "All"."""
    return {
        f"{panel['title']} {target['refId']}": filled(target["expr"])
        for panel in panels()
        for target in panel["targets"]
    }


def filled(query: str) -> str:
    text = re.sub(r"\$(job|instance|service|tool)\b", ".*", query)
    return text.replace("$__rate_interval", "10s")


# --- by name


def told() -> dict[str, dict[str, set[str]]]:
    """Return, for each metric that is rendered, its labels and their values."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in families(seen(outcome(cache="request"), outcome()), TEXT).values():
        for one in family.samples:
            labels = found.setdefault(one.name, {"job": set(), "instance": set()})
            for name, value in one.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def asked() -> Iterator[tuple[str, str]]:
    """Return every query that anybody asks, and where it stands."""
    yield from queries().items()
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", filled(variable["query"]["query"])
    yield "alerts.yml", rules_text()


def rules_text() -> str:
    """Return the alerts without their comments and words for people."""
    lines = ALERTS.read_text().splitlines()
    return "\n".join(line for line in lines if not re.match(r" *(#|summary:|description:)", line))


def test_every_metric_that_is_asked_for_is_told() -> None:
    known = told()
    named = {
        (where, name)
        for where, query in asked()
        for name in re.findall(r"(?<![\w:])(?:mcp_sidecar|process)_\w+", query)
    }
    assert len({name for _, name in named}) > 25
    assert {(where, name) for where, name in named if name not in known} == set()


def test_every_label_that_is_asked_for_is_there() -> None:
    """And of the values that are asked for, those of which all are known."""
    known = told()
    closed = {
        "verdict": {verdict.value for verdict in Verdict},
        "state": {"closed", "half_open", "open"},
        "result": {"hit", "stale", "miss", "expired", "collapsed"},
    }
    wrong = set()
    for where, query in asked():
        for metric, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                if metric == "up":
                    continue
                missing = set(values.split("|")) - closed.get(label, set(values.split("|")))
                if label not in known[metric] or missing:
                    wrong.add((where, metric, label, values))
    assert wrong == set()


def test_recorded_ratios_are_used_as_they_are_recorded() -> None:
    text = ALERTS.read_text()
    recorded = set(re.findall(r"record: (\S+)", text))
    assert recorded == set(re.findall(r"instance:mcp_sidecar\w+:\w+", text))


def test_the_readme_lists_the_alerts() -> None:
    listed = re.findall(r"^\| `(Mcp\w+)`", (BUNDLE / "README.md").read_text(), re.MULTILINE)
    assert listed == re.findall(r"alert: (\w+)", ALERTS.read_text())


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """No data source of ours is written into it, no id twice, and each panel says what it shows."""
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    assert "id" not in DASHBOARD
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_images_are_pinned_and_ports_are_loopback() -> None:
    for part in ("prometheus", "grafana"):
        image = re.search(r"^FROM (\S+)$", (BUNDLE / part / "Dockerfile").read_text(), re.MULTILINE)
        assert image is not None
        assert re.search(r":v?\d+\.\d+\.\d+$", image[1])
    (profile,) = re.findall(
        r"^  prometheus:$.*\Z", (ROOT / "docker-compose.yml").read_text(), re.DOTALL | re.MULTILINE
    )
    ports = re.findall(r"ports: \[(.*)\]", profile)
    assert len(ports) == 2
    assert all(one.startswith('"127.0.0.1:') for one in ports)


# --- with the programs


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", BUNDLE / "prometheus" / "prometheus.yml"],
        ["check", "rules", ALERTS],
        ["test", "rules", Path(__file__).parent / "alerts_test.yml"],
    ],
)
def test_promtool_finds_nothing_wrong(arguments: list[str | Path]) -> None:
    """The last one: each alert fires when it should, and not when it comes near."""
    ran = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def play(exchange: Exchange) -> None:
    """Answer for tools that work, fail and do not answer, as their names say."""
    body = exchange.asked.body
    if b'"broken"' in body:
        await exchange.send(answer(b"", status="500 Oh No"))
    elif b'"failing"' in body:
        await exchange.send(answer(result(1, content=[], isError=True)))
    else:
        await exchange.send(answer(result(1, content=[])))


async def work(front: Front) -> None:
    """Let something of everything happen, again and again."""
    names = ["look", "look", "broken", "failing", "save"]
    for number in count():
        for name in names:
            await front.ask(post("/mcp", tool(name, number=number // 4)))
        rest = {"service": "jira", "tool_name": "look", "params": {}}
        await front.ask(post("/api/call-tool", rest))
        await asyncio.sleep(0.05)


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Front]:
    """Return a sidecar with a health monitor and traffic."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[tools."look"]\nread_only = true\n[tools."broken"]\nread_only = true\n')
    upstream = Upstream()
    upstream.plays(play)
    await upstream.start()
    async with sidecar(upstream.url, MCP_CONFIG_FILE=rules) as front:
        front.sidecar.start()
        working = asyncio.create_task(work(front))
        yield front
        working.cancel()
    await upstream.stop()


class Prometheus:
    """The real one, with the real files, looking at a sidecar each second."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = session

    async def ask(self, path: str, **query: str) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{path}", params=query) as heard:
            said = await heard.json()
            assert said["status"] == "success", (query, said)
            return said["data"]

    async def finds(self, query: str) -> bool:
        """Tell whether a query has a result that is a number."""
        found = (await self.ask("query", query=query))["result"]
        return any(one["value"][1] != "NaN" for one in found)

    async def is_ready(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/-/ready") as heard:
                return heard.status == 200
        except aiohttp.ClientConnectionError:
            return False


@asynccontextmanager
async def watching(front: Front, folder: Path) -> AsyncIterator[Prometheus]:
    text = (BUNDLE / "prometheus" / "prometheus.yml").read_text()
    text = text.replace("mcp-proxy:8000", f"127.0.0.1:{front.port}").replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(ALERTS, folder)
    port = unused_port()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            prometheus = Prometheus(port, session)
            await until(prometheus.is_ready, lambda: (folder / "log").read_text()[-3000:])
            yield prometheus
    finally:
        process.terminate()
        await process.wait()


async def until(holds: Callable[[], Awaitable[bool]], told: Callable[[], str]) -> None:
    over = time.monotonic() + SECONDS
    while not await holds():
        assert time.monotonic() < over, told()
        await asyncio.sleep(0.2)


@needs_prometheus
async def test_promtool_finds_nothing_wrong_with_the_metrics(busy: Front) -> None:
    """It knows the conventions for names."""
    text = (await busy.ask(get("/metrics"))).body
    ran = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_prometheus
@pytest.mark.timeout(300)
async def test_every_query_finds_something(busy: Front, tmp_path: Path) -> None:
    """A real Prometheus scrapes the sidecar, and is asked what Grafana would ask."""
    recorded = re.findall(r"record: (\S+)", ALERTS.read_text())
    silent = queries() | {name: name for name in recorded}
    async with watching(busy, tmp_path) as prometheus:

        async def all_found() -> bool:
            for name, query in list(silent.items()):
                if await prometheus.finds(query):
                    del silent[name]
            return not silent

        await until(all_found, lambda: f"found nothing: {silent}")
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            path = f"label/{asked[2]}/values"
            assert await prometheus.ask(path, **{"match[]": filled(asked[1])}), variable["name"]
        [target] = (await prometheus.ask("targets"))["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        await until_rules_are_evaluated(prometheus)
        alerts: set[str] = set()

        async def the_broken_tool_is_noticed() -> bool:
            said = (await prometheus.ask("alerts"))["alerts"]
            alerts.update(one["labels"]["alertname"] for one in said)
            return {"McpCircuitOpen", "McpErrorRatioHigh"} <= alerts

        await until(the_broken_tool_is_noticed, lambda: str(alerts))
        assert not {"McpServerLost", "McpSidecarGone", "McpCallsShed"} & alerts


@needs_prometheus
@pytest.mark.timeout(300)
async def test_prometheus_keeps_the_traces_that_buckets_name(busy: Front, tmp_path: Path) -> None:
    """It asks for OpenMetrics, in which they are."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    metrics = busy.sidecar.metrics
    metrics.began()
    metrics.ended(Outcome("jira", "traced", Verdict.OK, 0.02, 1, "miss", None, trace))
    bucket = 'mcp_sidecar_call_duration_seconds_bucket{tool="traced"}'
    async with watching(busy, tmp_path) as prometheus:
        now = time.time()
        asked = {"query": bucket, "start": str(now - 600), "end": str(now + 600)}

        async def is_there() -> bool:
            found = await prometheus.ask("query_exemplars", **asked)
            said = [one["labels"] for series in found for one in series["exemplars"]]
            return {"trace_id": trace} in said

        await until(is_there, lambda: "no exemplar")


async def until_rules_are_evaluated(prometheus: Prometheus) -> None:
    """Wait until each rule has been evaluated, none of them with an error."""
    health: dict[str, str] = {}

    async def all_well() -> bool:
        groups = (await prometheus.ask("rules"))["groups"]
        health.update({rule["name"]: rule["health"] for one in groups for rule in one["rules"]})
        return set(health.values()) == {"ok"}

    await until(all_well, lambda: str(health))
    assert len(health) == len(re.findall(r"- (?:alert|record): ", ALERTS.read_text()))
