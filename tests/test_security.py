"""docs/security.md says what is so: no table without a bound, no claim without a test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge import test_hostile as hostile

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
# What grows when something is put into it.
_GROWS = {
    *("dict", "set", "list", "deque", "OrderedDict", "defaultdict", "Counter", "array"),
    *("Memo", "Sightings", "lru_cache", "Queue", "WeakValueDictionary", "WeakSet"),
}
# Made once, of settings or files, or handed over and gone with its call.
_FIXED = {
    "commands/looking.eras",
    "core/call._endings",
    "demo/server._calls",
    "core/errors.headers",
    "edge/dashboard.files",
    "edge/names._trusted",
    "signals/metrics.verdicts",
    "signals/metrics.cache",
    "signals/metrics.codes",
    "stdio/bridge._running",
    "upstream/health.said",
}


def made(value: ast.expr | None) -> bool:
    """Tell whether an expression makes something that grows."""
    if isinstance(value, ast.Dict | ast.Set | ast.List):
        return not (getattr(value, "keys", None) or getattr(value, "elts", None))
    while isinstance(value, ast.Call):
        name = value.func
        if isinstance(name, ast.Subscript):
            name = name.value
        if isinstance(name, ast.Name) and name.id in _GROWS:
            return not (name.id in {"dict", "set", "list"} and value.args)
        if isinstance(name, ast.Name) and name.id == "field":
            given = [one.value for one in value.keywords if one.arg == "default_factory"]
            return any(isinstance(one, ast.Name) and one.id in _GROWS for one in given) or any(
                isinstance(one, ast.Lambda) and made(one.body) for one in given
            )
        value = name if isinstance(name, ast.Call) else None
    return False


def tables() -> Iterator[str]:
    """Yield each attribute that grows, as room/file.name."""
    for path in sorted((ROOT / "mcp_proxy").glob("*/*.py")):
        where = path.relative_to(ROOT / "mcp_proxy").with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for given in node.decorator_list:
                    name = given.func if isinstance(given, ast.Call) else given
                    if isinstance(name, ast.Name) and name.id in {"cache", "lru_cache"}:
                        yield f"{where}.{node.name}"
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets, value = [node.target], node.value
            else:
                continue
            for target in targets:
                if isinstance(target, ast.Attribute) and made(value):
                    yield f"{where}.{target.attr}"
                elif isinstance(target, ast.Name) and made(value) and isinstance(value, ast.Call):
                    name = value.func
                    fields = isinstance(name, ast.Name) and name.id == "field"
                    cached = isinstance(name, ast.Call)
                    if fields or cached:
                        yield f"{where}.{target.id}"


def test_every_table_of_the_code_has_a_bound_on_the_page() -> None:
    """F46: what is added to the code is added there, with its bound and its test."""
    listed = set(
        re.findall(r"`((?:core|layers|edge|upstream|stores|signals|stdio)/\w+\.\w+)`", PAGE)
    )
    found = set(tables()) - _FIXED
    assert found - listed == set(), "without a bound in docs/security.md"
    assert cases("Growth") == len(listed)
    assert listed - found - _named_otherwise() == set(), "no longer in the code"


def _named_otherwise() -> set[str]:
    """Return what is counted by a number, or lies in a class of somebody else's."""
    return {
        *("edge/serve.open", "edge/serve.refused", "edge/live.watchers", "edge/pool.open_streams"),
        *("edge/connection._beginning", "core/guesses._until", "core/sse._rest"),
    }


@pytest.mark.parametrize("path", sorted(set(re.findall(r"tests/[\w/]+\.py", PAGE))))
def test_every_test_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_test_that_is_named_exists() -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named - known - {"test_bounds"} == set()


def cases(row: str) -> int:
    """Return the number of cases that the page tells of a class of attack."""
    found = re.search(rf"^\| {re.escape(row)}[^|]*\|[^|]*?([\d ]+) \|", PAGE, re.MULTILINE)
    assert found is not None, row
    return int(found[1].replace(" ", ""))


def test_the_numbers_of_cases_are_those_of_the_tests() -> None:
    paths = len(hostile.OURS) + len(hostile.PASSED_ON)
    each = paths * len(hostile.METHODS) + 3
    assert cases("DNS rebinding") == len(hostile.HOSTS) * (each + 1)
    assert cases("Requests of foreign pages") == len(hostile.ORIGINS) * (each + 1)
    assert cases("Forms of other sites") == len(hostile.FORMS) * 3 * 5
    assert cases("Wrong tokens") == len(hostile.GUARDED) * 13
