"""What is shipped: locked by hashes, under known licences, with a bill, and without a shell."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# what an image may hold (LOCK of the Dockerfile)
SHIPPED = [ROOT / "requirements" / f"{name}.txt" for name in ("runtime", "runtime-otel")]
IMAGES = [ROOT / "Dockerfile", ROOT / "examples" / "basic_server" / "Dockerfile"]
LICENCES = runpy.run_path(str(ROOT / "scripts" / "licences"))
_PINNED = re.compile(r"[\w.-]+==[\w.+!-]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+")


def requirements(lock: Path) -> list[str]:
    """Return the requirements of a lock, each in one line."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip()]


# --- locks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_each_requirement_is_pinned_by_hashes(lock: Path) -> None:
    """And nothing else stands there: no option, no address, no path."""
    found = requirements(lock)
    assert found
    assert [line for line in found if not _PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_where_packages_come_from(lock: Path) -> None:
    """That is a matter of the machine that installs them."""
    assert re.findall(r"://|--(?:extra-)?index|--find-links|--trusted-host", lock.read_text()) == []


@pytest.mark.parametrize(
    "line", ["a==1", "a>=1 --hash=sha256:" + "0" * 64, "--index-url x", "a @ file:///x", "-e ."]
)
def test_what_is_no_pin_is_found(line: str) -> None:
    assert not _PINNED.fullmatch(line)


@pytest.mark.parametrize("lock", SHIPPED, ids=lambda lock: lock.name)
def test_what_is_shipped_is_a_part_of_what_is_tested(lock: Path) -> None:
    """The same versions: else the tests would be of something else."""
    runtime = set(requirements(lock))
    dev = {line.split(" ")[0] for line in requirements(ROOT / "requirements" / "dev.txt")}
    assert {line.split(" ")[0] for line in runtime} <= dev


def test_an_image_can_have_what_traces_need() -> None:
    """`LOCK` of the Dockerfile: the default, and what the extra `otel` asks for."""
    plain, traces = (set(LICENCES["locked"](lock)) for lock in SHIPPED)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^\w-]", one)[0] for one in extras["optional-dependencies"]["otel"]}
    assert wanted
    assert plain | wanted <= traces
    assert not wanted & plain
    ignored = (ROOT / ".dockerignore").read_text()
    assert all(f"!requirements/{lock.name}\n" in ignored for lock in SHIPPED)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.parent.name)
def test_images_install_what_is_locked_and_nothing_else(image: Path) -> None:
    installs = [line for line in steps(image) if re.search(r"pip .*install", line)]
    assert installs
    for line in installs:
        for command in re.findall(r"pip [^&]*install[^&]*", line):
            assert "--no-deps" in command
            assert "--require-hashes" in command or "--no-index" in command


# --- licences


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR AGPL-3.0-only)", False),
        ("(MIT OR GPL-3.0-only) AND (ISC)", True),
        ("UNKNOWN", False),
        ("", False),
        ("Y", False),
    ],
)
def test_expressions_of_licences_are_read(expression: str, *, passes: bool) -> None:
    assert LICENCES["passes"](expression) is passes


@pytest.mark.parametrize("lock", SHIPPED, ids=lambda lock: lock.name)
def test_all_that_is_shipped_may_be(lock: Path) -> None:
    names = LICENCES["locked"](lock)
    assert len(names) == len(requirements(lock))
    found = {name: LICENCES["licence"](name) for name in names}
    assert [name for name, said in found.items() if said is None] == []
    assert {name: said for name, said in found.items() if not LICENCES["passes"](said)} == {}


# --- known holes


def test_a_known_hole_is_red_and_no_network_is_not() -> None:
    told = runpy.run_path(str(ROOT / "scripts" / "audit"))["told"]
    clean = {"name": "a", "version": "1", "vulns": []}
    hole = {"id": "PYSEC-1", "fix_versions": ["2"]}
    assert told({"dependencies": [clean]}) == 0
    assert told({"dependencies": [clean, {**clean, "vulns": [hole]}]}) == 1


