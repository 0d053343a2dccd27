"""A client of the live stream: ids, reconnects, refusals."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcp_proxy.edge.follow import Live, NoEventsError, events_of
from tests.edge.wire import Said, answer, chunk, read_head, streamed, unused_port
from tests.fakes import FakeClock, within


def event(number: int, text: str = '{"event":"a"}') -> bytes:
    return chunk(f"id: run-{number}\nevent: a\ndata: {text}\n\n".encode())


class Bench:
    """A stream that the test plays, and who follows it."""

    def __init__(self, token: str | None = "t0ken") -> None:
        self._token = token
        self.asked: list[Said] = []
        self.clock = FakeClock()
        self.told: list[str] = []
        self._answers: list[bytes] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        url = f"http://localhost:{self._server.sockets[0].getsockname()[1]}"
        query = {"replay": "5", "level": "warning"}
        live = Live(url, query, self._token, self.clock, self.told.append)
        self.coming = live.coming()

    async def stop(self) -> None:
        await self.coming.aclose()  # type: ignore[attr-defined]
        self._server.close()
        await self._server.wait_closed()

    def plays(self, *answers: bytes) -> None:
        self._answers = list(answers)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await read_head(reader))
        writer.write(self._answers.pop(0))
        writer.close()
        await writer.wait_closed()

    async def take(self) -> str:
        async def one() -> str:
            return await anext(self.coming)

        task = asyncio.ensure_future(one())  # noqa: TID251 - its end is waited for below
        async with asyncio.timeout(5):  # noqa: TID251
            while not task.done():
                await asyncio.sleep(0.001)  # noqa: TID251 - a real socket is under it
                await self.clock.advance(1)
        return task.result()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.start()
    yield made
    await made.stop()


async def test_events_come_as_they_were_told(bench: Bench) -> None:
    bench.plays(streamed() + chunk(b"retry: 1000\n: hello\n\n") + event(1) + event(2, "no JSON"))
    assert await within(anext(bench.coming)) == '{"event":"a"}'
    assert await within(anext(bench.coming)) == "no JSON"
    (asked,) = bench.asked
    assert asked.target == "/api/events?replay=5&level=warning"
    assert asked["Authorization"] == "Bearer t0ken"
    assert "Last-Event-ID" not in asked


async def test_a_stream_that_breaks_off_is_taken_up_where_it_was(bench: Bench) -> None:
    """WHATWG HTML, 9.2: Last-Event-ID."""
    bench.plays(
        streamed() + event(7),
        answer(status="503 Draining"),
        answer(status="502 Bad Gateway"),
        streamed() + event(8),
    )
    await within(anext(bench.coming))
    await bench.take()
    assert len(bench.asked) == 4
    assert [asked["Last-Event-ID"] for asked in bench.asked[1:]] == ["run-7"] * 3
    assert len(bench.told) == 3
    assert all(text.endswith("; trying again") for text in bench.told)
    # ever longer pauses
    assert bench.clock.slept == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (answer(b"", "WWW-Authenticate: Bearer", status="401 No"), "MCP_ADMIN_TOKEN"),
        (answer(b'{"detail":"Too many\\u001b watch"}', status="503 No"), r"503 \(Too many\\x1b watch\)"),
        (answer(b"[1]", status="404 No"), "404; is that"),
        (answer(b"<html>", status="404 No"), "404; is that"),
        (answer(b"{}"), "200; is that"),
        (answer(b"", "Location: http://localhost:1/", status="302 No"), "302; is that"),
        (b"no HTTP\r\n\r\n", "cannot reach"),
    ],
)  # fmt: skip
async def test_what_cannot_work_ends_with_a_remedy(bench: Bench, said: bytes, remedy: str) -> None:
    bench.plays(said)
    with pytest.raises(NoEventsError, match=remedy):
        await within(anext(bench.coming))


async def test_a_token_that_is_taken_back_ends_it(bench: Bench) -> None:
    bench.plays(streamed() + event(1), answer(b"", "WWW-Authenticate: Bearer", status="401 No"))
    await within(anext(bench.coming))
    with pytest.raises(NoEventsError, match="MCP_ADMIN_TOKEN"):
        await bench.take()


async def test_nobody_there_is_told_with_what_to_do() -> None:
    live = Live(f"http://localhost:{unused_port()}", {}, None, FakeClock(), print)
    with pytest.raises(NoEventsError, match="start `mcp-sidecar run`"):
        await within(anext(live.coming()))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://h:8000", "http://h:8000/api/events?replay=1"),
        ("https://h/", "https://h/api/events?replay=1"),
        ("http://h/behind/api/events?x=1", "http://h/behind/api/events?x=1&replay=1"),
    ],
)
def test_a_url_means_its_events(url: str, found: str) -> None:
    assert str(events_of(url, {"replay": "1"})) == found


@pytest.mark.parametrize("url", ["http://", "ftp://h/", "http://u:p@h/", "http://u@h/"])
def test_what_is_no_url_of_events(url: str) -> None:
    with pytest.raises(ValueError, match="a URL"):
        events_of(url, {})
