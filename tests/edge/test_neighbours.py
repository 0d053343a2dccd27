"""Questions between workers, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_proxy.core.place import Place
from mcp_proxy.edge.neighbours import Neighbours
from mcp_proxy.layers.clock import SystemClock, Tasks
from tests.fakes import within


class Bench:
    def __init__(self, room: Path, workers: int = 3) -> None:
        self.tasks = Tasks()
        self.workers = [
            Neighbours(
                Place(index, workers, "n", str(room)),
                SystemClock(),
                self.tasks,
                {"who": self.who(index), "never": self.never, "mistake": self.mistake},
            )
            for index in range(workers)
        ]
        self.may_answer = asyncio.Event()

    def who(self, index: int) -> Any:
        async def answered(said: Any) -> Any:
            return [index, said]

        return answered

    async def never(self, _: Any) -> None:
        await self.may_answer.wait()

    async def mistake(self, _: Any) -> None:
        raise ValueError


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.may_answer.set()
    for one in made.workers:
        await one.aclose()
    await made.tasks.end()


async def test_all_others_answer(bench: Bench) -> None:
    for one in bench.workers:
        await one.listen()
    assert await within(bench.workers[1].ask("who", {"x": 1})) == {
        0: [0, {"x": 1}],
        2: [2, {"x": 1}],
    }


async def test_who_is_not_there_is_left_out(bench: Bench) -> None:
    await bench.workers[2].listen()
    assert await within(bench.workers[0].ask("who")) == {2: [2, None]}


async def test_who_does_not_answer_in_time_is_left_out(bench: Bench) -> None:
    for one in bench.workers:
        await one.listen()
    bench.workers[2]._answers = {"never": bench.workers[2]._answers["who"]}
    assert await within(bench.workers[0].ask("never")) == {2: [2, None]}


async def test_a_mistake_is_no_answer(bench: Bench) -> None:
    for one in bench.workers:
        await one.listen()
    assert await within(bench.workers[0].ask("mistake")) == {}
    assert len(await within(bench.workers[0].ask("who"))) == 2


async def test_who_stands_in_the_place_of_a_dead_one_is_found(bench: Bench) -> None:
    await bench.workers[1].listen()
    path = bench.workers[1]._path(1)
    assert bench.workers[1]._server is not None
    bench.workers[1]._server.close()
    Path(path).touch()  # noqa: ASYNC240 - as a process that was killed leaves it
    await bench.workers[1].listen()
    assert await within(bench.workers[0].ask("who")) == {1: [1, None]}


async def test_a_frame_that_is_too_long_is_not_read(bench: Bench) -> None:
    await bench.workers[1].listen()
    reader, writer = await asyncio.open_unix_connection(bench.workers[1]._path(1))
    writer.write(b"\xff\xff\xff\xff")
    assert await within(reader.read()) == b""
    writer.close()
