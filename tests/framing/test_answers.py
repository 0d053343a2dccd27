"""Whatever a server answers, a client gets strict HTTP, and nobody gets what another was told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edge.wire import Front, sidecar
from tests.framing.liar import Liar
from tests.framing.lies import GOOD, Lie, lies
from tests.framing.listening import PATIENCE, RULES, Heard, judge_lies, judged

SEED = 20_261_126


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Front, Liar]]:
    (tmp_path / "rules.toml").write_text(RULES)
    server = Liar()
    await server.start()
    async with sidecar(server.url, MCP_CONFIG_FILE=tmp_path / "rules.toml", **PATIENCE) as front:
        yield front, server
    await server.stop()


async def test_generated_answers(stage: tuple[Front, Liar]) -> None:
    front, server = stage
    tally = await judge_lies(front, server, lies(SEED, 120))
    assert tally.wrong == []
    assert tally.ends["forwarded"] > 10
    assert tally.ends["refused"] > 50
    assert not [told for told in front.told() if "traceback" in told]


SOUND = Heard(200, ((b"content-length", b"2"),), b"{}", whole=True)
PLANTED = {
    "no end": (Heard(200, hung=True), "hung"),
    "no answer": (Heard(), "flagged"),
    "no HTTP": (Heard(200, wrong="bad chunk"), "flagged"),
    "a field of the connection": (SOUND._replace(headers=((b"X-Hop", b"1"),)), "flagged"),
    "a failure without structure": (SOUND._replace(status=502, body=b"Oh"), "5xx"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    heard, expected = PLANTED[fault]
    end, wrong = judged(Lie("planted", (GOOD,)), heard)
    assert (end, bool(wrong)) == (expected, True)


def test_no_fault_is_found_where_none_is() -> None:
    assert judged(Lie("sound", (GOOD,)), SOUND) == ("forwarded", [])
