"""Files that grow, are cut, are replaced; pipes."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mcp_proxy.edge.files import File, Pipe, beginning
from tests.fakes import FakeClock, within


class Bench:
    """A file, and who follows it; each look finds what was written before it."""

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        path.write_text(text)
        self.clock = FakeClock()
        self.file = File(path, self.clock)

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def news(self) -> list[str]:
        return list(self.file._news())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "log", "old\n")
    assert list(made.file.past(None)) == ["old"]
    yield made
    made.file.close()


@pytest.mark.parametrize(
    ("text", "last", "lines"),
    [
        ("a\nb\nc\n", None, ["a", "b", "c"]),
        ("a\nb\nc\n", 2, ["b", "c"]),
        ("a\nb\nc\n", 3, ["a", "b", "c"]),
        ("a\nb\nc\n", 9, ["a", "b", "c"]),
        ("a\nb\nc\n", 0, []),
        ("a\nb\nc", 2, ["b"]),
        ("", 2, []),
        ("\n\n\n", 2, ["", ""]),
        ("x" * 200_000 + "\nb\n", 1, ["b"]),
        ("a\n" + "x" * 200_000 + "\n", 1, ["x" * 200_000]),
    ],
)
def test_the_last_lines(tmp_path: Path, text: str, last: int | None, lines: list[str]) -> None:
    file = Bench(tmp_path / "log", text).file
    assert list(file.past(last)) == lines
    file.close()


@pytest.mark.parametrize("last", range(8))
def test_the_last_lines_are_found_across_blocks(tmp_path: Path, last: int) -> None:
    lines = [str(number) * 30_000 for number in range(7)]
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + "\n")
    with path.open("rb") as file:
        file.seek(beginning(file, last))
        assert file.read().decode().splitlines() == (lines[-last:] if last else [])


def test_what_is_written_is_seen_when_its_line_has_ended(bench: Bench) -> None:
    assert bench.news() == []
    bench.write("a\nb")
    assert bench.news() == ["a"]
    bench.write("c\n")
    assert bench.news() == ["bc"]


def test_a_file_that_is_cut_is_read_from_its_beginning(bench: Bench) -> None:
    """`copytruncate` of logrotate."""
    bench.write("half")
    bench.news()
    bench.path.write_text("new\n")
    assert bench.news() == ["new"]


def test_a_file_that_is_replaced_is_read_to_its_end_and_then_the_other(bench: Bench) -> None:
    """As logrotate does it, with a writer that goes on in the old one for a while."""
    bench.write("last of the old\nhalf")
    bench.path.rename(bench.path.with_suffix(".1"))
    assert bench.news() == ["last of the old"]
    with bench.path.with_suffix(".1").open("a") as old:
        old.write(" a line")
    bench.path.write_text("first of the new\n")
    assert bench.news() == ["half a line", "first of the new"]
    bench.write("second\n")
    assert bench.news() == ["second"]


async def test_following_looks_again_and_again(bench: Bench) -> None:
    coming = bench.file.coming()
    bench.write("a\n")
    assert await within(anext(coming)) == "a"

    async def later() -> str:
        return await anext(coming)

    bench.write("b\n")
    assert await bench.clock.run(later()) == "b"


async def test_without_following_the_last_line_needs_no_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\nb")
    file = File(path, FakeClock(), follow=False)
    assert list(file.past(None)) == ["a"]
    assert await listed(file.coming()) == ["b"]
    file.close()


async def listed(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_a_pipe_is_read_to_its_end() -> None:
    read, write = os.pipe()
    os.write(write, b"a\nb\nhalf")
    os.close(write)
    pipe = Pipe(read)
    assert list(pipe.past(5)) == []
    assert await listed(pipe.coming()) == ["a", "b", "half"]
    os.close(read)
