"""Whatever comes in, what goes on is strict HTTP/1.1, request by request (docs/framing.md)."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.edge.wire import Front, answer, get, post, sidecar
from tests.framing import corpus, hostile
from tests.framing.hostile import Case
from tests.framing.recording import Recording
from tests.framing.trial import RULES, SETTINGS, Seen, Tally, judge_all, verdict

SEED = 20_261_126


class Stage(NamedTuple):
    front: Front
    server: Recording

    async def judged(self, cases: Iterable[Case]) -> Tally:
        tally = await judge_all(self.front, self.server, cases)
        assert tally.wrong == []
        assert tally.ends["flagged"] == tally.ends["5xx"] == tally.ends["hung"] == 0
        assert not [told for told in self.front.told() if "traceback" in told]
        return tally


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    (tmp_path / "rules.toml").write_text(RULES)
    server = Recording()
    await server.start()
    async with sidecar(server.url, MCP_CONFIG_FILE=tmp_path / "rules.toml", **SETTINGS) as front:
        yield Stage(front, server)
    await server.stop()


@pytest.mark.skipif(corpus.path() is None, reason=f"{corpus.VARIABLE} names no file of requests")
async def test_public_collections(stage: Stage) -> None:
    file = corpus.path()
    assert file is not None
    tally = await stage.judged(corpus.cases(file))
    assert tally.ends["forwarded"] > 0


async def test_generated_requests(stage: Stage) -> None:
    tally = await stage.judged(hostile.requests(SEED, 1000))
    assert tally.ends["forwarded"] > 100
    assert tally.ends["refused"] > 500
    express = stage.front.sidecar.inbound.express
    assert express is not None
    assert express.answered > 200  # both ways were walked


async def test_behind_a_head_that_the_express_way_knows(stage: Stage) -> None:
    tally = await stage.judged(hostile.aligned(SEED, 300))
    express = stage.front.sidecar.inbound.express
    assert express is not None
    assert express.answered > 200  # both ways were walked
    assert tally.ends["answered"] > 10


GOOD = answer(b"{}")
LAST = get("/sentinel")
HIDDEN = get("/marker-1")
# What a client sent, what it got, and what came at the server.
PLANTED = {
    "a request out of a body": (post("/x", HIDDEN), GOOD + GOOD, post("/x", b"") + HIDDEN),
    "a field of the connection": (get("/x"), GOOD + GOOD, get("/x", "Keep-Alive: 1") + LAST),
    "more requests than answers": (get("/x"), GOOD, get("/x") + LAST),
    "no length": (post("/x", b""), GOOD, b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no strict HTTP": (get("/x"), GOOD, b"GET /x HTTP/1.1\nHost: a\r\n\r\n"),
    "half an answer": (get("/x"), GOOD + b"HTTP/1.1 200 OK\r\n", get("/x")),
    "a failure": (get("/x"), answer(b"", status="500 Oh"), b""),
    "no answer": (get("/x"), b"", b""),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    """What is never wrong in the tests above could be found wrong."""
    sent, heard, came = PLANTED[fault]
    server = Recording()
    asked = list(server.play(came).framing.requests)
    seen = Seen(heard, asked, waited=fault == "no answer", ended=fault != "no answer")
    assert verdict(Case(fault, (sent,)), seen, server)[1]


def test_no_fault_is_found_where_none_is() -> None:
    server = Recording()
    asked = list(server.play(get("/x") + LAST).framing.requests)
    seen = Seen(GOOD + GOOD, asked, ended=True)
    assert verdict(Case("sound", (get("/x"),)), seen, server) == ("forwarded", [])