def test_being_offline_is_a_reason_and_no_fault() -> None:
    """Whatever keeps it from asking: here, an address at which nobody listens as proxy."""
    nowhere = "http://127.0.0.1:9"
    ran = subprocess.run(
        [sys.executable, "scripts/audit"],
        cwd=ROOT,
        env={"PATH": "", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith("audit: skipped: ")


# --- the bill of materials


@pytest.fixture(scope="module")
def bill() -> Any:
    pytest.importorskip("cyclonedx", reason="make setup installs cyclonedx-python-lib")
    return runpy.run_path(str(ROOT / "scripts" / "sbom"))["bill"]


def test_the_bill_fits_its_published_schema(bill: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for stamped in (False, True):
        assert validator.validate_str(json.dumps(bill(stamped=stamped))) is None
    broken = {**bill(), "bomFormat": "x"}
    assert validator.validate_str(json.dumps(broken)) is not None


def test_the_bill_lists_what_is_locked(bill: Any) -> None:
    """Each package with its version, hashes and licence, and who asks for it."""
    found = bill()
    names = LICENCES["locked"](ROOT / "requirements" / "runtime.txt")
    assert {one["name"]: one["version"] for one in found["components"]} == names
    assert all(one["hashes"] and one["licenses"] for one in found["components"])
    asked = {one["ref"]: one.get("dependsOn", []) for one in found["dependencies"]}
    (ours,) = [ref for ref in asked if ref.startswith("pkg:pypi/mcp-sidecar@")]
    assert {ref.split("/")[-1].split("@")[0] for ref in asked[ours]} >= {
        *("aiohttp", "aiohttp-retry", "aiocache", "pybreaker", "structlog", "click"),
    }
    reached, left = set(), [ours]
    while left:
        ref = left.pop()
        if ref not in reached:
            reached.add(ref)
            left += asked[ref]
    assert {one["bom-ref"] for one in found["components"]} == reached - {ours}


def test_the_same_lock_gives_the_same_bill(bill: Any) -> None:
    assert json.dumps(bill()) == json.dumps(bill())
    assert "serialNumber" not in bill()
    assert "timestamp" not in json.dumps(bill())
    assert bill(stamped=True)["serialNumber"] != bill(stamped=True)["serialNumber"]


# --- images


def steps(image: Path) -> list[str]:
    """Return the instructions of a Dockerfile, each in one line."""
    text = re.sub(r"^#.*\n", "", image.read_text(), flags=re.MULTILINE)
    return [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line.strip()]


def shipped(image: Path) -> list[str]:
    """Return the instructions of the last stage: those of what is shipped."""
    lines = steps(image)
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def programs(image: Path) -> list[tuple[str, str]]:
    found = [
        re.fullmatch(r"(?:HEALTHCHECK.*? )?(CMD|ENTRYPOINT) (.*)", line) for line in steps(image)
    ]
    return [(one[1], one[2]) for one in found if one is not None]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.parent.name)
def test_nothing_of_an_image_needs_a_shell(image: Path) -> None:
    """Lists of words, not lines for a shell; and none of the words is one."""
    found = programs(image)
    assert {kind for kind, _ in found} >= {"CMD", "ENTRYPOINT"}
    for _, line in found:
        words = ast.literal_eval(line)
        assert isinstance(words, list)
        assert not re.search(r"(^|/)(ba|da|a|z)?sh$", words[0])
        assert "-c" not in words or words[0] == "python"
    assert not [line for line in shipped(image) if line.startswith("SHELL")]


def test_what_is_shipped_is_put_together_elsewhere() -> None:
    """The last stage runs nothing, so it may be an image without a shell; and it is nobody's root."""
    lines = shipped(ROOT / "Dockerfile")
    assert not [line for line in lines if line.startswith(("RUN", "ADD"))]
    (user,) = [line for line in lines if line.startswith("USER")]
    assert re.fullmatch(r"USER [1-9]\d+:[1-9]\d+", user)
    copied = [line for line in lines if line.startswith("COPY")]
    assert all(re.match(r"COPY --from=(build|dependencies) /", line) for line in copied)


def test_containers_have_a_root_that_cannot_be_written_and_no_privileges() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    hardened, services = text.partition("\nvolumes:\n")[0].split("\nservices:\n")
    for line in (
        "read_only: true",
        "cap_drop: [ALL]",
        'security_opt: ["no-new-privileges:true"]',
    ):
        assert line in hardened
    each = re.split(r"^  (?=[\w-]+:$)", services, flags=re.MULTILINE)[1:]
    assert [one.partition(":")[0] for one in each] == [
        *("basic-server", "mcp-proxy", "redis", "prometheus", "grafana"),
    ]
    for one in each:
        assert "\n    <<: *hardened\n" in one
        assert not re.search(
            r"^    (privileged|cap_add|cap_drop|volumes: (?!\[\"prometheus-data:)|network_mode|pid|read_only)",
            one,
            re.MULTILINE,
        )
    assert re.findall(r"ports: (.*)", text) == [
        '["${MCP_PUBLISHED_ADDRESS:-127.0.0.1}:${MCP_PUBLISHED_PORT:-8000}:8000"]',
        '["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]',
        '["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]',
    ]
