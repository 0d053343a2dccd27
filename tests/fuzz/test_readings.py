"""Our reading of JSON against Python's, Node's and a strict parser's: what they read apart is opaque.

F16. A body that two of them read differently, or that one of them refuses, may mean one thing to us
and another to the server: it is passed on, never kept and never repeated.
"""

import base64
import json
import random
import shutil
import struct
import subprocess
from contextlib import suppress
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Whole
from mcp_proxy.core.intent import Decisions, Intent, Policy
from mcp_proxy.core.reading import AmbiguousError, read_json
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.core.traffic import Paths, Traffic
from tests.fuzz import seeds

# Prints for each line of base64 what JSON.parse makes of its bytes, decoded as servers do; each number
# as the bits of its double, each text as its code units, so that nothing is lost on the way.
NODE = r"""
const decoder = new TextDecoder("utf-8");
const units = (s) => "s" + [...Array(s.length).keys()].map((i) => s.charCodeAt(i).toString(16).padStart(4, "0")).join("");
const bits = (n) => { const b = Buffer.alloc(8); b.writeDoubleBE(n); return "n" + b.toString("hex"); };
const spell = (v) => {
  if (v === null || typeof v === "boolean") return v;
  if (typeof v === "number") return bits(v);
  if (typeof v === "string") return units(v);
  if (Array.isArray(v)) return v.map(spell);
  return Object.fromEntries(Object.keys(v).map((k) => [units(k), spell(v[k])]));
};
const lines = require("fs").readFileSync(0, "latin1").split("\n");
for (const line of lines.slice(0, -1)) {
  let said = "refused";
  try { said = JSON.stringify([spell(JSON.parse(decoder.decode(Buffer.from(line, "base64"))))]); } catch {}
  console.log(said);
}
"""
REFUSED = object()


def spelled(value: Any) -> Any:
    """Return a reading as the script above does."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "s" + value.encode("utf-16-be", "surrogatepass").hex()
    if isinstance(value, list):
        return [spelled(one) for one in value]
    if isinstance(value, dict):
        return {spelled(key): spelled(one) for key, one in value.items()}
    return "n" + struct.pack(">d", float(value)).hex()


def read_by(parser: Any, data: bytes) -> Any:
    try:
        return spelled(parser(data))
    except (ValueError, RecursionError, OverflowError):
        return REFUSED


def changed(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(body) + 1)
        put = rng.choice(
            [
                b'"',
                b"\\",
                b"u0",
                b"e9",
                b"-",
                b".",
                b"0",
                b",",
                b"[",
                b"]",
                b"{",
                b"}",
                b" ",
                b"\xc3",
                b"\x00",
                b"",
            ]
        )
        body = body[:at] + put + body[at + rng.randrange(2) :]
    return body


SCALARS = [value for value in seeds.MINEFIELD if len(value) < 40 and value[:1] not in b"[{ "]
SOUND = [b"1", b"-2.5", b"1e5", b'"a"', b'"\\u00e9"', b"null", b"true", b"[]", b"{}", b'"\\\\"']
KEYS = [b"a", b"b", b"\\u0061", b"", b"id", b"A", b"__proto__", b"1", b"0", b"01", b"\\u00df"]


def composed(rng: random.Random, depth: int = 0) -> bytes:
    """Return JSON that is sound but for a value here and there."""
    if depth > 3 or rng.random() < 0.4:
        return rng.choice(SOUND if rng.random() < 0.85 else SCALARS)
    parts = [composed(rng, depth + 1) for _ in range(rng.randrange(4))]
    if rng.random() < 0.4:
        return b"[" + b",".join(parts) + b"]"
    return b"{" + b",".join(b'"' + rng.choice(KEYS) + b'":' + part for part in parts) + b"}"


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    rng = random.Random(20_261_126)
    known = seeds.bodies()
    short = [body for body in known if len(body) < 500]
    return [
        *known,
        *(changed(rng, rng.choice(short)) for _ in range(2000)),
        *(rng.choice(seeds.AROUND).replace(b"%b", composed(rng)) for _ in range(4000)),
    ]


@pytest.fixture(scope="module")
def by_node(bodies: list[bytes]) -> list[Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    asked = b"".join(base64.b64encode(body) + b"\n" for body in bodies)
    run = subprocess.run(
        [node, "-e", NODE], input=asked, capture_output=True, check=True, timeout=60
    )
    said = run.stdout.decode().splitlines()
    assert len(said) == len(bodies)
    return [REFUSED if one == "refused" else _loaded(one) for one in said]


def _loaded(said: str) -> Any:
    with suppress(RecursionError):
        return json.loads(said)[0]
    return None  # deeper than Python reads; equal to nothing that it read


def intents(body: bytes) -> list[Intent]:
    """Return what a call with this body may do, on both ways that are read."""
    rules = Rules((Rule("look", read_only=True), Rule("save", read_only=True)))
    traffic = Traffic(Paths(), Decisions(Policy(rules=rules)), lambda *_: None)
    headers = CIMultiDict({"Content-Type": "application/json"})
    return [
        traffic.understood("POST", path, headers, Whole(body)).intent
        for path in ("/mcp", "/api/call-tool")
    ]


def test_what_parsers_read_apart_is_opaque(bodies: list[bytes], by_node: list[Any]) -> None:
    apart, kept = 0, 0
    for body, node in zip(bodies, by_node, strict=True):
        readings = [read_by(json.loads, body), read_by(orjson.loads, body), node]
        agreed = REFUSED not in readings and readings[0] == readings[1] == readings[2]
        ours = read_by(read_json, body)
        if ours is not REFUSED:
            assert agreed, body
            assert ours == readings[0], body
        may = intents(body)
        if not agreed:
            apart += any(one is not REFUSED for one in readings)
            assert not any(intent.repeatable or intent.keep for intent in may), body
        kept += any(intent.keep is not None for intent in may)
    # or nothing would have been shown
    assert apart > 250
    assert kept > 500


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b"-0", b"1e400", b"9007199254740993"])
def test_what_they_agree_on_can_be_ambiguous_all_the_same(body: bytes) -> None:
    """Go, Java or a database behind the server may read these otherwise."""
    with pytest.raises(AmbiguousError):
        read_json(body)
