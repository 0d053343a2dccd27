"""The dashboard's files and /api/config over HTTP; tests/browser has the page itself."""

import gzip
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mcp_proxy.edge import dashboard
from tests.edge.conftest import Opened
from tests.edge.wire import Upstream, answer, get, request

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "mcp_proxy" / "edge" / "dashboard"
PATHS = sorted(dashboard.files())
CANARY = "canary-7f3a"


# --- the files


async def test_the_page_is_sent_with_a_strict_policy(front: Opened, upstream: Upstream) -> None:
    heard = await (await front()).ask(get("/dashboard"))
    assert heard.status == 200
    assert heard["Content-Type"] == "text/html; charset=utf-8"
    assert heard["X-Content-Type-Options"] == "nosniff"
    assert heard["Referrer-Policy"] == "no-referrer"
    assert heard["Cache-Control"] == "no-cache"
    policy = dict(
        part.strip().split(" ", 1) for part in heard["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert b"<script>" not in heard.body
    assert b"style=" not in heard.body
    assert upstream.asked == []


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_has_its_type_and_a_tag(front: Opened, path: str) -> None:
    kinds = {"": "text/html", ".js": "text/javascript", ".css": "text/css"}
    sidecar = await front()
    heard = await sidecar.ask(get(path))
    assert heard["Content-Type"] == f"{kinds[Path(path).suffix]}; charset=utf-8"
    head = await sidecar.ask(request("HEAD", path))
    assert (head.status, head.body) == (200, b"")
    assert head["Content-Length"] == str(len(heard.body))
    again = await sidecar.ask(get(path, f"If-None-Match: {heard['ETag']}"))
    assert (again.status, again.body, again["ETag"]) == (304, b"", heard["ETag"])
    packed = await sidecar.ask(get(path, "Accept-Encoding: br, gzip;q=0.5"))
    assert packed["Content-Encoding"] == "gzip"
    assert packed["ETag"] != heard["ETag"]
    assert packed["Vary"] == heard["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == heard.body


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "gzip; q=0.0", "br"])
async def test_who_does_not_take_gzip_gets_none(front: Opened, accepted: str) -> None:
    heard = await (await front()).ask(get("/dashboard", f"Accept-Encoding: {accepted}"))
    assert "Content-Encoding" not in heard


async def test_a_file_changes_nothing_and_takes_get_alone(front: Opened) -> None:
    heard = await (await front()).ask(request("POST", "/dashboard", body=b""))
    assert (heard.status, heard["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "path",
    [
        *("/dashboard/x", "/dashboard/index.html", "/dashboard/../own.py", "/dashboard/vendor"),
        *("/dashboard/%2e%2e/own.py", "/dashboard/vendor/uPlot.LICENSE", "/dashboard//app.js"),
    ],
)
async def test_what_is_no_file_of_ours_is_the_servers(
    front: Opened, upstream: Upstream, path: str
) -> None:
    """No path is made of a request's; the old server may have a page of that name."""
    upstream.plays(answer(status="404 Not Found"))
    heard = await (await front()).ask(get(path))
    assert heard.status == 404
    assert upstream.asked[0].target == path


async def test_a_slash_at_the_end_leads_to_the_page(front: Opened) -> None:
    heard = await (await front()).ask(get("/dashboard/"))
    assert (heard.status, heard["Location"]) == (308, "../dashboard")


async def test_host_and_origin_are_checked_as_elsewhere(front: Opened) -> None:
    sidecar = await front()
    heard = await sidecar.ask(get("/dashboard", "Host: evil.example"))
    assert heard.status == 421
    heard = await sidecar.ask(get("/dashboard", "Origin: https://evil.example"))
    assert heard.status == 403


async def test_the_shell_stands_open_where_a_token_is_set(front: Opened) -> None:
    """DESIGN section 6: the page asks for the token."""
    sidecar = await front(MCP_ADMIN_TOKEN="s3cret")
    for path in PATHS:
        assert (await sidecar.ask(get(path))).status == 200


def test_what_is_vendored_is_as_it_was_published() -> None:
    """Its licence lies beside it."""
    vendor = FOLDER / "vendor"
    sums = dict(line.split("  ")[::-1] for line in (vendor / "SHA256SUMS").read_text().splitlines())
    assert "uPlot.LICENSE" in sums
    for name, wanted in sums.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == wanted, name
    assert dashboard.files()["/dashboard/vendor/uPlot.iife.min.js"].plain.startswith(b"/*!")


def test_the_page_is_small() -> None:
    files = dashboard.files().values()
    assert sum(len(one.plain) for one in files) < 100_000
    assert sum(len(one.packed) for one in files) < 50_000


def test_scripts_know_no_markup_and_no_text_over_lines() -> None:
    """Names reach the DOM as text; and what is left out for browsers is never part of a text."""
    for path in FOLDER.glob("*.js"):
        source = path.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )
        for line in source.splitlines():
            assert line.count("`") % 2 == 0, f"{path.name}: {line}"


def test_the_wheel_holds_the_files(tmp_path: Path) -> None:
    """And so does the image, which is built of the wheel (Dockerfile)."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert len(wanted) > 15
    assert wanted <= held
    # `mcp-sidecar demo` brings its own server
    assert {"mcp_proxy/demo/__main__.py", "mcp_proxy/demo/server.py"} <= held


# --- the settings in force


async def test_each_setting_is_told_with_its_origin(front: Opened, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[breaker]\nwindow = 7\n[tools."look*"]\nread_only = true\n')
    heard = await (await front(MCP_CONFIG_FILE=str(file), MCP_CACHE_TTL="9")).ask(
        get("/api/config")
    )
    assert (heard.status, heard["Cache-Control"]) == (200, "no-store")
    rows = {row["variable"]: row for row in heard.json["settings"]}
    assert rows["MCP_CACHE_TTL"] == {
        "variable": "MCP_CACHE_TTL",
        "key": "cache.ttl",
        "value": 9.0,
        "default": 300.0,
        "origin": "environment",
        "text": "seconds; 0 leaves only what servers and rules say",
    }
    assert rows["MCP_CB_WINDOW"]["origin"] == f"file {file}"
    assert rows["MCP_MAX_RETRIES"]["origin"] == "default"
    assert heard.json["tools"] == {"look*": {"read_only": True}}


async def test_the_settings_are_behind_the_token(front: Opened) -> None:
    sidecar = await front(MCP_ADMIN_TOKEN="s3cret")
    assert (await sidecar.ask(get("/api/config"))).status == 401
    heard = await sidecar.ask(get("/api/config", "Authorization: Bearer s3cret"))
    assert heard.status == 200


async def test_no_secret_is_told(front: Opened) -> None:
    """Not the token, and no password of a URL, wherever it stands."""
    sidecar = await front(
        MCP_ADMIN_TOKEN=CANARY,
        MCP_UPSTREAM_URL=f"http://u-{CANARY}:p-{CANARY}@localhost:9/x,http://localhost:10",
        REDIS_URL=f"redis://:{CANARY}@localhost:1/0?password={CANARY}",
        MCP_PUBLIC_URL=f"https://{CANARY}@mcp.example.com",
    )
    heard = await sidecar.ask(get("/api/config", f"Authorization: Bearer {CANARY}"))
    assert heard.status == 200
    assert CANARY.encode() not in heard.body
    rows = {row["variable"]: row["value"] for row in heard.json["settings"]}
    assert rows["MCP_ADMIN_TOKEN"] == "***"
    assert rows["MCP_UPSTREAM_URL"] == ["http://***@localhost:9/x", "http://localhost:10"]
    assert rows["REDIS_URL"] == "redis://***@localhost:1/0?***"
    assert rows["MCP_PUBLIC_URL"] == "https://***@mcp.example.com"
